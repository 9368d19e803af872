"""A training on nothing is refused before it starts, with the reason."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from bevstack.cli.main import main
from bevstack.config import PerspectiveConfig
from bevstack.datasets.loader import make_training_loader
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.sampling import class_presence
from bevstack.datasets.usable_boxes import check_usable_boxes
from bevstack.tasks.detection3d import Detection3D
from tests.small_world import CONFIG, with_training
from tests.tables.test_annotation_checks import change
from tests.tables.test_classes import NAMES, rename
from tests.tables.tiny_root import VERSION, read_table, token, write_tables

HEAD = "from tests.small_world import CONFIG\n"


def open_root(root: Path, **options: object) -> NuScenesDataset:
    return NuScenesDataset(root, VERSION, **options)


def count_points(root: Path, lidar: int, radar: int = 0) -> None:
    """Set the counts of all annotations."""
    rows = read_table(root, "sample_annotation")
    for row in rows:
        row |= {"num_lidar_pts": lidar, "num_radar_pts": radar}
    write_tables(root, {"sample_annotation": rows})


def test_categories_that_have_no_class_are_listed(root: Path) -> None:
    rename(root, NAMES)
    with pytest.raises(ValueError, match="got the categories sedan, walker, coach, dog"):
        Detection3D(CONFIG, open_root(root))
    rename(root, {"dog": "animal"} | dict.fromkeys(NAMES.values(), "animal"))
    with pytest.raises(ValueError, match="got the categories animal"):
        Detection3D(CONFIG, open_root(root))
    few = dataclasses.replace(CONFIG, class_names=("trailer",))
    rename(root, {"animal": "vehicle.car"})
    with pytest.raises(
        ValueError, match=r"of the classes trailer; got the categories vehicle\.car"
    ):
        Detection3D(few, open_root(root, class_names=("trailer",)))


def test_a_mapping_lets_the_training_start(root: Path) -> None:
    rename(root, NAMES)
    classes = {"sedan": "car", "walker": "pedestrian", "coach": "bus", "dog": None}
    dataset = open_root(root, classes=classes)
    check_usable_boxes(dataset, CONFIG)
    assert class_presence(dataset).any(0).sum() == 2  # the bus has no points
    with pytest.raises(ValueError, match="classes must be given to Tables"):
        NuScenesDataset(dataset.tables, classes=classes)


@pytest.mark.parametrize("balanced", [False, True])
def test_boxes_without_any_point_are_refused(root: Path, balanced: bool) -> None:
    count_points(root, 0)
    config = with_training(sampling="class_balanced" if balanced else "shuffle")
    with pytest.raises(ValueError, match=r"with at most 0: correct num_lidar_pts .* or give -1"):
        Detection3D(config, open_root(root))


@pytest.mark.parametrize("counts", [(-1, -1), (-1, 0), (-1, 1), (3, -1)])
def test_boxes_whose_points_were_not_counted_are_learned(
    root: Path, counts: tuple[int, int]
) -> None:
    count_points(root, *counts)
    dataset = open_root(root)
    config = with_training(batch_size=1)
    Detection3D(config, dataset)
    assert class_presence(dataset).any(0).sum() == 3
    batch = next(iter(make_training_loader(dataset, config)))
    assert batch.annotations is not None and len(batch.annotations[0]) >= 2
    frame = dataset.frame(1, load_images=False, camera_annotations=True)
    assert frame.camera_annotations is not None
    labels = torch.cat([camera.labels for camera in frame.camera_annotations])
    assert len(labels.unique()) >= 2


def test_a_perspective_head_needs_its_number_of_points(root: Path) -> None:
    count_points(root, 2)
    check_usable_boxes(open_root(root), CONFIG)
    fpn = dataclasses.replace(CONFIG.fpn, num_outputs=5)
    config = dataclasses.replace(CONFIG, fpn=fpn, perspective=PerspectiveConfig())
    with pytest.raises(ValueError, match=r"at least 3 lidar or radar .* at most 2"):
        check_usable_boxes(open_root(root), config)


def test_boxes_far_from_the_vehicle_are_refused(root: Path) -> None:
    rows = read_table(root, "sample_annotation")
    for row in rows:
        row["translation"][0] += 5000.0
    write_tables(root, {"sample_annotation": rows})
    with pytest.raises(ValueError, match=r"inside the grid .*, all outside it"):
        Detection3D(CONFIG, open_root(root))


def test_empty_tables_are_refused(root: Path) -> None:
    write_tables(root, {"sample_annotation": [], "instance": []})
    with pytest.raises(ValueError, match=r"true boxes; got none in sample_annotation\.json"):
        Detection3D(CONFIG, open_root(root))
    (root / VERSION / "sample_annotation.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"sample_annotation\.json"):
        Detection3D(CONFIG, open_root(root))


def test_the_fault_of_every_sample_is_raised(root: Path) -> None:
    rows = read_table(root, "sample_annotation")
    for row in rows:
        row["size"] = [0.0, 0.0, 0.0]
    write_tables(root, {"sample_annotation": rows})
    with pytest.raises(ValueError, match=r"^size of annotation '\w+' .* got \[0\.0, 0\.0, 0\.0\]"):
        Detection3D(with_training(on_bad_sample="skip"), open_root(root))
    with pytest.raises(ValueError, match="at least one sample to train on; got none"):
        Detection3D(CONFIG, open_root(root).select([]))


def test_held_out_samples_need_boxes_that_are_scored(root: Path) -> None:
    train = open_root(root, scenes=["scene-0103"])
    rows = read_table(root, "sample_annotation")
    for row in rows[12:]:
        row |= {"num_lidar_pts": 0, "num_radar_pts": 0}
    write_tables(root, {"sample_annotation": rows})
    held_out = open_root(root, scenes=["scene-0916"])
    with pytest.raises(ValueError, match=r"held-out samples .* must have a true box .* give -1"):
        Detection3D(CONFIG, train, held_out=held_out)


def test_a_held_out_box_without_size_is_named_before_the_training(root: Path) -> None:
    held_out = [r["sample_token"] for r in read_table(root, "sample_annotation")].index(
        token("sample", "scene-0916", 0)
    )
    row = change(root, held_out, size=[0.0, 1.0, 1.0])
    scenes = [open_root(root, scenes=[name]) for name in ("scene-0103", "scene-0916")]
    with pytest.raises(ValueError, match=f"^size of annotation '{row['token']}'"):
        Detection3D(with_training(on_bad_sample="skip"), scenes[0], held_out=scenes[1])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", [0.0, 1.0, 1.0]),
        ("translation", [1.0, float("nan"), 0.0]),
        ("rotation", [0, 0, 0, 0]),
    ],
)
def test_a_faulty_box_stops_the_training_or_is_skipped(
    root: Path, field: str, value: list[float]
) -> None:
    row = change(root, 1, **{field: value})
    with pytest.raises(ValueError, match=f"^{field} of annotation '{row['token']}'"):
        Detection3D(CONFIG, open_root(root))
    config = with_training(on_bad_sample="skip", batch_size=1)
    Detection3D(config, open_root(root))
    stream = make_training_loader(open_root(root), config)
    batches = iter(stream)
    tokens = {next(batches).sample_tokens[0] for _ in range(7)}
    assert row["sample_token"] not in tokens
    (skipped,) = stream.skipped
    assert skipped.sample_token == row["sample_token"]
    assert f"{field} of annotation '{row['token']}'" in skipped.reason


@pytest.mark.parametrize("dry_run", [False, True])
def test_the_command_refuses_before_it_writes(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], dry_run: bool
) -> None:
    rename(root, NAMES)
    config, out = tmp_path / "config.py", tmp_path / "out"
    config.write_text(HEAD)
    data = ["--nuscenes", str(root), "--version", VERSION, "--split", "mini_val"]
    command = ["train", "--config", str(config), *data, "--out", str(out), "--steps", "1"]
    command += ["--dry-run"] if dry_run else []
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "got the categories sedan, walker, coach, dog" in error and "--classes" in error
    assert not out.exists()
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"sedan": "car"}))
    assert main([*command, "--classes", str(path), "--dry-run"]) == 0
    path.write_text(json.dumps({"sedan": "vehicle.car"}))
    assert main([*command, "--classes", str(path)]) == 2
    assert "did you mean 'car'" in capsys.readouterr().err
