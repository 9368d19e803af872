from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from bevstack.datasets.readiness import soundness
from bevstack.datasets.readiness.findings import Finding
from bevstack.datasets.readiness.inspection import check_root
from bevstack.tables.reader import Tables
from tests.conftest import shared_dir
from tests.tables.tiny_root import VERSION, read_table, token, write_tables

PROGRAM = Path(__file__).resolve().parents[3] / "data/prepare_nuscenes.py"
LIDAR = token("reading", "scene-0103", 1, "LIDAR_TOP")
FRONT = token("calibration", "scene-0103", "CAM_FRONT")
Change = Callable[[list[dict[str, Any]]], None]


@pytest.fixture
def sound(root: Path) -> Path:
    """Widen the lenses of the small root, so that its six cameras overlap as in nuScenes."""
    rows = read_table(root, "calibrated_sensor")
    for row in rows:
        if row["camera_intrinsic"]:
            row["camera_intrinsic"][0][0] = row["camera_intrinsic"][1][1] = 47.0
    write_tables(root, {"calibrated_sensor": rows})
    return root


def _row(rows: list[dict[str, Any]], key: str) -> dict[str, Any]:
    return next(row for row in rows if row["token"] == key)


def _findings(root: Path) -> list[str]:
    tables = Tables(root, VERSION)
    checks: list[Callable[[Tables], list[Finding]]] = [
        soundness.check_poses,
        soundness.check_times,
        soundness.check_calibrations,
        soundness.check_rigs,
        soundness.check_boxes,
    ]
    return [finding.sentence for check in checks for finding in check(tables)]


def test_a_sound_root_gives_no_finding(sound: Path) -> None:
    assert _findings(sound) == []


def _turn(row: dict[str, Any], degrees: float) -> None:
    """Turn a rotation about z."""
    half = math.radians(degrees) / 2
    w, x, y, z = row["rotation"]
    c, s = math.cos(half), math.sin(half)
    row["rotation"] = [c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w]


