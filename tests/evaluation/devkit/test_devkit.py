from __future__ import annotations

import builtins
import subprocess
import sys
from pathlib import Path

import pytest

from bevstack.evaluation.devkit.devkit import evaluate_with_devkit
from bevstack.evaluation.results.submission import write_submission
from bevstack.evaluation.scoring import evaluate_results
from tests.evaluation.test_scoring import truth_as_prediction
from tests.tables.test_references import without_lidar
from tests.tables.tiny_root import VERSION

pytest.importorskip("nuscenes")


def test_no_box_at_all_scores_nothing(root: Path) -> None:
    results = {name: [] for name in truth_as_prediction(root)}
    metrics = evaluate_with_devkit(results, root, VERSION, "mini_val")
    assert (metrics.nds, metrics.mean_average_precision) == (0.0, 0.0)


def test_maps_and_logs_are_not_needed(root: Path) -> None:
    (root / "maps/mask.png").unlink()
    for name in ("map", "log", "visibility"):
        (root / VERSION / f"{name}.json").unlink()
    assert evaluate_with_devkit(truth_as_prediction(root), root, VERSION, "mini_val").nds > 0.1


def test_a_root_without_lidar_is_scored_from_its_cameras_poses(root: Path) -> None:
    results = truth_as_prediction(root)
    with_lidar = evaluate_with_devkit(results, root, VERSION, "mini_val")
    assert with_lidar == evaluate_results(results, root, VERSION, "mini_val")
    without_lidar(root)
    assert evaluate_with_devkit(results, root, VERSION, "mini_val") == evaluate_results(
        results, root, VERSION, "mini_val"
    )


def test_nothing_is_printed(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    evaluate_with_devkit(truth_as_prediction(root), root, VERSION, "mini_val")
    assert capfd.readouterr() == ("", "")


def test_columns_are_refused(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    write_submission(path, truth_as_prediction(root))
    with pytest.raises(ValueError, match=r"must be JSON for nuscenes-devkit; got columns in .*r\."):
        evaluate_with_devkit(path, root, VERSION, "mini_val")


def test_without_the_devkit_the_extra_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = truth_as_prediction(root)
    original_import = builtins.__import__

    def refuse(name: str, *args: object) -> object:
        if name.startswith(("nuscenes", "bevstack.evaluation.devkit.devkit_metric")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original_import(name, *args)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'bevstack\[nuscenes\]'"):
        evaluate_with_devkit(results, root, VERSION, "mini_val")


def test_our_scoring_does_not_import_the_devkit() -> None:
    program = (
        "import sys, bevstack.evaluation.devkit.devkit, bevstack.evaluation.baselines.priors; "
        "sys.exit('nuscenes' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
