"""Evaluation on held-out scenes during training, and writing of model files."""

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
from bevstack.evaluation.detection3d.evaluator import evaluate
from bevstack.evaluation.detection3d.metrics import DetectionMetrics
from bevstack.evaluation.detection3d.truth import ground_truth
from bevstack.evaluation.results.box_entries import columns_of_results
from bevstack.evaluation.results.result_boxes import results_of_frame
from bevstack.files import write_text_atomically
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.build import build_model, save_model
from bevstack.models.detection3d.box_code import detections_from
from bevstack.training.processes import Processes

Results = dict[str, list[dict[str, object]]]


def validate(
    weights: Mapping[str, Tensor],
    config: Config,
    held_out: NuScenesDataset,
    folder: Path,
    processes: Processes,
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
        processes: the processes that train together.

    Raises:
        FileNotFoundError: an image is missing; the message names the sample.
        ValueError: an image is damaged, or the held-out samples have no true box.
    """
    own_part = held_out.select(range(processes.rank, len(held_out), processes.world_size))
    results = _predict(weights, config, own_part, processes)
    results = _merged(results, folder, processes)
    tables = held_out.tables
    tokens = [held_out.sample_token(index) for index in range(len(held_out))]
    truth = ground_truth(tables, np.array([tables.sample_row(token) for token in tokens]))
    columns = columns_of_results({token: results[token] for token in tokens})
    return evaluate(columns, truth)


def build_with_weights(
    weights: Mapping[str, Tensor], config: Config, device: torch.device
) -> BEVFormerV2:
    """Build a separate model with given weights, in evaluation mode."""
    with torch.device("meta"):  # draws no random numbers, so that training is not affected
        model = build_model(config)
    model.load_state_dict({name: w.to(device) for name, w in weights.items()}, assign=True)
    return model.eval()


def write_weights(
    path: Path,
    weights: Mapping[str, Tensor],
    config: Config,
    *,
    steps: int,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write weights of a training as a model file, with their number of training steps.

    Raises:
        OSError: the file is not writable, or the disk is full. An older file of that name stays
            intact.
    """
    recorded = {"steps": str(steps), "ema_decay": str(config.training.ema_decay)}
    model = build_with_weights(weights, config, torch.device("cpu"))
    save_model(path, model, config, {**recorded, **(metadata or {})})


@torch.inference_mode()
def _predict(
    weights: Mapping[str, Tensor], config: Config, held_out: NuScenesDataset, processes: Processes
) -> Results:
    model = build_with_weights(weights, config, processes.device)
    recipe, decoder = config.training, config.decoder
    batch_size = max(1, recipe.batch_size // (recipe.accumulate * processes.world_size))
    loader = make_evaluation_loader(
        held_out, config, batch_size=batch_size, num_workers=recipe.num_workers
    )
    results: Results = {}
    for batch in loader:
        output = model(batch.to(processes.device))
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


def _merged(results: Results, folder: Path, processes: Processes) -> Results:
    """Merge the predictions of all processes, in each of them."""
    if processes.world_size == 1:
        return results
    parts = [folder / f".evaluation.rank{rank}.json" for rank in range(processes.world_size)]
    write_text_atomically(parts[processes.rank], json.dumps(results))
    processes.barrier()
    merged = _read(parts)
    processes.barrier()
    parts[processes.rank].unlink()
    return merged


def _read(parts: Sequence[Path]) -> Results:
    merged: Results = {}
    for part in parts:
        merged |= json.loads(part.read_text(encoding="utf-8"))
    return merged
