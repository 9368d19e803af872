"""Scores of mmdetection3d's own metric equal ours, and its loop trains our model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("mmdet3d", reason="needs mmdetection3d: make test-mmdet3d")

from mmdet3d.registry import METRICS
from mmdet3d.structures import Det3DDataSample
from mmengine.config import Config as MMConfig
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from bevstack.cli.main import main
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.results.result_boxes import result_boxes, result_entries
from bevstack.evaluation.scoring import evaluate_results
from bevstack.interop.info_files import read_info_file
from bevstack.interop.mmdet3d import BevstackDetector
from bevstack.interop.mmdet3d_samples import CLASSES
from bevstack.models.build import load_model
from bevstack.types import Boxes3D, Detections, Frame
from tests.interop.mmdet3d.worlds import SPEC, TRAIN, VAL, dataset_config

PREFIX = "NuScenes metric/pred_instances_3d_NuScenes"


def near_truth(frame: Frame, seed: int) -> Detections:
    """Return the frame's boxes with random errors, two thirds of them, and random scores."""
    truth = frame.annotations
    assert truth is not None
    draw = torch.Generator().manual_seed(seed)
    kept = truth[torch.rand(len(truth), generator=draw) < 0.67]

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    boxes = kept.boxes
    count = len(kept)
    moved = Boxes3D(
        boxes.center + 0.4 * noise(count, 3) * torch.tensor([1.0, 1.0, 0.2]),
        boxes.size * (1 + 0.1 * noise(count, 3)).clamp(0.5, 1.5),
        boxes.yaw + 0.2 * noise(count),
        torch.nan_to_num(boxes.velocity) + 0.3 * noise(count, 2),
    )
    order = torch.rand(count, generator=draw).sort(descending=True)
    return Detections(moved[order.indices], order.values, kept.labels[order.indices])


def scored_by_mmdet3d(folder: Path, samples: list[dict[str, Any]]) -> dict[str, float]:
    metric = METRICS.build(
        {
            "type": "NuScenesMetric",
            "data_root": str(folder / "data" / "nuscenes"),
            "ann_file": str(folder / "newer" / "nuscenes_infos_val.pkl"),
            "metric": "bbox",
        }
    )
    metric.dataset_meta = {"classes": CLASSES, "version": SPEC.version}
    metric.process({}, samples)
    return dict(metric.evaluate(len(samples)))


@pytest.mark.parametrize("bev_frame", ["lidar", "ego"])
def test_figures_equal_ours(folder: Path, bev_frame: str) -> None:
    root = folder / "data" / "nuscenes"
    dataset = NuScenesDataset(root, SPEC.version, split="mini_val", bev_frame=bev_frame)
    tokens = read_info_file(folder / "newer" / "nuscenes_infos_val.pkl").tokens
    model = BevstackDetector(config="tiny_cpu")
    samples, results = [], {}
    for row, token in enumerate(tokens):
        frame = dataset.frame(dataset.index_of(token), load_images=False)
        detections = near_truth(frame, row)
        assert frame.bev_from_ego is not None
        world_from_bev = frame.world_from_bev()
        assert world_from_bev is not None
        boxes = result_boxes(detections, world_from_bev, frame.bev_from_ego)
        results[token] = result_entries(boxes, token)
        lidar = NuScenesDataset(root, SPEC.version, bev_frame="lidar")
        lidar_from_ego = lidar.frame(lidar.index_of(token), load_images=False).bev_from_ego
        assert lidar_from_ego is not None
        meta = {"lidar2ego": torch.linalg.inv(lidar_from_ego).numpy(), "sample_idx": row}
        sample = Det3DDataSample(metainfo=meta)
        sample.pred_instances_3d = model.to_instances(detections, frame, meta)
        sample.pred_instances = InstanceData()
        samples.append(sample.to_dict())
    ours = evaluate_results(results, root, SPEC.version, "mini_val").figures()
    theirs = scored_by_mmdet3d(folder, samples)
    assert 0.2 < ours["map"] < 0.9
    # Its boxes are float32 in the lidar's frame; 1e-6 m decides no match here. Boxes in the ego
    # frame are upright there, and turn by a degree or two on the way to the lidar's, which changes
    # headings and velocities by up to 1 - cos(2 deg) = 6e-4 of them: 0.01 m/s of a fast car, and a
    # fifth of that in the mean. It rounds errors to 4 digits.
    limit = 1e-6 if bev_frame == "lidar" else 2e-4
    assert theirs[f"{PREFIX}/mAP"] == pytest.approx(ours["map"], abs=1e-6)
    assert theirs[f"{PREFIX}/NDS"] == pytest.approx(ours["nds"], abs=limit)
    for error in ("ATE", "ASE", "AOE", "AVE", "AAE"):
        found, wanted = theirs[f"{PREFIX}/m{error}"], ours[f"m{error.lower()}"]
        assert found == pytest.approx(wanted, abs=5.1e-5 + limit * (10 if error == "AVE" else 1))


def runner_config(folder: Path, work: Path, config: Path) -> MMConfig:
    loader = {
        "batch_size": 2,
        "num_workers": 0,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "collate_fn": {"type": "pseudo_collate"},
    }
    return MMConfig(
        {
            "default_scope": "mmdet3d",
            "custom_imports": {"imports": ["bevstack.interop.mmdet3d"]},
            "model": {"type": "BevstackDetector", "config": str(config)},
            "work_dir": str(work),
            "train_dataloader": {**loader, "dataset": dataset_config(folder, "train", TRAIN)},
            "val_dataloader": {**loader, "dataset": dataset_config(folder, "val", VAL)},
            "train_cfg": {"by_epoch": False, "max_iters": 2, "val_interval": 2},
            "val_cfg": {},
            "val_evaluator": {
                "type": "NuScenesMetric",
                "data_root": str(folder / "data" / "nuscenes"),
                "ann_file": str(folder / "newer" / "nuscenes_infos_val.pkl"),
            },
            "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 1e-3}},
            "default_hooks": {"checkpoint": {"type": "CheckpointHook", "by_epoch": False}},
        }
    )


def test_its_runner_trains_and_scores_and_its_checkpoint_becomes_ours(
    folder: Path, tmp_path: Path
) -> None:
    config = tmp_path / "small.py"
    config.write_text("from tests.small_world import CONFIG\n", encoding="utf-8")
    runner = Runner.from_cfg(runner_config(folder, tmp_path / "work", config))
    before = {name: p.detach().clone() for name, p in runner.model.named_parameters()}
    runner.train()
    moved = [n for n, p in runner.model.named_parameters() if not torch.equal(p, before[n])]
    assert len(moved) > 0.9 * len(before)
    scores = runner.message_hub.get_scalar(f"val/{PREFIX}/NDS").current()
    assert 0 <= scores <= 1

    out = tmp_path / "ours.safetensors"
    checkpoint = tmp_path / "work" / "iter_2.pth"
    words = ("convert-weights", str(checkpoint), "--out", str(out), "--config", str(config))
    assert main(words) == 0
    model, _ = load_model(out)
    trained = {n.removeprefix("detector."): v for n, v in runner.model.state_dict().items()}
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, trained[name], rtol=0, atol=0)
