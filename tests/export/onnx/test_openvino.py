"""Exported detectors in OpenVINO: equal to ours, with times, scenes and places beyond 32 bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

import torch

from bevstack.export.onnx.arrays import Arrays
from bevstack.export.onnx.check import Case, Tolerances, case_arrays, check
from bevstack.export.onnx.detector import ExportOptions, export_detector, reference_session
from bevstack.export.onnx.graph import RESETS
from bevstack.export.onnx.relative import LONGEST_US, absolute_outputs, relative_inputs
from bevstack.export.runtimes import ONNXRUNTIME, OPENVINO, Session, TorchSession, open_session
from bevstack.types import Batch, Reset
from tests.export.onnx.small_detectors import (
    CAMERAS,
    build,
    cases_of,
    frame,
    single_frame_config,
    streaming_config,
)

SECONDS = 1_000_000


class RelativeSession:
    """The model in torch that is given relative times, scenes and places, as OpenVINO is."""

    def __init__(self, inner: TorchSession) -> None:
        self.inner = inner
        self.info, self.shapes, self.backend = inner.info, inner.shapes, "torch, relative"
        self.given: Arrays = {}

    def run(self, inputs: Arrays) -> Arrays:
        self.given = relative_inputs(inputs)
        return absolute_outputs(self.inner.run(self.given), inputs)


def far_away(batch: Batch, scene: int) -> Batch:
    """Return the batch in today's time, 300 km from the origin, in a scene of a large number."""
    pose = batch.world_from_bev.clone()
    pose[..., :2, 3] += torch.tensor((3e5, -2e5), dtype=pose.dtype)
    time_us = batch.timestamp_us + 1_764_000_000 * SECONDS
    moved = replace(batch, world_from_bev=pose, timestamp_us=time_us)
    # A batch computes this number from the scene's name; here it must be a given one.
    object.__setattr__(moved, "sequence_id", torch.full_like(batch.sequence_id, scene))
    return moved


def drive(times_us: tuple[int, ...], scenes: tuple[int, ...]) -> list[Case]:
    config = streaming_config()
    return [
        Case(
            f"{time} us, scene {scene}",
            far_away(frame(config, seed=30 + index, time_us=time), scene),
            restart=not index,
        )
        for index, (time, scene) in enumerate(zip(times_us, scenes, strict=True))
    ]


# The second scene's number equals the first's in its lower 32 bits. Then a step back, a gap of
# half an hour, and a scene whose number exceeds int32.
SCENE = 5
TIMES = (0, 500_000, 1_000_000, 1_500_000, 1_200_000, 1_800 * SECONDS, 1_801 * SECONDS)
SCENES = (SCENE, SCENE, SCENE + 2**32, SCENE + 2**32, SCENE + 2**32, SCENE + 2**32, -(2**62))
WANTED = (Reset.START, Reset.NONE, Reset.SCENE, Reset.NONE, Reset.TIME, Reset.GAP, Reset.SCENE)


def resets_of(session: Session, cases: list[Case]) -> list[int]:
    from bevstack.export.onnx.arrays import memory_from

    memory, resets = None, []
    for case in cases:
        outputs = session.run(case_arrays(case.batch, memory, session))
        memory = memory_from(outputs, session.shapes, session.info)
        resets.append(int(outputs[RESETS][0]))
    return resets


@pytest.fixture(scope="module")
def ours() -> TorchSession:
    from bevstack.export.onnx.graph_info import GraphInfo
    from bevstack.models.layers.sizes import NO_BOUNDS

    config = streaming_config()
    info = GraphInfo(config=config, weights="", bounds=NO_BOUNDS, stream=True, cameras=CAMERAS)
    return reference_session(build(config), info, frame(config))


def test_relative_times_scenes_and_places_mean_the_same(ours: TorchSession) -> None:
    cases = drive(TIMES, SCENES)
    relative = RelativeSession(ours)
    assert resets_of(ours, cases) == list(WANTED)
    assert resets_of(relative, cases) == list(WANTED)
    report = check(relative, ours, cases)
    # The counts of the exact model have no bound; nothing else may differ.
    assert [fault for fault in report.faults if "counts" not in fault] == []
    times = relative.given["memory_timestamp_us"]
    assert abs(times).max() <= LONGEST_US
    assert set(np.unique(relative.given["memory_sequence_id"])) <= {0, 1}
    assert abs(relative.given["world_from_bev"][..., :3, 3]).max() == 0


def test_inputs_of_single_frames_stay_as_they_are() -> None:
    inputs = {"images": np.zeros((1, 2))}
    assert relative_inputs(inputs) is inputs
    assert absolute_outputs(inputs, inputs) is inputs


def export(path: Path, *, stream: bool) -> Session:
    config = streaming_config() if stream else single_frame_config()
    model, cases = build(config), cases_of(config)
    options = ExportOptions(stream=stream, cameras=CAMERAS)
    export_detector(path, model, config, weights="digest", cases=cases, options=options)
    return reference_session(model, open_session(path).info, cases[0].batch)


def test_a_single_frame_in_openvino_equals_ours(tmp_path: Path) -> None:
    reference = export(tmp_path / "m.onnx", stream=False)
    session = open_session(tmp_path / "m.onnx", OPENVINO, threads=1)
    assert session.backend.startswith("openvino 20")
    other = open_session(tmp_path / "m.onnx", ONNXRUNTIME, threads=1)
    assert (session.info, session.shapes) == (other.info, other.shapes)
    report = check(session, reference, cases_of(single_frame_config()), Tolerances())
    assert report.faults == []
    assert all(case.boxes > 10 for case in report.cases)


@pytest.mark.slow
def test_a_stream_in_openvino_equals_ours(tmp_path: Path) -> None:
    reference = export(tmp_path / "stream.onnx", stream=True)
    session = open_session(tmp_path / "stream.onnx", OPENVINO, threads=1)
    cases = [*cases_of(streaming_config()), *drive(TIMES, SCENES)]
    assert check(session, reference, cases).faults == []
    assert resets_of(session, drive(TIMES, SCENES)) == list(WANTED)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no model file"):
        open_session(tmp_path / "none.onnx", OPENVINO)
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match=r"model must load in OpenVINO 20.*export it again"):
        open_session(tmp_path / "text.onnx", OPENVINO)
