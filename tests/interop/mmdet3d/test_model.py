"""Our detector as a model of mmdetection3d predicts and learns as our own classes do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet3d", reason="needs mmdetection3d: make test-mmdet3d")

from mmdet3d.registry import MODELS
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.dataset import pseudo_collate

from bevstack.config import Config
from bevstack.datasets.collate import prepare_clip, stack_clips
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.geometry import BEVGrid
from bevstack.interop.info_files import read_info_file
from bevstack.interop.mmdet3d import BevstackDetector
from bevstack.interop.mmdet3d_samples import CLASSES
from bevstack.losses.detector_loss import DetectorCriterion
from bevstack.models.build import build_model, load_model, save_model
from bevstack.runtime.detector import Detector
from bevstack.types import Annotations, Clip, Detections, Frame
from tests.interop.mmdet3d.worlds import SPEC, TRAIN, VAL, open_dataset
from tests.models.small_models import randomise
from tests.small_world import CONFIG

# Samples hold poses in float32: 3e-8 of a camera's place, which projections and layers multiply.
BOX_M, SCORE = 1e-3, 1e-4


def config_for(grid_frame: str) -> Config:
    low = -5.0 if grid_frame == "lidar" else -3.2
    return replace(
        CONFIG,
        grid=BEVGrid(shape=(10, 12), frame=grid_frame, z_range_m=(low, low + 8)),
    )


def weights_file(folder: Path, config: Config) -> Path:
    path = folder / "weights.safetensors"
    torch.manual_seed(1)
    save_model(path, randomise(build_model(config), scale=0.05), config)
    return path


def build(**options: Any) -> BevstackDetector:
    model = MODELS.build({"type": "BevstackDetector", **options})
    assert isinstance(model, BevstackDetector)
    return model


def frames(folder: Path, config: Config, split: str) -> list[Frame]:
    """Return our frames of a split, in the order of the information file."""
    root = folder / "data" / "nuscenes"
    dataset = NuScenesDataset(
        root, SPEC.version, split=f"mini_{split}", bev_frame=config.grid.frame
    )
    tokens = read_info_file(folder / "newer" / f"nuscenes_infos_{split}.pkl").tokens
    return [dataset.frame(dataset.index_of(token)) for token in tokens]


def in_lidar(detections: Detections, frame: Frame, root: Path) -> Detections:
    """Return our detections in the lidar's frame, by the tables alone."""
    dataset = NuScenesDataset(root, SPEC.version, bev_frame="lidar")
    own = dataset.frame(dataset.index_of(frame.sample_token), load_images=False)
    assert own.bev_from_ego is not None and frame.bev_from_ego is not None
    return detections.transformed(own.bev_from_ego @ torch.linalg.inv(frame.bev_from_ego))


@pytest.mark.parametrize("grid_frame", ["lidar", "ego"])
def test_predictions_equal_those_of_our_detector(
    folder: Path, tmp_path: Path, grid_frame: str
) -> None:
    config = config_for(grid_frame)
    path = weights_file(tmp_path, config)
    model = build(weights=str(path)).eval()
    dataset = open_dataset(folder, "val", VAL)
    detector = Detector(*load_model(path))
    own = frames(folder, config, "val")
    with torch.no_grad():
        samples = model.test_step(pseudo_collate([dataset[row] for row in range(3)]))
    for sample, frame in zip(samples, own[:3], strict=True):
        found = sample.pred_instances_3d
        wanted = in_lidar(detector.predict(frame), frame, folder / "data" / "nuscenes")
        assert isinstance(found.bboxes_3d, LiDARInstance3DBoxes)
        assert len(found.bboxes_3d) == len(wanted) > 10
        torch.testing.assert_close(found.scores_3d, wanted.scores, rtol=0, atol=SCORE)
        # Boxes of nearly one score may change places: compare each with its own.
        names = [CLASSES[label] for label in found.labels_3d.tolist()]
        boxes = wanted.boxes
        rows = torch.cat(
            (boxes.center, boxes.size, boxes.yaw[:, None].cos(), boxes.yaw[:, None].sin()), 1
        )
        rows = torch.cat((rows, boxes.velocity), 1)
        theirs = found.bboxes_3d
        columns = (theirs.gravity_center, theirs.dims, theirs.yaw[:, None].cos())
        columns += (theirs.yaw[:, None].sin(), theirs.tensor[:, 7:9])
        distances = torch.cdist(torch.cat(columns, 1).double(), rows.double())
        same = torch.tensor(
            [[name == detector.classes[int(label)] for label in wanted.labels] for name in names]
        )
        best = torch.where(same, distances, torch.inf).min(1).values
        assert float(best.max()) < BOX_M, best.max()


