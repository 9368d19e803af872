"""Exported detectors of single frames: equal to ours, checked, and refused where they differ."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from bevstack.config import Config  # noqa: E402
from bevstack.export.onnx.arrays import camera_arrays, detections_from_arrays  # noqa: E402
from bevstack.export.onnx.check import Case, check, far_rig  # noqa: E402
from bevstack.export.onnx.detector import (  # noqa: E402
    ExportOptions,
    check_exportable,
    export_detector,
    reference_session,
    verify,
)
from bevstack.export.onnx.errors import FailedCheckError  # noqa: E402
from bevstack.export.onnx.graph_info import check_opset, read_graph_info  # noqa: E402
from bevstack.export.runtimes import (  # noqa: E402
    ONNXRUNTIME,
    OPENVINO,
    TENSORRT,
    TorchSession,
    check_backend,
    installed_backends,
    open_session,
)
from bevstack.models.bevformer import BEVFormerV2  # noqa: E402
from bevstack.models.detection3d.box_code import detections_from  # noqa: E402
from tests.export.onnx.small_detectors import (  # noqa: E402
    CAMERAS,
    build,
    cases_of,
    frame,
    single_frame_config,
    streaming_config,
)
from tests.small_world import build_once  # noqa: E402

CONFIG = single_frame_config()


def export(path: Path, config: Config, *, stream: bool = False, batch: int = 1) -> None:
    options = ExportOptions(stream=stream, cameras=CAMERAS, batch=batch)
    cases = cases_of(config, batch)
    export_detector(path, build(config), config, weights="digest", cases=cases, options=options)


@pytest.fixture(scope="module")
def model() -> BEVFormerV2:
    return build(CONFIG)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of two samples at once, which the workers of one run share."""
    folder = build_once(
        tmp_path_factory, "onnx_pair", lambda place: export(place / "m.onnx", CONFIG, batch=2)
    )
    return folder / "m.onnx"


def reference(model: BEVFormerV2, exported: Path) -> TorchSession:
    info = open_session(exported).info
    return reference_session(model, info, frame(CONFIG, batch=2))


def test_the_check_of_the_export_is_written_and_passed(exported: Path) -> None:
    report = json.loads(exported.with_name("m.onnx.check.json").read_text("utf-8"))
    assert report["passed"] is True
    backends = [each["backend"].split()[0] for each in report["reports"]]
    assert backends == installed_backends()
    assert "onnxruntime" in backends
    for each in report["reports"]:
        assert [case["name"] for case in each["cases"]][-1] == "far rig"
        assert all(case["boxes"] > 20 and not case["unmatched"] for case in each["cases"])
    assert sorted(path.name for path in exported.parent.iterdir() if "m.onnx" in path.name) == [
        "m.onnx",
        "m.onnx.check.json",
    ]


def test_a_file_serves_rigs_and_frames_that_it_never_saw(
    model: BEVFormerV2, exported: Path
) -> None:
    cases = [
        Case(f"seed {seed}", make(frame(CONFIG, seed=seed, batch=2)))
        for seed, make in ((11, lambda batch: batch), (12, far_rig))
    ]
    report = check(open_session(exported, threads=1), reference(model, exported), cases)
    assert report.faults == []


