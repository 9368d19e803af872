"""Stored submissions and the files that nuscenes-devkit wrote for them: every case stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevstack.evaluation.scoring import DETAILS_NAME, SUMMARY_NAME
from bevstack.evaluation.tracking.tracking_scoring import evaluate_track_results
from tests.conftest import shared_dir

DISTANCES = ("motp", "amotp")
COUNTS = ("gt", "mt", "ml", "tp", "fp", "fn", "ids", "frag")
TOLERANCE_M = 2e-5  # the devkit's distances err by 1e-5 m at coordinates of 1,000 m
TOLERANCE = 1e-9  # sums in another order


def _cases() -> list[Any]:
    shared = shared_dir()
    folders = sorted((shared / "oracle" / "nuscenes_tracking").iterdir()) if shared else []
    names = [folder.name for folder in folders if folder.is_dir()] or ["none_stored"]
    marks = [pytest.mark.oracle(f"nuscenes_tracking_{name}") for name in names]
    return [pytest.param(n, marks=m, id=n) for n, m in zip(names, marks, strict=True)]


def _expect(name: str, found: Any, expected: Any) -> None:
    tolerance = TOLERANCE_M if name in DISTANCES else 0 if name in COUNTS else TOLERANCE
    np.testing.assert_allclose(
        np.array(found, dtype=np.float64),
        np.array(expected, dtype=np.float64),
        rtol=0,
        atol=tolerance,
        err_msg=name,
    )


@pytest.mark.parametrize("case", _cases())
def test_files_equal_those_of_the_devkit(
    case: str, oracle_dir: Path, real_root: Path, tmp_path: Path
) -> None:
    folder = oracle_dir / "nuscenes_tracking" / case
    evaluate_track_results(folder / "submission.json", real_root, "v1.0-mini", "mini_val", tmp_path)
    found, expected = (
        [json.loads((f / name).read_text()) for name in (SUMMARY_NAME, DETAILS_NAME)]
        for f in (tmp_path, folder)
    )
    assert list(found[0]) == list(expected[0])
    for key, value in expected[0].items():
        if key == "label_metrics":
            assert list(found[0][key]) == list(value)
            for name, by_class in value.items():
                assert list(found[0][key][name]) == list(by_class)
                _expect(name, list(found[0][key][name].values()), list(by_class.values()))
        elif key in ("cfg", "meta"):
            assert found[0][key] == value
        elif key != "eval_time":
            _expect(key, found[0][key], value)
    assert found[1].keys() == expected[1].keys()
    for class_name, rows in expected[1].items():
        assert found[1][class_name].keys() == rows.keys()
        for name, values in rows.items():
            _expect(name, found[1][class_name][name], values)
