"""Evaluation of lights and signs on held-out scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bevstack.config import Config
from bevstack.datasets.traffic_view.samples import FrontSamples, stack_samples
from bevstack.evaluation.traffic.element_columns import predicted_columns, true_columns
from bevstack.evaluation.traffic.element_scores import (
    ElementScores,
    MatchedElements,
    color_accuracy,
    macro,
    score_elements,
)
from bevstack.models.build_traffic import traffic_model_with, traffic_section
from bevstack.models.traffic.decode import decode
from bevstack.tasks.task import ProcessGroup, Score
from bevstack.types.traffic import TrafficElement
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.vocabulary import TRAFFIC_ELEMENT_ATTRIBUTES


class PredictedImage(NamedTuple):
    """Detections and true elements of one front image, boxes in its pixels."""

    detections: TrafficDetections
    truth: Sequence[TrafficElement]
    ego_position_m: Tensor  # (3,) of the vehicle, in the world frame


def evaluate_traffic(
    weights: Mapping[str, Tensor],
    config: Config,
    held_out: FrontSamples,
    folder: Path,
    group: ProcessGroup,
) -> Score:
    """Score weights on held-out samples; every process computes the same.

    The headline is the mean of the average precision of red, green and yellow lights from 6 px and
    the macro average precision of signs from 10 px.
    """
    scores = score_images(predict_held_out(weights, config, held_out, group.device))
    known = figures_of_scores(scores)
    return Score({name: value for name, value in known.items() if not np.isnan(value)}, scores)


def figures_of_scores(scores: ElementScores) -> dict[str, float]:
    """Return the single figures by name; NaN for one without true elements."""
    lights, signs = macro(list(scores.lights)), macro(list(scores.signs))
    known = [value for value in (lights, signs) if not np.isnan(value)]
    colors = {
        f"ap_{TRAFFIC_ELEMENT_ATTRIBUTES[row]}": precision.value
        for row, precision in zip((1, 2, 3), scores.lights, strict=True)
    }
    return {
        "headline": float(np.mean(known)) if known else 0.0,
        "light_map": lights,
        "sign_map": signs,
        **colors,
        "color_accuracy": color_accuracy(scores.confusion),
        "speed_limit_accuracy": scores.numbers.accuracy,
        "det_t": scores.det_t,
    }


def score_images(images: Sequence[PredictedImage]) -> ElementScores:
    """Score the elements of images."""
    truth = [element for image in images for element in image.truth]
    counts = [len(image.truth) for image in images]
    places = [image.ego_position_m.numpy()[None].repeat(len(image.truth), 0) for image in images]
    true = true_columns(
        truth,
        np.repeat(np.arange(len(images)), counts),
        np.concatenate([np.zeros((0, 3)), *places]),
    )
    # one image a detection set: its camera stands for the image
    numbers = [
        np.full(int(image.detections.camera.max(initial=0)) + 1, row)
        for row, image in enumerate(images)
    ]
    predicted = predicted_columns([image.detections for image in images], numbers)
    return score_elements(MatchedElements(true, predicted))


@torch.no_grad()
def predict_held_out(
    weights: Mapping[str, Tensor], config: Config, held_out: FrontSamples, device: torch.device
) -> list[PredictedImage]:
    """Return the detections in every front image, with the true elements."""
    model = traffic_model_with(weights, config, device)
    assert held_out.index is not None  # they are to be scored
    predicted = []
    for row in range(len(held_out)):
        sample = held_out.prepare(row)
        if not sample.images:
            continue
        views = stack_samples([sample]).views.to(device)
        found = decode(model(views), views, traffic_section(config), model.calibration)[0]
        position = held_out.world_from_ego(row)[:3, 3]
        for camera in sample.cameras:
            truth = held_out.index.elements.get((sample.sample_token, camera.name), ())
            own = found[found.camera == camera.camera]
            predicted.append(PredictedImage(own, truth, position))
    return predicted