def test_the_reference_returns_the_boxes_of_the_detector(
    model: BEVFormerV2, exported: Path
) -> None:
    batch = frame(CONFIG, seed=4, batch=2)
    session = reference(model, exported)
    found = detections_from_arrays(
        session.run(camera_arrays(batch, session.info)), CONFIG.class_names
    )
    decoder = CONFIG.decoder
    with torch.no_grad():
        wanted = detections_from(
            model(batch).decoder,
            max_detections=decoder.max_detections,
            post_range_m=decoder.post_range_m,
            nms_iou=decoder.nms_iou,
        )
    for got, ours in zip(found, wanted, strict=True):
        assert torch.equal(got.labels, ours.labels)
        torch.testing.assert_close(got.scores, ours.scores, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(got.boxes.center, ours.boxes.center, rtol=1e-4, atol=1e-3)


def test_a_changed_weight_fails_the_check(
    model: BEVFormerV2, exported: Path, tmp_path: Path
) -> None:
    graph = onnx.load(exported)
    weights = {i.name: i for i in graph.graph.initializer if "class_branches" in i.name}
    classes = len(CONFIG.class_names)
    name = max(n for n in weights if list(weights[n].dims) == [classes])  # of the last layer
    values = onnx.numpy_helper.to_array(weights[name]).copy()
    values[0] += 0.01
    weights[name].CopyFrom(onnx.numpy_helper.from_array(values, name))
    changed = tmp_path / "changed.onnx"
    onnx.save(graph, changed)
    cases = cases_of(CONFIG, 2)
    with pytest.raises(FailedCheckError, match="boxes have no equal among the other's"):
        verify([open_session(changed)], reference(model, exported), cases, changed)
    report = json.loads(changed.with_name("changed.onnx.check.json").read_text("utf-8"))
    assert report["passed"] is False


def test_a_file_that_fails_its_check_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: Path
) -> None:
    from bevstack.export.onnx import detector

    def write_another(path: Path, *_: object, **options: object) -> None:
        path.write_bytes(exported.read_bytes())

    monkeypatch.setattr(detector, "write_onnx", write_another)
    torch.manual_seed(5)
    other = build(replace(CONFIG, encoder=replace(CONFIG.encoder, num_layers=1)))
    with pytest.raises(FailedCheckError):
        export_detector(
            tmp_path / "bad.onnx",
            other,
            CONFIG,
            weights="digest",
            cases=cases_of(CONFIG, 2),
            options=ExportOptions(cameras=CAMERAS, batch=2),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx.check.json"]


def test_the_file_holds_standard_operators_of_opset_20_alone(exported: Path) -> None:
    graph = onnx.load(exported)
    onnx.checker.check_model(graph)
    assert [(o.domain, o.version) for o in graph.opset_import if o.domain == ""] == [("", 20)]
    assert {node.domain for node in graph.graph.node} == {""}
    assert not graph.functions


def test_metadata_hold_what_a_reader_needs(exported: Path) -> None:
    metadata = {p.key: p.value for p in onnx.load(exported).metadata_props}
    assert json.loads(metadata["bevstack.class_names"]) == list(CONFIG.class_names)
    assert json.loads(metadata["bevstack.image_size"]) == list(CONFIG.images.size)
    assert json.loads(metadata["bevstack.normalisation"])["mean"] == list(CONFIG.images.mean)
    info = read_graph_info(metadata, "m.onnx")
    assert (info.config, info.weights, info.batch, info.stream) == (CONFIG, "digest", 2, False)
    assert info.bounds.pairs > 0
    changed = {**metadata, "bevstack.config_sha256": "0"}
    with pytest.raises(ValueError, match="the metadata was changed"):
        read_graph_info(changed, "m.onnx")
    with pytest.raises(ValueError, match="model must be a detector of `bevstack export --onnx`"):
        read_graph_info({}, "m.onnx")


def test_batches_that_do_not_fit_are_refused(exported: Path) -> None:
    info = open_session(exported).info
    with pytest.raises(ValueError, match="batch must hold 2 samples of one frame"):
        camera_arrays(frame(CONFIG, batch=1), info)
    with pytest.raises(ValueError, match=r"at most 2 cameras of 64x96 pixels.*got 3 of 64x96"):
        camera_arrays(frame(CONFIG, batch=2), replace(info, cameras=2))


@pytest.mark.parametrize("backend", ["torch", "other"])
def test_backends_that_run_no_files_are_refused(backend: str, exported: Path) -> None:
    with pytest.raises(ValueError, match=f"must be one of onnxruntime, openvino.*got '{backend}'"):
        open_session(exported, backend)


def test_a_backend_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bevstack.export.runtimes.find_spec", lambda name: None)
    for backend, extra in ((ONNXRUNTIME, "export"), (OPENVINO, "openvino"), (TENSORRT, "tensorrt")):
        with pytest.raises(ModuleNotFoundError, match=rf"pip install 'bevstack\[{extra}\]'"):
            check_backend(backend)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no model file"):
        open_session(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match="model must load in ONNX Runtime"):
        open_session(tmp_path / "text.onnx")
    with pytest.raises(ValueError, match=r"opset must be 20.*got 17 for old.onnx"):
        check_opset(17, "old.onnx")


def test_models_that_cannot_be_exported_are_refused() -> None:
    with pytest.raises(ValueError, match="--stream must be given for a model of several frames"):
        check_exportable(CONFIG, ExportOptions(stream=True))
    ahead = replace(streaming_config(), frames=(-1, 0, 1))
    with pytest.raises(ValueError, match="frames must not look ahead"):
        check_exportable(ahead, ExportOptions(stream=True))
    with pytest.raises(ValueError, match="--cameras must be at least 1"):
        check_exportable(CONFIG, ExportOptions(cameras=0))
