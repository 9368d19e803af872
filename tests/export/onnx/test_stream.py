"""A step of streams in a file: memory in and out, resets, a lost camera and a far rig."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from bevstack.export.onnx.check import Case, check
from bevstack.export.onnx.detector import (
    ExportOptions,
    export_detector,
    reference_session,
)
from bevstack.export.runtimes import open_session
from tests.export.onnx.small_detectors import (
    CAMERAS,
    build,
    cases_of,
    frame,
    streaming_config,
)


@pytest.mark.slow
def test_a_stream_in_a_file_equals_ours_step_by_step(tmp_path: Path) -> None:
    config = streaming_config()
    model, path = build(config), tmp_path / "stream.onnx"
    options = ExportOptions(stream=True, cameras=CAMERAS)
    export_detector(path, model, config, weights="digest", cases=cases_of(config), options=options)
    report = json.loads(path.with_name("stream.onnx.check.json").read_text("utf-8"))
    assert report["passed"] is True
    for each in report["reports"]:
        assert all("memory" in case["largest"] for case in each["cases"])
    session = open_session(path, threads=1)
    reference = reference_session(model, session.info, cases_of(config)[0].batch)
    times = (0, 500_000, 1_000_000, 1_200_000, 9_000_000, 8_000_000)  # then a gap and a step back
    later = [
        Case(f"{time} us", frame(config, seed=20 + index, time_us=time), restart=not index)
        for index, time in enumerate(times)
    ]
    assert check(session, reference, later).faults == []
