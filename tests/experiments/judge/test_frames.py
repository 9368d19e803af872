"""Frames of the controls: the intended part is wrong, and everything else is unchanged."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bevstack.config import load_config
from bevstack.config.tracking import TrackingConfig
from bevstack.datasets.collate import prepare_clip
from bevstack.datasets.loader import make_training_loader
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.baselines.lifting import class_priors
from bevstack.evaluation.scoring import load, score
from bevstack.experiments.judge import disturbances
from bevstack.experiments.judge.disturbances import assign_partners
from bevstack.experiments.judge.lifting import lift_true_boxes
from bevstack.experiments.judge.shuffled_labels import ShuffledLabels
from bevstack.experiments.judge.turned_world import make_turned_scenes, world_spec
from bevstack.types import Clip, Frame
from tests.small_world import CONFIG, SPEC, dataset, small_world
from tests.tables.tiny_root import VERSION, write_tiny_root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory)


@pytest.fixture(scope="module")
def data(root: Path) -> NuScenesDataset:
    return dataset(root, "synth_val")


def same_but_images(changed: Frame, plain: Frame) -> bool:
    return (
        torch.equal(changed.intrinsics, plain.intrinsics)
        and torch.equal(changed.ego_from_cam, plain.ego_from_cam)
        and torch.equal(changed.world_from_ego_at_camera, plain.world_from_ego_at_camera)
        and (changed.sample_token, changed.timestamp_us) == (plain.sample_token, plain.timestamp_us)
    )


def test_partners_are_a_permutation_without_a_fixed_scene() -> None:
    scenes = {"a": [0, 1, 2], "b": [3], "c": [4, 5, 6, 7], "d": [8]}
    scene_from_index = {index: name for name, indices in scenes.items() for index in indices}
    partners = assign_partners(scenes)
    assert sorted(partners) == list(range(9)) and partners == assign_partners(scenes)
    for index, partner in enumerate(partners):
        assert scene_from_index[index] != scene_from_index[partner]


@pytest.mark.parametrize("scenes", [{}, {"a": [0, 1]}, {"a": [0, 1, 2], "b": [3, 4]}])
def test_a_scene_with_most_of_the_samples_has_no_partners(scenes: dict[str, list[int]]) -> None:
    with pytest.raises(ValueError, match="must be of two scenes or more, none with more than half"):
        assign_partners(scenes)


def test_blank_images_have_one_colour(data: NuScenesDataset) -> None:
    changed = disturbances.with_blank_images(data, (10.4, 99.6, 300.0)).frame(1)
    assert same_but_images(changed, data.frame(1))
    for image, plain in zip(changed.images, data.frame(1).images, strict=True):
        assert image.shape == plain.shape
        assert (image == np.array((10, 100, 255))).all()


def test_images_of_other_samples_come_with_their_own_calibration(data: NuScenesDataset) -> None:
    dataset_of_changes = disturbances.with_images_of_other_scenes(data, CONFIG)
    scenes = [data.frame(index, load_images=False).scene_token for index in range(6)]
    for index, other in enumerate(assign_partners(data.scene_indices())):
        assert scenes[index] != scenes[other]
        frame = dataset_of_changes.frame(index, images_for=CONFIG)
        assert same_but_images(frame, data.frame(index, images_for=CONFIG))
        for image, wanted in zip(
            frame.images, data.frame(other, images_for=CONFIG).images, strict=True
        ):
            assert np.array_equal(image, wanted)


def test_no_camera_has_its_own_image_when_they_are_permuted(data: NuScenesDataset) -> None:
    permuted, original = disturbances.with_permuted_cameras(data).frame(4), data.frame(4)
    assert same_but_images(permuted, original)
    origin = [
        [np.array_equal(image, camera_image) for camera_image in original.images].index(True)
        for image in permuted.images
    ]
    assert origin == [1, 2, 3, 4, 5, 0]


def test_cameras_of_several_sizes_cannot_change_places(tmp_path: Path) -> None:
    whole = NuScenesDataset(write_tiny_root(tmp_path / "root"), VERSION)
    with pytest.raises(ValueError, match="must have the same cameras and sizes"):
        disturbances.with_permuted_cameras(whole).frame(6)  # 80x48 and 100x50
    with pytest.raises(ValueError, match="must have the same cameras and sizes"):
        disturbances.with_images_of_other_scenes(whole.select([0, 1, 4, 5]), CONFIG).frame(0)


def test_a_turned_calibration_turns_about_the_cameras_position(data: NuScenesDataset) -> None:
    turned, original = disturbances.with_turned_calibration(data, 2.0).frame(3), data.frame(3)
    assert all(np.array_equal(a, b) for a, b in zip(turned.images, original.images, strict=True))
    for turned_pose, pose in zip(turned.ego_from_cam, original.ego_from_cam, strict=True):
        assert torch.equal(turned_pose[:, 3], pose[:, 3])
        for axis in range(3):  # each camera axis, seen from above, is turned by 2 degrees
            x, y, z = pose[:3, axis].tolist()
            yaw = math.atan2(y, x) + math.radians(2.0)
            level = math.hypot(x, y)
            wanted = (level * math.cos(yaw), level * math.sin(yaw), z)
            assert turned_pose[:3, axis].tolist() == pytest.approx(wanted, abs=1e-12)


def test_a_lost_camera_is_masked_in_the_models_input(data: NuScenesDataset) -> None:
    for lost, name in enumerate(data.frame(0, load_images=False).camera_names):
        frame = disturbances.without_camera(data, name).frame(2, images_for=CONFIG)
        prepared = prepare_clip(Clip((frame,), (0,)), CONFIG)
        wanted = [camera != lost for camera in range(6)]
        assert prepared.rig.camera_mask[0].tolist() == wanted
        assert [bool(image.any()) for image in prepared.images[0]] == wanted
    with pytest.raises(ValueError, match=r"camera must be one of CAM_FRONT, .*; got 'CAM_TOP'"):
        disturbances.without_camera(data, "CAM_TOP").frame(0)


def test_neighbours_are_changed_too_and_nothing_is_selected_afterwards(
    data: NuScenesDataset,
) -> None:
    changed = disturbances.without_camera(data, "CAM_BACK")
    assert changed.neighbour(0, 1).camera_mask.tolist().count(False) == 1
    assert changed.neighbour(0, -1) is None
    with pytest.raises(TypeError, match="must be selected before their frames are changed"):
        changed.select([0])


def test_the_turned_world_differs_in_its_cameras_alone(root: Path, tmp_path: Path) -> None:
    names = dataset(root, "synth_val").scene_names[1:]
    turned_root = make_turned_scenes(root, names, 2.0, tmp_path / "turned")
    assert world_spec(root) == SPEC
    turned = NuScenesDataset(turned_root, SPEC.version)
    plain = NuScenesDataset(root, SPEC.version, scenes=names)
    turned_calibration = disturbances.with_turned_calibration(plain, 2.0)
    assert len(turned) == len(plain) == 3
    for index in range(3):
        turned_frame, plain_frame, calibrated = (
            d.frame(index) for d in (turned, plain, turned_calibration)
        )
        assert turned_frame.sample_token == plain_frame.sample_token
        counted, expected = (
            f.annotations[f.annotations.num_points > 0] for f in (turned_frame, plain_frame)
        )
        assert torch.equal(counted.boxes.center, expected.boxes.center)
        assert torch.equal(counted.num_points, expected.num_points)
        torch.testing.assert_close(
            turned_frame.ego_from_cam, calibrated.ego_from_cam, atol=1e-12, rtol=0
        )
        assert torch.equal(turned_frame.intrinsics, plain_frame.intrinsics)
        for image, plain_image in zip(turned_frame.images, plain_frame.images, strict=True):
            # a turned camera sees the same street at different pixels
            assert 1 < np.abs(image.astype(float) - plain_image).mean() < 80
    finished = (turned_root / "turned_scenes.json").stat().st_mtime_ns
    make_turned_scenes(root, names, 2.0, turned_root)
    assert (turned_root / "turned_scenes.json").stat().st_mtime_ns == finished
    message = "must hold the same scenes of the same world; got different ones"
    with pytest.raises(ValueError, match=message):
        make_turned_scenes(root, names, 3.0, turned_root)


def test_real_data_cannot_be_rendered_with_turned_cameras(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be a synthetic world of generator"):
        make_turned_scenes(write_tiny_root(tmp_path / "r"), ["scene-0103"], 2.0, tmp_path / "t")
    (tmp_path / "r/world.json").write_text(json.dumps({"generator_version": 1}))
    with pytest.raises(ValueError, match="got 1: make the world again"):
        world_spec(tmp_path / "r")


def test_shuffled_labels_come_from_another_scene_and_images_stay(data: NuScenesDataset) -> None:
    shuffled = ShuffledLabels(data)
    for index, partner in enumerate(assign_partners(data.scene_indices())):
        frame = shuffled.frame(index, camera_annotations=True)
        own, partner_frame = (data.frame(i, camera_annotations=True) for i in (index, partner))
        assert same_but_images(frame, own)
        assert all(np.array_equal(a, b) for a, b in zip(frame.images, own.images, strict=True))
        assert torch.equal(frame.annotations.boxes.center, partner_frame.annotations.boxes.center)
        assert torch.equal(frame.annotations.labels, partner_frame.annotations.labels)
        assert not torch.equal(frame.annotations.labels, own.annotations.labels)
        for boxes, wanted in zip(
            frame.camera_annotations, partner_frame.camera_annotations, strict=True
        ):
            assert torch.equal(boxes.boxes_px, wanted.boxes_px)


def test_shuffled_labels_reach_the_batches_of_training(data: NuScenesDataset) -> None:
    config = load_config("tiny_cpu_t4")
    recipe = replace(config.training, batch_size=6, num_workers=0)
    config = replace(config, training=recipe, augmentation=CONFIG.augmentation)
    batch = next(iter(make_training_loader(ShuffledLabels(data), config, keep_empty_boxes=True)))
    partner = assign_partners(data.scene_indices())
    for token, labelled in zip(batch.sample_tokens, batch.annotations, strict=True):
        wanted = data.frame(partner[data.index_of(token)], load_images=False).annotations
        wanted = wanted[config.grid.contains(wanted.boxes.center)]
        assert torch.equal(labelled.labels, wanted.labels) and len(labelled)


def test_true_image_boxes_score_lower_with_more_noise(
    data: NuScenesDataset,
) -> None:
    priors = class_priors(data.tables, "synth_train")

    def mean_ap(noise_px: float) -> float:
        results = lift_true_boxes(data, priors, contact_at_near_edge=True, noise_px=noise_px)
        return score(load(results, data.tables, "synth_val")).metrics.mean_average_precision

    # 0.499 without noise in the prototype of this baseline, on an easier world
    assert mean_ap(0.0) > mean_ap(1.0) > mean_ap(8.0)
    assert mean_ap(0.0) > 0.35
    assert lift_true_boxes(data, priors) == lift_true_boxes(data, priors)


def without_duplicates(boxes: list[dict], gap_m: float) -> list[float]:
    """Return the scores, ascending, of boxes without a better one of their class nearby."""
    kept: list[dict] = []
    for box in sorted(boxes, key=lambda box: -box["detection_score"]):
        near = any(
            other["detection_name"] == box["detection_name"]
            and math.dist(other["translation"][:2], box["translation"][:2]) < gap_m
            for other in kept
        )
        if not near:
            kept.append(box)
    return sorted(box["detection_score"] for box in kept)


def test_true_image_boxes_are_tracked_within_each_scene(data: NuScenesDataset) -> None:
    priors = class_priors(data.tables, "synth_train")
    alone, tracked = (lift_true_boxes(data, priors, tracked=flag) for flag in (False, True))
    first_boxes, moving = 0, 0
    for indices in data.scene_indices().values():
        first, *later = (data.sample_token(index) for index in indices)
        kept = without_duplicates(alone[first], TrackingConfig().start_gap_m)
        scores = sorted(box["detection_score"] for box in tracked[first])
        assert scores == pytest.approx(kept, abs=1e-6)  # float32 in between
        first_boxes += len(kept)
        moving += sum(any(box["velocity"]) for token in later for box in tracked[token])
    assert first_boxes and moving  # tracking estimates the speeds: lifted boxes have none
    assert not any(any(box["velocity"]) for boxes in alone.values() for box in boxes)
