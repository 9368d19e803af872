"""Evaluation of lights and signs on held-out scenes, divided among the processes of a training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bevstack.config import Config
from bevstack.datasets.traffic_view.samples import FrontSamples, stack_samples
from bevstack.evaluation.traffic.head_figures import Judged, figures
from bevstack.models.build_traffic import traffic_model_with, traffic_section
from bevstack.models.traffic.decode import decode
from bevstack.tasks.task import ProcessGroup, Score


def evaluate_traffic(
    weights: Mapping[str, Tensor],
    config: Config,
    held_out: FrontSamples,
    folder: Path,
    group: ProcessGroup,
) -> Score:
    """Score weights on held-out samples; every process computes the same.

    Raises:
        ValueError: there is no label to score.
    """
    judged = predict_held_out(weights, config, held_out, group.device)
    return Score(figures(judged), judged)


@torch.no_grad()
def predict_held_out(
    weights: Mapping[str, Tensor], config: Config, held_out: FrontSamples, device: torch.device
) -> list[Judged]:
    """Return the detections in every front image, with the true elements."""
    model = traffic_model_with(weights, config, device)
    assert held_out.index is not None  # they are to be scored
    judged = []
    for row in range(len(held_out)):
        sample = held_out.prepare(row)
        if not sample.images:
            continue
        views = stack_samples([sample]).views.to(device)
        found = decode(model(views), views, traffic_section(config), model.calibration)[0]
        for camera in sample.cameras:
            truth = held_out.index.elements.get((sample.sample_token, camera.name), ())
            judged.append(Judged(found[found.camera == camera.camera], truth))
    return judged
