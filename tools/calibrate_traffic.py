"""Fit the calibration of a traffic head on held-out scenes and write the weights with it.

    python tools/calibrate_traffic.py --weights best.safetensors --nuscenes ROOT --version V
        --split synth_val --out calibrated.safetensors

The weights of the network stay as they are; only the temperatures change.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor

from bevstack.config import config_from_json
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.traffic_view.samples import FrontSamples, stack_samples
from bevstack.losses.traffic_targets import region_targets
from bevstack.models.build import read_task_config
from bevstack.models.build_traffic import traffic_model_with
from bevstack.models.traffic.calibration import calibrate
from bevstack.models.traffic.model import TrafficModel
from bevstack.models.weights import joint_name, read_weights_file, task_weights, write_safetensors
from bevstack.types.traffic_batch import BOX_KINDS, HIDDEN, SIGN

Pairs = dict[str, tuple[Tensor, Tensor]]


@torch.no_grad()
def collect(
    model: TrafficModel, samples: FrontSamples
) -> tuple[dict[int, tuple[Tensor, Tensor]], Pairs]:
    """Return logits and labels of every region: of the scores by kind, and of the factors."""
    scores: dict[int, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    factors: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    for row in range(len(samples)):
        batch = stack_samples([samples.prepare(row)])
        if not batch.num_images:
            continue
        output = model(batch.views)
        found = region_targets(output.regions, batch.targets, batch.labelled)
        for kind in range(len(BOX_KINDS)):
            own = (output.regions.kind == kind) & found.counts
            scores[kind].append((output.region.score[own], found.element[own] >= 0))
        rows = (found.element >= 0).nonzero()[:, 0]
        wanted = batch.targets[found.element[rows]]
        region, sign = output.region, wanted.kind == SIGN
        labels = {
            "color": (region.color[rows], torch.where(sign, -1, wanted.color)),
            "shape": (region.shape[rows], torch.where(sign, -1, wanted.shape)),
            "pedestrian": (region.pedestrian[rows], torch.where(sign, -1, wanted.pedestrian)),
            "meaning": (region.meaning[rows], wanted.meaning),
            "relevance": (output.relevance[rows].flatten(), wanted.relevance.flatten()),
        }
        for name, (logits, classes) in labels.items():
            kept = (classes >= 0) | (classes == HIDDEN)
            factors[name].append((logits[kept], classes[kept]))
    return (
        {kind: _joined(parts) for kind, parts in scores.items()},
        {name: _joined(parts) for name, parts in factors.items()},
    )


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([part for part, _ in parts]), torch.cat([part for _, part in parts])


def main() -> None:
    """Read the weights, fit, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--nuscenes", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--version", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    path, tensors, metadata = read_weights_file(arguments.weights)
    config = config_from_json(read_task_config(path, metadata, "traffic"))
    model = traffic_model_with(task_weights(tensors, "traffic"), config, torch.device("cpu"))
    dataset = NuScenesDataset(arguments.nuscenes, arguments.version, split=arguments.split)
    calibrate(model.calibration, *collect(model, FrontSamples.open(dataset, config)))
    changed = {
        joint_name("traffic", f"calibration.{name}"): value
        for name, value in model.calibration.state_dict().items()
    }
    write_safetensors(arguments.out, {**tensors, **changed}, metadata)
    for name, value in changed.items():
        print(f"{name}: {[round(float(x), 3) for x in value]}")


if __name__ == "__main__":
    main()