def truth_of(frame: Frame) -> Annotations:
    """Return a frame's boxes as mmdetection3d trains on them."""
    assert frame.annotations is not None
    kept = frame.annotations  # only boxes with lidar points, and unknown velocities as 0
    boxes = replace(kept.boxes, velocity=torch.nan_to_num(kept.boxes.velocity))
    return Annotations(boxes, kept.labels, kept.num_points)


def test_losses_equal_those_of_our_criterion_and_every_parameter_learns(
    folder: Path, tmp_path: Path
) -> None:
    config = config_for("lidar")
    path = weights_file(tmp_path, config)
    model = build(weights=str(path)).eval()  # without dropout, which draws random numbers
    dataset = open_dataset(folder, "train", TRAIN)
    data = model.data_preprocessor(pseudo_collate([dataset[0], dataset[5]]), training=True)
    losses = model.loss(data["inputs"], data["data_samples"])
    total, log = model.parse_losses(losses)
    assert float(log["loss"]) == float(losses["loss_detector"]) > 0
    terms = sum(value for name, value in losses.items() if name != "loss_detector")
    torch.testing.assert_close(total.detach(), terms, rtol=1e-5, atol=1e-5)

    own = frames(folder, config, "train")
    points = lidar_points(folder)
    batch = stack_clips(
        [
            prepare_clip(
                Clip((replace(own[row], annotations=trained(own[row], points)),), (0,)), config
            )
            for row in (0, 5)
        ]
    )
    reference, _ = load_model(path)
    wanted = DetectorCriterion(config.loss)(reference(batch), batch, config.grid)
    torch.testing.assert_close(total, wanted.total, rtol=1e-4, atol=1e-4)
    total.backward()
    still = [name for name, p in model.detector.named_parameters() if p.grad is None]
    assert not still, still


def lidar_points(folder: Path) -> dict[str, np.ndarray]:
    """Return the number of lidar points of the boxes of each training sample, by token."""
    from bevstack.interop.plain_pickle import read_plain_pickle

    path = folder / "data" / "nuscenes" / "nuscenes_infos_train.pkl"
    content = read_plain_pickle(path, what="info file")
    assert isinstance(content, dict)
    return {
        entry["token"]: entry["num_lidar_pts"][np.isin(entry["gt_names"], CLASSES)]
        for entry in content["infos"]
    }


def trained(frame: Frame, points: dict[str, np.ndarray]) -> Annotations:
    truth = truth_of(frame)
    return truth[torch.from_numpy(points[frame.sample_token] > 0)]


def test_a_model_of_several_frames_with_a_perspective_head_learns_and_predicts(
    folder: Path,
) -> None:
    model = build(config="tiny_cpu_t4_brief").train()
    assert model.config.perspective is not None and len(model.config.frames) > 1
    dataset = open_dataset(folder, "train", TRAIN)
    data = model.data_preprocessor(pseudo_collate([dataset[2]]), training=True)
    losses = model.loss(data["inputs"], data["data_samples"])
    terms = {name: float(v) for name, v in losses.items() if name.startswith("perspective_")}
    assert terms and np.isfinite(list(terms.values())).all() and max(terms.values()) > 0
    losses["loss_detector"].backward()
    head = model.detector.perspective_head
    assert all(p.grad is not None for p in head.parameters())
    with torch.no_grad():
        (sample,) = model.eval().test_step(pseudo_collate([dataset[2]]))
    assert len(sample.pred_instances_3d.bboxes_3d) > 0


def test_wrong_settings_are_named(folder: Path) -> None:
    for options, fault in (
        ({}, "config or weights must be given"),
        ({"config": "tiny_cpu", "class_names": ("car",)}, "must hold the classes of the model"),
        (
            {"config": "tiny_cpu", "data_preprocessor": {"type": "Det3DDataPreprocessor"}},
            "must only pad and turn BGR into RGB .*got BGR images",
        ),
        (
            {
                "config": "tiny_cpu",
                "data_preprocessor": {
                    "type": "Det3DDataPreprocessor",
                    "bgr_to_rgb": True,
                    "mean": [1.0] * 3,
                    "std": [1.0] * 3,
                },
            },
            "got mean",
        ),
    ):
        with pytest.raises(ValueError, match=fault):
            build(**options)
    model = build(config="tiny_cpu")
    with pytest.raises(ValueError, match="imgs must have the shape"):
        model.predict({"imgs": torch.zeros(1, 3, 8, 8)}, [None])
