"""Exported detectors in INT8: what is quantised, what stays, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from bevstack.export.onnx.arrays import Arrays  # noqa: E402
from bevstack.export.onnx.check import case_arrays  # noqa: E402
from bevstack.export.onnx.detector import ExportOptions, export_detector  # noqa: E402
from bevstack.export.onnx.graph_info import MODULE  # noqa: E402
from bevstack.export.onnx.layer_groups import COORDINATES  # noqa: E402
from bevstack.export.onnx.quantize import (  # noqa: E402
    FailedQuantisationError,
    QuantiseOptions,
    QuantiseReport,
    box_drift,
    quantise,
)
from bevstack.export.runtimes import ONNXRUNTIME, open_session  # noqa: E402
from bevstack.types import Boxes3D, Detections  # noqa: E402
from tests.export.onnx.small_detectors import (  # noqa: E402
    CAMERAS,
    build,
    cases_of,
    frame,
    single_frame_config,
)
from tests.small_world import build_once  # noqa: E402

CONFIG = single_frame_config()
# Random weights give low scores.
ANY = QuantiseOptions(most_drift_of_group=1.0, most_drift=1.0, least_score=0.0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(place: Path) -> None:
        export_detector(
            place / "m.onnx",
            build(CONFIG),
            CONFIG,
            weights="digest",
            cases=cases_of(CONFIG),
            options=ExportOptions(cameras=CAMERAS),
        )

    return build_once(tmp_path_factory, "onnx_single", make) / "m.onnx"


def frames(exported: Path, seeds: range) -> list[Arrays]:
    session = open_session(exported)
    return [case_arrays(frame(CONFIG, seed=seed), None, session) for seed in seeds]


def run(exported: Path, target: Path, options: QuantiseOptions) -> QuantiseReport:
    return quantise(
        exported,
        target,
        calibration=frames(exported, range(3)),
        checks=frames(exported, range(5, 7)),
        backend=ONNXRUNTIME,
        options=options,
    )


@pytest.fixture(scope="module")
def quantised(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(place: Path) -> None:
        run(exported, place / "m8.onnx", ANY)

    return build_once(tmp_path_factory, "onnx_int8", make) / "m8.onnx"


def module_of(node: object) -> str:
    return {prop.key: prop.value for prop in node.metadata_props}.get(MODULE, "")  # type: ignore[attr-defined]


def test_layers_are_in_eight_bits_and_coordinates_are_not(exported: Path, quantised: Path) -> None:
    report = json.loads(quantised.with_name("m8.onnx.check.json").read_text("utf-8"))
    graph = onnx.load(quantised).graph
    eight_bits = {o for n in graph.node if n.op_type == "DequantizeLinear" for o in n.output}
    coordinates = [
        node.input[1]
        for node in graph.node
        if node.op_type in ("Conv", "MatMul", "Gemm")
        and any(name in node.input[1].split(".") for name in COORDINATES)
    ]
    assert len(coordinates) >= 3  # of the encoder's attentions and of the decoder
    assert not eight_bits & set(coordinates)
    assert not [name for name in coordinates if "quantized" in name]
    done = [
        node
        for node in graph.node
        if node.op_type in ("Conv", "MatMul", "Gemm")
        and node.input[0] in eight_bits
        and node.input[1] in eight_bits
    ]
    assert len(done) == report["layers"] > 10
    assert set(report["groups"]) >= {"model.backbone.levels", "model.encoder.layers"}
    assert report["kept"] == []
    assert quantised.stat().st_size < exported.stat().st_size


def test_a_quantised_file_runs_like_any_export(exported: Path, quantised: Path) -> None:
    ours, theirs = open_session(exported), open_session(quantised)
    assert ours.info == theirs.info
    arrays = frames(exported, range(9, 10))[0]
    first, second = ours.run(arrays), theirs.run(arrays)
    assert set(first) == set(second)
    change = abs(first["scores"] - second["scores"]).max()
    assert 0 < change < 0.2  # eight bits are not nothing, and not everything


def test_a_group_that_moves_boxes_too_far_stays_float(exported: Path, tmp_path: Path) -> None:
    free = run(exported, tmp_path / "free.onnx", ANY)
    worst = max(free.groups, key=lambda name: free.groups[name])
    limit = sorted(free.groups.values())[-2]  # the second largest passes
    assert free.groups[worst] > limit
    report = run(exported, tmp_path / "m8.onnx", replace(ANY, most_drift_of_group=limit))
    assert report.kept == (worst,)
    assert report.groups == free.groups
    assert report.layers < free.layers


def test_a_file_whose_boxes_move_too_far_is_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(FailedQuantisationError, match="calibrate with frames of your own rig"):
        run(exported, tmp_path / "m8.onnx", replace(ANY, most_drift=0.0))
    assert [path.name for path in tmp_path.iterdir()] == ["m8.onnx.check.json"]
    with pytest.raises(FailedQuantisationError, match="a group of layers must move boxes"):
        run(exported, tmp_path / "m8.onnx", replace(ANY, most_drift_of_group=-1.0))


def test_frames_must_be_given(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frames must be given to calibrate and to check"):
        quantise(exported, tmp_path / "m", calibration=[], checks=[], backend=ONNXRUNTIME)


def boxes(centers: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    count = len(centers)
    made = Boxes3D(
        torch.tensor(centers).view(count, 3),
        torch.ones(count, 3),
        torch.zeros(count),
        torch.zeros(count, 2),
    )
    return Detections(made, torch.tensor(scores), torch.tensor(labels), ("car", "bus"))


def test_the_drift_of_boxes_counts_distance_score_and_class() -> None:
    ours = boxes([[0.0, 0, 0], [9.0, 0, 0]], [0.8, 0.2], [0, 1])
    assert box_drift(ours, ours)[0] == 0
    near = boxes([[1.0, 0, 0], [9.0, 0, 0]], [0.8, 0.2], [0, 1])
    assert box_drift(ours, near) == pytest.approx((0.8 * 0.25, 1.0))
    far = boxes([[2.5, 0, 0], [9.0, 0, 0]], [0.8, 0.2], [0, 1])
    assert box_drift(ours, far)[0] == pytest.approx(0.8)
    other = boxes([[0.0, 0, 0], [9.0, 0, 0]], [0.4, 0.2], [0, 0])  # half the score; no bus
    assert box_drift(ours, other)[0] == pytest.approx(0.8 * 0.25 + 0.2)
    assert box_drift(boxes([[0.0, 0, 0]], [0.05], [0]), near) == (0.0, 0.0)