FAULTS: dict[str, tuple[str, Change, str]] = {
    "jump": (
        "ego_pose",
        lambda rows: _row(rows, LIDAR)["translation"].__setitem__(0, 760.0),
        r"ego poses must be continuous; got \d+\.\d m in 0\.\d+ s before",
    ),
    "turn": (
        "ego_pose",
        lambda rows: _turn(_row(rows, LIDAR), 90.0),
        r"ego poses must turn continuously; got \d\d degrees in .*, and 1 more",
    ),
    "pose norm": (
        "ego_pose",
        lambda rows: _row(rows, LIDAR).update(rotation=[0.5, 0.0, 0.0, 0.1]),
        rf"ego poses must have unit quaternions; got a norm of 0.5099 at sample_data {LIDAR}$",
    ),
    "sample time": (
        "sample",
        lambda rows: rows[2].update(timestamp=rows[1]["timestamp"]),
        r"timestamps of sample\.json must rise .*; got 0\.000 s after",
    ),
    "order": (
        "sample",
        lambda rows: rows[2].update(prev=rows[0]["token"]),
        r"prev and next of sample\.json must be each other's inverse; got .*" + "[0-9a-f]{32}$",
    ),
    "reading time": (
        "sample_data",
        lambda rows: _row(rows, LIDAR).update(timestamp=_row(rows, LIDAR)["timestamp"] + 400_000),
        rf"key frames must be taken within 0.2 s .*; got \+0.400 s at sample_data {LIDAR}$",
    ),
    "calibration norm": (
        "calibrated_sensor",
        lambda rows: _row(rows, FRONT)["rotation"].__setitem__(0, 0.7),
        rf"calibrations must have unit quaternions; got .* CAM_FRONT \(calibrated_sensor {FRONT}",
    ),
    "mounting": (
        "calibrated_sensor",
        lambda rows: _row(rows, FRONT)["translation"].__setitem__(0, 1700.0),
        r"sensors must be mounted within 10 m .*; got 1700\.0 m at CAM_FRONT",
    ),
    "principal point": (
        "calibrated_sensor",
        lambda rows: _row(rows, FRONT)["camera_intrinsic"][0].__setitem__(2, 81.5),
        r"principal points must lie inside the image; got \(81\.5, 23\.5\) in 80x48 at CAM_FRONT",
    ),
    "focal length": (
        "calibrated_sensor",
        lambda rows: _row(rows, FRONT)["camera_intrinsic"][0].__setitem__(0, 4.7),
        r"focal lengths must be positive, nearly equal .*; got \(4\.7, 47\.0\) .* at CAM_FRONT",
    ),
    "direction": (
        "calibrated_sensor",
        lambda rows: _turn(_row(rows, FRONT), 25.0),
        r"cameras must point like .*; got 26 instead of about 0 degrees, CAM_FRONT in scene-0103$",
    ),
    "overlap": (
        "calibrated_sensor",
        lambda rows: _turn(_row(rows, FRONT), 14.0),
        r"neighbouring cameras must overlap by 0 to 30 degrees; got 4\d .* in scene-0103",
    ),
    "lost camera": (
        "sample_data",
        lambda rows: rows.remove(_row(rows, token("reading", "scene-0916", 1, "SIDE_LEFT"))),
        r"every sample .* all the scene's cameras; got 3 of 4 in scene-0916$",
    ),
    "box size": (
        "sample_annotation",
        lambda rows: rows[3]["size"].__setitem__(1, 0.0),
        r"sizes of annotations must be positive; got \[.*, 0\.0, .*\] at",
    ),
    "box rotation": (
        "sample_annotation",
        lambda rows: rows[3].update(rotation=[2.0, 0.0, 0.0, 0.0]),
        r"rotations of annotations must be unit quaternions; got a norm of 2\.0000",
    ),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_each_fault_is_found_and_named(sound: Path, fault: str) -> None:
    table, change, wanted = FAULTS[fault]
    rows = read_table(sound, table)
    change(rows)
    write_tables(sound, {table: rows})
    found = _findings(sound)
    matching = [sentence for sentence in found if _matches(wanted, sentence)]
    assert len(matching) == 1, found


def _matches(pattern: str, sentence: str) -> bool:
    return re.search(f"^{pattern}", sentence) is not None


def test_cameras_that_changed_places_are_found(sound: Path) -> None:
    rows = read_table(sound, "calibrated_sensor")
    left, right = (
        _row(rows, token("calibration", "scene-0103", f"CAM_FRONT_{side}"))
        for side in ("LEFT", "RIGHT")
    )
    left["rotation"], right["rotation"] = right["rotation"], left["rotation"]
    write_tables(sound, {"calibrated_sensor": rows})
    (found,) = _findings(sound)
    assert found.startswith("cameras must point like nuScenes' cameras")
    assert "and 1 more" in found


def test_a_fault_in_one_table_hides_no_other(sound: Path) -> None:
    path = sound / VERSION / "sample_annotation.json"
    path.write_bytes(path.read_bytes()[:-7])
    (sound / VERSION / "log.json").unlink()
    (sound / "samples/CAM_BACK/scene-0103_1.jpg").unlink()
    rows = read_table(sound, "sample")
    rows[2]["timestamp"] = 0
    write_tables(sound, {"sample": rows})
    report = check_root(sound, VERSION)
    sentences = [finding.sentence for finding in report.findings if finding.matters]
    for part in ("sample_annotation.json must be JSON", "no samples/CAM_BACK", "sample.json must"):
        assert sum(part in sentence for sentence in sentences) == 1, sentences
    assert (report.samples, report.annotations, report.samples_with_images) == (7, 0, 6)
    assert any("table 'log' must exist" in f.sentence for f in report.findings)


def _minival(tmp_path: Path) -> tuple[Path, Path]:
    shared = shared_dir()
    assert shared is not None
    copy = tmp_path / "minival"
    shutil.copytree(shared / "data/nuscenes_minival", copy)
    subprocess.run(["chmod", "-R", "u+w", str(copy)], check=True)
    manifest = shared / "data/nuscenes_v1.0-mini_official/official_sha256_size.json"
    return copy, manifest


@pytest.mark.oracle("data_check_minival")
def test_the_real_part_gives_only_its_known_findings(tmp_path: Path) -> None:
    root, manifest = _minival(tmp_path)
    report = check_root(root, VERSION, manifest)
    sentences = [finding.sentence for finding in report.findings if finding.matters]
    # It holds the images of four samples, and tables that were assembled again.
    assert (report.samples, report.samples_with_images) == (81, 4)
    assert sum("images of key frames must exist" in sentence for sentence in sentences) == 6
    assert sum("must equal the official ones" in sentence for sentence in sentences) == 1
    assert len(sentences) == 7


@pytest.mark.oracle("data_check_minival")
def test_ten_planted_faults_are_all_found_on_one_screen(tmp_path: Path) -> None:
    root, manifest = _minival(tmp_path)
    images = {p.parent.name: p for p in sorted(root.glob("samples/CAM_*/*.jpg"))}
    images["CAM_FRONT"].unlink()
    images["CAM_BACK"].write_bytes(images["CAM_BACK"].read_bytes()[:50_000])
    data = bytearray(images["CAM_FRONT_LEFT"].read_bytes())
    data[len(data) // 2] ^= 1
    images["CAM_FRONT_LEFT"].write_bytes(data)
    cv2.imwrite(str(images["CAM_BACK_LEFT"]), cv2.imread(str(images["CAM_BACK_LEFT"]))[::2, ::2])
    tables = {
        name: read_table(root, name)
        for name in ("ego_pose", "calibrated_sensor", "sample", "sample_data", "sample_annotation")
    }
    tables["ego_pose"][200]["translation"][1] += 30.0
    used = {r["calibrated_sensor_token"]: r["filename"] for r in tables["sample_data"]}
    sensors = {
        used[row["token"]].split("/")[1]: row
        for row in tables["calibrated_sensor"]
        if "n008-2018-08-01" in used.get(row["token"], "")
    }
    sensors["CAM_BACK_RIGHT"]["rotation"][2] += 0.2
    sensors["CAM_FRONT_RIGHT"]["camera_intrinsic"][1][2] = -3.0
    for name in ("translation", "rotation"):
        one, other = sensors["CAM_BACK_LEFT"], sensors["CAM_FRONT_LEFT"]
        one[name], other[name] = other[name], one[name]
    tables["sample"][30]["timestamp"] += 1_000_000
    tables["sample_annotation"][7]["instance_token"] = "f" * 32
    write_tables(root, tables)
    planted = (
        r"all 486 images .*samples/CAM_FRONT/n008\S*, and 77 more",
        r"image must be a whole file; got .*CAM_BACK__\d+\.jpg, cut off after 50000 bytes",
        r"files of samples/CAM_FRONT_LEFT must equal the official ones",
        r"image must be 1600x900 .* got 800x450 in .*CAM_BACK_LEFT",
        r"ego poses must be continuous; got (29|30)\.\d m",
        r"calibrations must have unit quaternions; got .* at CAM_BACK_RIGHT",
        r"principal points must lie inside the image; got \(\d+\.\d, -3\.0\) .* CAM_FRONT_RIGHT",
        r"cameras must point like nuScenes' cameras; got .*CAM_(FRONT|BACK)_LEFT in scene-0103,"
        r" and",
        r"timestamps of sample.json must rise from each row to its next; got -0\.5",
        r"instance_token in sample_annotation\.json \(row 7, .* got 'f{32}'",
    )
    command = [sys.executable, PROGRAM, root, "--version", VERSION, "--check"]
    shown = subprocess.run([*command, "--manifest", manifest], capture_output=True, text=True)
    assert shown.returncode == 1 and shown.stderr == ""
    lines = shown.stdout.replace("\n    ", " ").splitlines()
    for pattern in planted:
        assert any(_matches(f"MATTERS: .*{pattern}", line) for line in lines), (pattern, lines)
    assert len(shown.stdout.splitlines()) <= 60
