"""Evaluation of a detector on held-out scenes, divided among the processes of a training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bevstack.config import Config
from bevstack.datasets.loader import make_evaluation_loader
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.detection3d.columns import GroundTruth
from bevstack.evaluation.detection3d.evaluator import evaluate, why_none_counts
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.metrics import DetectionMetrics
from bevstack.evaluation.detection3d.truth import ground_truth
from bevstack.evaluation.results.box_entries import columns_of_results
from bevstack.evaluation.results.result_boxes import results_of_frame
from bevstack.files import naming, write_text_atomically
from bevstack.models.build import build_with_weights
from bevstack.models.detection3d.box_code import detections_from
from bevstack.tasks.task import ProcessGroup

Results = dict[str, list[dict[str, object]]]


def evaluate_held_out(
    weights: Mapping[str, Tensor],
    config: Config,
    held_out: NuScenesDataset,
    folder: Path,
    group: ProcessGroup,
) -> DetectionMetrics:
    """Evaluate a model with these weights; every process must call it.

    The samples are divided among the processes, and each is predicted from its whole clip, as in
    training. A separate model predicts, in evaluation mode and float32, so the trained model is
    unchanged.

    Args:
        weights: tensors that are not sharded, such as ``OptimizerStep.weights`` returns.
        config: the model's configuration.
        held_out: samples with annotations that are not used in training.
        folder: folder through which processes exchange their predictions in temporary files.
        group: this process among those that train together.

    Raises:
        FileNotFoundError: an image is missing; the message names the sample.
        ValueError: an image is damaged, or the held-out samples have no true box.
    """
    own_part = held_out.select(range(group.rank, len(held_out), group.world_size))
    own_part = own_part.without_annotations()
    results = _predict(weights, config, own_part, group)
    results = _merged(results, folder, group)
    tokens = [held_out.sample_token(index) for index in range(len(held_out))]
    columns = columns_of_results({token: results[token] for token in tokens})
    return evaluate(columns, _truth(held_out))


def check_scored_boxes(held_out: NuScenesDataset) -> None:
    """Check that the metric counts a true box of the held-out samples.

    Raises:
        ValueError: it counts none (gives the reason), or a box is not finite or has an unknown
            attribute (names its annotation).
    """
    reason = why_none_counts(_truth(held_out), MetricConfig())
    if reason is not None:
        raise ValueError(
            f"the {len(held_out)} held-out samples of {held_out.tables.folder} must have a true "
            f"box that the metric counts; got none: {reason}"
        )


def _truth(held_out: NuScenesDataset) -> GroundTruth:
    tables = held_out.tables
    tokens = [held_out.sample_token(index) for index in range(len(held_out))]
    rows = np.array([tables.sample_row(token) for token in tokens], dtype=np.int64)
    return ground_truth(tables, rows)


@torch.inference_mode()
def _predict(
    weights: Mapping[str, Tensor], config: Config, held_out: NuScenesDataset, group: ProcessGroup
) -> Results:
    model = build_with_weights(weights, config, group.device)
    recipe, decoder = config.training, config.decoder
    batch_size = max(1, recipe.batch_size // (recipe.accumulate * group.world_size))
    loader = make_evaluation_loader(
        held_out, config, batch_size=batch_size, num_workers=recipe.num_workers
    )
    results: Results = {}
    for batch in loader:
        output = model(batch.to(group.device))
        detections = detections_from(
            output.decoder,
            max_detections=decoder.max_detections,
            post_range_m=decoder.post_range_m,
            nms_iou=decoder.nms_iou,
        )
        for token, sample_detections in zip(batch.sample_tokens, detections, strict=True):
            frame = held_out.frame(held_out.index_of(token), load_images=False)
            boxes = results_of_frame(sample_detections.to("cpu"), frame, config.class_names)
            results[token] = boxes
    return results


def _merged(results: Results, folder: Path, group: ProcessGroup) -> Results:
    """Merge the predictions of all processes, in each of them."""
    if group.rank == 0:
        _remove_parts_of_killed_runs(folder, group.world_size)
    if group.world_size == 1:
        return results
    parts = [_part(folder, rank) for rank in range(group.world_size)]
    write_text_atomically(parts[group.rank], json.dumps(results))
    group.barrier()
    merged = _read(parts)
    group.barrier()
    parts[group.rank].unlink()
    return merged


def _part(folder: Path, rank: int) -> Path:
    return folder / f".evaluation.rank{rank}.json"


def _remove_parts_of_killed_runs(folder: Path, world_size: int) -> None:
    """Remove the files of processes that this run does not have."""
    own = {_part(folder, rank) for rank in range(world_size) if world_size > 1}
    for path in set(folder.glob(".evaluation.rank*.json")) - own:
        path.unlink()


def _read(parts: Sequence[Path]) -> Results:
    merged: Results = {}
    for part in parts:
        with naming(part):
            merged |= json.loads(part.read_text(encoding="utf-8"))
    return merged
