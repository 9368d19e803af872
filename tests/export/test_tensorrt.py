"""Exported models in TensorRT: our own code on a stand-in, and the real one where a GPU is."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from bevstack.export.onnx.arrays import detections_from_arrays
from bevstack.export.onnx.check import case_arrays, check
from bevstack.export.onnx.detector import ExportOptions, export_detector, reference_session
from bevstack.export.onnx.half import write_half
from bevstack.export.onnx.quantize import box_drift
from bevstack.export.runtimes import (
    TENSORRT,
    FileSession,
    check_backend,
    installed_backends,
    open_session,
)
from bevstack.export.tensorrt_engine import engine_path
from bevstack.export.tensorrt_file import TensorRtFile
from tests.export import fake_tensorrt
from tests.export.onnx.small_detectors import (
    CAMERAS,
    build,
    cases_of,
    single_frame_config,
    streaming_config,
)

CPU = torch.device("cpu")
# Half precision of the small detector moves boxes by less than a fiftieth of what INT8 may.
MOST_DRIFT_OF_HALF = 0.01


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = fake_tensorrt.module()
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export a small detector of single frames once."""
    path = tmp_path_factory.mktemp("exported") / "m.onnx"
    config = single_frame_config()
    options = ExportOptions(stream=False, cameras=CAMERAS)
    export_detector(
        path, build(config), config, weights="digest", cases=cases_of(config), options=options
    )
    return path


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    """Copy the detector to a folder of this test's own."""
    copy = tmp_path / "m.onnx"
    copy.write_bytes(exported.read_bytes())
    return copy


@pytest.mark.usefixtures("fake")
def test_a_single_frame_equals_ours_from_the_first_and_from_the_stored_engine(model: Path) -> None:
    config = single_frame_config()
    info = open_session(model).info
    reference = reference_session(build(config), info, cases_of(config)[0].batch)
    for _ in range(2):
        session = FileSession(TensorRtFile(model, device=CPU), model)
        assert session.backend == "tensorrt 11.4.0.106"
        assert (session.info, session.shapes) == (info, open_session(model).shapes)
        report = check(session, reference, cases_of(config))
        assert report.faults == []
        assert all(case.boxes > 10 for case in report.cases)
    assert engine_path(model, half=False).is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
def test_a_stream_equals_ours(tmp_path: Path) -> None:
    config = streaming_config()
    path, net, cases = tmp_path / "stream.onnx", build(config), cases_of(config)
    options = ExportOptions(stream=True, cameras=CAMERAS)
    export_detector(path, net, config, weights="digest", cases=cases, options=options)
    session = FileSession(TensorRtFile(path, device=CPU), path)
    reference = reference_session(net, session.info, cases[0].batch)
    assert check(session, reference, cases).faults == []


@pytest.mark.usefixtures("fake")
def test_half_precision_moves_boxes_little_and_has_its_own_engine(model: Path) -> None:
    exact = FileSession(TensorRtFile(model, device=CPU), model)
    half = FileSession(TensorRtFile(model, half=True, device=CPU), model)
    assert half.backend.endswith("fp16")
    assert {p.name for p in model.parent.glob("*.engine")} == {
        "m.onnx.engine",
        "m.onnx.fp16.engine",
    }
    moved = total = 0.0
    classes = exact.info.config.class_names
    for case in cases_of(single_frame_config()):
        found = [
            detections_from_arrays(each.run(case_arrays(case.batch, None, each)), classes)[0]
            for each in (exact, half)
        ]
        assert not torch.equal(found[0].scores, found[1].scores)  # something was rounded
        parts = box_drift(*found, least_score=0.0)
        moved, total = moved + parts[0], total + parts[1]
    assert total > 0 and moved / total < MOST_DRIFT_OF_HALF


