from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bevstack.datasets.readiness.inspection import inspect_root
from tests.tables.tiny_root import VERSION, read_table, write_tables

PROGRAM = Path(__file__).resolve().parents[3] / "data/prepare_nuscenes.py"


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True)


def test_a_whole_root_is_ready(root: Path) -> None:
    report = inspect_root(root, VERSION, read_images=True)
    assert report.ready
    assert report.findings == ()
    assert (report.scenes, report.samples, report.samples_with_images) == (2, 7, 7)
    assert report.annotations == len(read_table(root, "sample_annotation"))
    assert report.splits == (("mini_val", 2),)


def test_missing_images_are_counted_by_folder(root: Path) -> None:
    for number in (1, 3):
        (root / f"samples/CAM_BACK/scene-0103_{number}.jpg").unlink()
    (root / "samples/SIDE_LEFT/scene-0916_2.jpg").unlink()
    report = inspect_root(root, VERSION)
    assert not report.ready
    assert report.samples_with_images == 4
    back, side = report.findings
    assert "got none for 2 in samples/CAM_BACK, such as scene-0103_1.jpg" in back.sentence
    assert "got none for 1 in samples/SIDE_LEFT, such as scene-0916_2.jpg" in side.sentence


def test_damaged_images_are_found_on_request(root: Path) -> None:
    path = root / "samples/CAM_FRONT/scene-0916_0.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    assert inspect_root(root, VERSION).ready
    (finding,) = inspect_root(root, VERSION, read_images=True).findings
    assert finding.matters
    assert "CAM_FRONT/scene-0916_0.jpg, cut off" in finding.sentence


def test_a_missing_file_that_only_other_tools_need_is_a_note(root: Path) -> None:
    (root / "maps/mask.png").unlink()
    (root / VERSION / "visibility.json").unlink()
    report = inspect_root(root, VERSION)
    assert report.ready
    sentences = [finding.sentence for finding in report.findings]
    assert any("table 'visibility' must exist" in sentence for sentence in sentences)
    assert any("got none for 1, such as maps/mask.png" in sentence for sentence in sentences)
    write_tables(root, {"sample_annotation": []})
    assert any("no boxes" in f.sentence for f in inspect_root(root, VERSION).findings)


def test_tables_that_cannot_be_read_are_an_error(root: Path) -> None:
    (root / VERSION / "ego_pose.json").unlink()
    with pytest.raises(FileNotFoundError, match="table 'ego_pose' must exist"):
        inspect_root(root, VERSION)


def test_the_program_prints_findings_and_exits_accordingly(root: Path) -> None:
    done = _run(str(root), "--version", VERSION, "--read")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "2 scenes, 7 samples, 23 annotations"
    assert done.stdout.splitlines()[-1] == "ready"
    (root / "samples/CAM_BACK/scene-0103_1.jpg").unlink()
    done = _run(str(root), "--version", VERSION)
    assert done.returncode == 1
    assert "MATTERS: images of all 7 samples must exist" in done.stdout
    done = _run(str(root), "--version", "v1.0-test")
    assert done.returncode == 2
    assert done.stderr.startswith("prepare_nuscenes: error: version must be a folder of tables")
    assert "Traceback" not in done.stderr
