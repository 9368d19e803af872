"""Maps: outlines where the mask is, lanes of the scene, and nothing from outside the data set."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bevstack.tables import street_map
from bevstack.tables.reader import Tables
from bevstack.tables.street_map import StreetMap
from tests.tables.tiny_root import VERSION, write_tiny_root

SCENE = "scene-0103"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tiny_root(tmp_path / "root")


def read_street_map(tables: Tables, scene: str, *, reach_m: float = 1e6) -> StreetMap:
    """Read the map of a scene in the whole world, or within a distance of the origin."""
    return street_map.read_street_map(tables, scene, np.full(2, -reach_m), np.full(2, reach_m))


def write_map(root: Path, **fields: Any) -> None:
    """Write a mask of 30 x 20 m with a road from x = 5 to 12 m, and its table row."""
    mask = np.zeros((200, 300), np.uint8)
    mask[:, 50:120] = 255
    (root / "maps").mkdir(exist_ok=True)
    cv2.imwrite(str(root / "maps" / "a.png"), mask)
    scenes = json.loads((root / VERSION / "scene.json").read_text())
    (log,) = {row["log_token"] for row in scenes if row["name"] == SCENE}
    row = {"filename": "maps/a.png", "log_tokens": ["other", log], **fields}
    rows = [{"filename": "maps/none.png", "log_tokens": ["other"]}, row]
    (root / VERSION / "map.json").write_text(json.dumps(rows))


def test_outlines_lie_where_the_mask_is(root: Path) -> None:
    write_map(root, corner_m=[1000.0, 500.0], pixels_per_m=10.0)
    found = read_street_map(Tables(root, VERSION), SCENE)
    (outline,) = found.drivable_around(np.array([1010.0, 510.0]), 4.0)
    # Half a pixel less on each side: outlines run through pixel centres.
    np.testing.assert_allclose(outline.min(0), (1006.05, 506.05), atol=0.01)
    np.testing.assert_allclose(outline.max(0), (1011.95, 513.95), atol=0.01)
    assert found.drivable_around(np.array([1022.0, 510.0]), 4.0) == ()
    assert found.drivable_around(np.array([-9e6, 9e6]), 4.0) == ()


def test_holes_are_outlines_too() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[10:90, 10:90] = 255
    mask[40:60, 30:50] = 0
    found = StreetMap(mask=mask, corner_m=np.zeros(2), pixels_per_m=10.0, lanes=())
    areas = sorted(np.ptp(o, 0).prod() for o in found.drivable_around(np.full(2, 5.0), 9.0))
    # Outlines run through the centres of pixels, a side may be 0.01 m longer or shorter.
    assert areas == pytest.approx([2.1**2, 7.9**2], abs=0.2)


def test_mask_of_nuscenes_starts_at_the_origin(root: Path) -> None:
    write_map(root)
    found = read_street_map(Tables(root, VERSION), SCENE)
    assert found.corner_m.tolist() == [0.0, 0.0] and found.pixels_per_m == 10.0
    (outline,) = found.drivable_around(np.array([10.0, 10.0]), 50.0)
    np.testing.assert_allclose(outline.min(0), (5.05, 0.05), atol=0.01)


def test_lanes_are_those_of_the_scene_cut_at_the_square(root: Path) -> None:
    scenes = {
        r["name"]: r["token"] for r in json.loads((root / VERSION / "scene.json").read_text())
    }
    line = [[float(x), 0.0] for x in range(-20, 21)]
    rows = [
        {"token": f"l{i}", "scene_token": scenes[name], "centerline": line}
        for i, name in enumerate((SCENE, "scene-0916"))
    ]
    (root / VERSION / "lane.json").write_text(json.dumps(rows))
    found = read_street_map(Tables(root, VERSION), SCENE)
    assert len(found.lanes) == 1
    (piece,) = found.lanes_around(np.array([15.0, 1.0]), 7.5)
    assert piece[:, 0].tolist() == [float(x) for x in range(8, 21)]
    assert found.lanes_around(np.array([15.0, 100.0]), 7.5) == ()


def test_a_part_of_the_mask_is_read_where_it_lies(root: Path) -> None:
    write_map(root, corner_m=[-15.0, -9.0], pixels_per_m=10.0)
    whole = read_street_map(Tables(root, VERSION), SCENE)
    part = read_street_map(Tables(root, VERSION), SCENE, reach_m=8.0)
    assert whole.mask.shape == (200, 300) and part.mask.shape == (160, 160)
    (outline,), (expected,) = (m.drivable_around(np.array([-4.0, 1.0]), 3.0) for m in (part, whole))
    np.testing.assert_allclose(outline, expected, atol=1e-9)


@pytest.mark.parametrize(
    "row",
    [
        {"token": "a"},
        {"token": "a", "scene_token": "s", "centerline": [[1.0, None]]},
        {"token": "a", "scene_token": "s", "centerline": [1.0, 2.0]},
        "text",
    ],
)
def test_damaged_lane_is_refused_by_its_row(root: Path, row: object) -> None:
    (root / VERSION / "lane.json").write_text(json.dumps([row]))
    with pytest.raises(ValueError, match=r"row 0 of lane\.json"):
        read_street_map(Tables(root, VERSION), SCENE)


@pytest.mark.parametrize("filename", ["../outside.png", "/etc/passwd", "C:\\x.png", "", None, 5])
def test_a_name_outside_the_data_set_is_refused(root: Path, filename: object) -> None:
    write_map(root, filename=filename)
    with pytest.raises(ValueError, match=r"filename in map\.json must"):
        read_street_map(Tables(root, VERSION), SCENE)


def test_only_grey_png_files_are_read(root: Path) -> None:
    write_map(root, filename="c.png")
    assert read_street_map(Tables(root, VERSION), SCENE).mask.size == 0  # no such file
    (root / "c.png").write_text("<html>" * 9)
    with pytest.raises(ValueError, match=r"c\.png must be an 8-bit grey PNG without interlacing"):
        read_street_map(Tables(root, VERSION), SCENE)
    cv2.imwrite(str(root / "c.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="got depth 8, colour type 2"):
        read_street_map(Tables(root, VERSION), SCENE)
    (root / "c.png").unlink()
    os.mkfifo(root / "c.png")
    with pytest.raises(ValueError, match="must be a regular file"):
        read_street_map(Tables(root, VERSION), SCENE)


def test_part_that_is_too_large_is_left_out_undecoded(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_map(root)
    monkeypatch.setattr(street_map, "MAX_PIXELS", 59_999)
    monkeypatch.setattr(street_map, "read_png_window", None)
    assert read_street_map(Tables(root, VERSION), SCENE).mask.size == 0


def test_without_map_or_lanes_nothing_is_known(root: Path) -> None:
    (root / VERSION / "map.json").unlink(missing_ok=True)
    found = read_street_map(Tables(root, VERSION), SCENE)
    assert found.mask.size == 0 and found.lanes == ()


@pytest.mark.parametrize(
    "fields", [{"corner_m": "x"}, {"corner_m": [1.0]}, {"pixels_per_m": 0}, {"corner_m": [1, None]}]
)
def test_damaged_row_is_refused(root: Path, fields: dict[str, Any]) -> None:
    write_map(root, **fields)
    with pytest.raises(ValueError, match=r"corner_m and pixels_per_m in map\.json must be"):
        read_street_map(Tables(root, VERSION), SCENE)