def test_the_layers_that_compute_coordinates_stay_float32(model: Path, tmp_path: Path) -> None:
    import onnx

    count = write_half(model, tmp_path / "half.onnx")
    graph = onnx.load(tmp_path / "half.onnx").graph
    onnx.checker.check_model(str(tmp_path / "half.onnx"))
    halves = [t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    assert count > 10 and len(halves) >= count - 1
    assert not [name for name in halves if "sampling_offsets" in name or "reference" in name]
    assert [o.type for o in graph.output] == [o.type for o in onnx.load(model).graph.output]


@pytest.mark.usefixtures("fake")
def test_an_engine_of_something_else_is_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TensorRtFile(model, device=CPU)
    engine = engine_path(model, half=False)
    written = engine.read_bytes()

    def change(**fields: object) -> None:
        first, _, rest = written.partition(b"\n")
        engine.write_bytes(json.dumps({**json.loads(first), **fields}).encode() + b"\n" + rest)

    for fields, message in (
        ({"tensorrt": "10.13.2.6"}, r"must be for TensorRT 11\.4\.0\.106; got .* for 10\.13\.2\.6"),
        ({"gpu": "NVIDIA H200 9.0"}, r"must be for the GPU cpu; got .* for NVIDIA H200 9\.0"),
        ({"model_sha256": "0" * 64}, r"must be for the model of digest [0-9a-f]{12}; got .* for 0"),
        ({"half": True}, "must be for half precision False; got .* for True"),
        ({"plugins": "1" * 64}, "must be for the plugins of digest ; got .* for 111111111111:"),
        ({"format": "bevstack-tensorrt-0"}, "must be of the format bevstack-tensorrt-1; got "),
        ({"engine_sha256": "2" * 64}, "must be as it was written; got .*, damaged"),
    ):
        change(**fields)
        with pytest.raises(ValueError, match=f"engine {message}.*remove it to build it again"):
            TensorRtFile(model, device=CPU)
    for damaged in (b"", b"text", written[:-1], b"[]\n", b'{"format": 1}'):
        engine.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"engine must be .*remove it to build it again"):
            TensorRtFile(model, device=CPU)
    engine.unlink()
    TensorRtFile(model, device=CPU)
    assert engine.read_bytes() == written


def test_what_tensorrt_cannot_read_or_load_is_one_sentence(
    fake: ModuleType, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match="no model file"):
        TensorRtFile(model.with_name("none.onnx"), device=CPU)
    empty = model.with_name("empty.onnx")
    empty.touch()
    with pytest.raises(ValueError, match=r"must be readable by TensorRT 11.*: no node$") as caught:
        TensorRtFile(empty, device=CPU)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(
        fake.Builder,
        "build_serialized_network",
        lambda self, network, config: self._logger.log(
            fake.ILogger.Severity.ERROR, "out of memory\nmore"
        ),
    )
    with pytest.raises(ValueError, match=r"engine must be buildable .*: out of memory$"):
        TensorRtFile(model, device=CPU)
    assert not list(model.parent.glob("*.engine"))


@pytest.mark.usefixtures("fake")
def test_an_engine_that_does_not_load_is_named(
    fake: ModuleType, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        fake.Builder, "build_serialized_network", lambda self, network, config: memoryview(b"x")
    )
    with pytest.raises(ValueError, match=r"must load in TensorRT 11.*: Magic tag does not match"):
        TensorRtFile(model, device=CPU)


@pytest.mark.usefixtures("fake")
def test_inputs_that_do_not_fit_are_named(model: Path) -> None:
    file = TensorRtFile(model, device=CPU)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in file.shapes.items()}
    arrays["images"] = arrays["images"][:, :, 1:]
    with pytest.raises(ValueError, match=r"images must have shape \(1, 4, 64, 96, 3\).*got "):
        file.run(arrays)


def test_a_missing_package_and_a_missing_gpu_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import bevstack.export.runtimes as runtimes

    if importlib.util.find_spec("tensorrt") is None:
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'bevstack\[tensorrt\]'"):
            check_backend(TENSORRT)
    monkeypatch.setattr(runtimes, "find_spec", lambda name: object())
    monkeypatch.setattr(runtimes, "has_gpu", lambda: False)
    with pytest.raises(ValueError, match="tensorrt-fp16 must run on an NVIDIA GPU; got none"):
        check_backend("tensorrt-fp16")
    assert installed_backends() == ["onnxruntime", "openvino"]
    monkeypatch.setattr(runtimes, "has_gpu", lambda: True)
    check_backend(TENSORRT)
    assert installed_backends() == ["onnxruntime", "openvino", "tensorrt"]


ON_A_GPU = pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("tensorrt") is None,
    reason="needs an NVIDIA GPU and tensorrt: pip install 'bevstack[tensorrt]'",
)


@ON_A_GPU
@pytest.mark.parametrize("stream", [False, True], ids=["frames", "stream"])
def test_tensorrt_itself_equals_ours(stream: bool, tmp_path: Path) -> None:
    config = streaming_config() if stream else single_frame_config()
    path, net, cases = tmp_path / "m.onnx", build(config), cases_of(config)
    options = ExportOptions(stream=stream, cameras=CAMERAS)
    export_detector(path, net, config, weights="digest", cases=cases, options=options)
    session = open_session(path, TENSORRT)
    reference = reference_session(net, session.info, cases[0].batch)
    assert check(session, reference, cases).faults == []
