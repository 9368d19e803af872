"""A data set names the cameras of its rigs that cannot be, once when it is opened."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.geometry.rig_plausibility import ImplausibleRigWarning
from tests.tables.tiny_root import VERSION


def change_calibrations(root: Path, channels: tuple[str, ...], change) -> None:
    folder = root / VERSION
    sensors = json.loads((folder / "sensor.json").read_text())
    wanted = {row["token"] for row in sensors if row["channel"] in channels}
    path = folder / "calibrated_sensor.json"
    rows = json.loads(path.read_text())
    changed = [row | change(row) if row["sensor_token"] in wanted else row for row in rows]
    assert changed != rows
    path.write_text(json.dumps(changed))


def warnings_of(root: Path, **options: object) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        NuScenesDataset(root, VERSION, **options)
    return [str(w.message) for w in caught if issubclass(w.category, ImplausibleRigWarning)]


def test_right_rigs_are_silent(root: Path) -> None:
    assert warnings_of(root) == []


@pytest.mark.oracle("rig_real_scenes")
def test_real_scenes_are_silent(oracle_dir: Path) -> None:
    tables = (oracle_dir.parent / "data").rglob("calibrated_sensor.json")
    complete = [path.parent for path in tables if (path.parent / "sample_data.json").is_file()]
    assert complete
    for folder in complete:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ImplausibleRigWarning)
            assert len(NuScenesDataset(folder.parent, folder.name))


def test_one_sentence_names_camera_table_and_scenes(root: Path) -> None:
    def reorder(row: dict) -> dict:
        w, x, y, z = row["rotation"]
        return {"rotation": [x, y, z, w]}

    change_calibrations(root, ("CAM_BACK",), reorder)
    (sentence,) = warnings_of(root)
    assert sentence.startswith("camera 'CAM_BACK' must be upright; got an image that is turned by")
    assert "looks like a quaternion in the order x, y, z, w" in sentence
    assert sentence.endswith("(calibrated_sensor.json, scene-0103 and 1 more scenes)")
    (sentence,) = warnings_of(root, scenes=["scene-0916"])
    assert sentence.endswith("(calibrated_sensor.json, scene-0916)")


def test_positions_and_intrinsics_are_checked_and_errors_can_be_asked_for(root: Path) -> None:
    change_calibrations(
        root,
        ("CAM_FRONT_LEFT", "SIDE_LEFT"),
        lambda row: {"translation": [1000 * value for value in row["translation"]]},
    )
    assert [text.split("must")[0] for text in warnings_of(root)] == [
        "camera 'CAM_FRONT_LEFT' ",
        "camera 'SIDE_LEFT' ",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImplausibleRigWarning)
        with pytest.raises(ValueError, match=r"'CAM_FRONT_LEFT' must be within 10 m .*millimetres"):
            NuScenesDataset(root, VERSION)
