"""Notes on predictions out of the metric's range."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bevstack.cli.main import main
from bevstack.evaluation.results.submission import write_submission
from bevstack.evaluation.unscored import note_on_range
from tests.evaluation.detection3d.test_evaluator import columns, truth
from tests.evaluation.test_scoring import truth_as_prediction
from tests.tables.tiny_root import VERSION


def test_boxes_out_of_every_range_are_noted_with_the_likely_cause() -> None:
    wanted = replace(truth({}), ego_translation=np.array([[600.0, 800.0, 0.0]] * 2))
    in_ego_frame = columns({"translation": (10.0, 5.0, 1.0)}, {"sample": 1})
    note = note_on_range(in_ego_frame, wanted)
    assert note is not None and "none of the 2 predicted boxes lies within the range" in note
    assert "the nearest is 990 m away" in note and "look like boxes in the ego frame" in note
    far = columns({"translation": (600.0, 1900.0, 1.0)})
    note = note_on_range(far, wanted)
    assert note is not None and "check that they are of these samples" in note


def test_one_box_in_range_or_no_box_at_all_gives_no_note() -> None:
    wanted = truth({})
    far = {"translation": (400.0, 0.0, 0.0)}
    assert note_on_range(columns(far, {"translation": (49.0, 0.0, 0.0)}), wanted) is None
    assert note_on_range(columns(far, {"translation": (51.0, 0.0, 0.0)}), wanted) is not None
    assert note_on_range(columns({"num_points": 0}), wanted) is None  # left out for its points
    assert note_on_range(columns(), wanted) is None


def test_the_command_prints_the_note(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = truth_as_prediction(root)
    for boxes in results.values():
        for box in boxes:
            box["translation"] = [box["translation"][0] + 5000, *box["translation"][1:]]
    write_submission(tmp_path / "r.json", results)
    where = ["--nuscenes", str(root), "--version", VERSION, "--split", "mini_val"]
    assert main(["evaluate", "--results", str(tmp_path / "r.json"), *where]) == 0
    assert "predicted boxes lies within the range of its class" in capsys.readouterr().out
