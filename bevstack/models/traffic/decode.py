"""Outputs of the traffic model as detections of each sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config.traffic import KMH_PER_MPS, TrafficConfig
from bevstack.models.layers.nms import suppress
from bevstack.models.traffic.calibration import Calibration
from bevstack.models.traffic.model import TrafficOutput
from bevstack.types.traffic_batch import LAMP_ONLY, SIGN, TrafficViews
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.vocabulary import ROAD_SIGN, SIGN_MEANINGS, TRAFFIC_LIGHT

LEAST_SHARE = 0.5  # a less probable number counts as not read


@torch.no_grad()
def decode(
    output: TrafficOutput, views: TrafficViews, config: TrafficConfig, calibration: Calibration
) -> list[TrafficDetections]:  # B
    """Return the detections of every sample, with boxes in pixels of the cameras' images.

    A box is dropped if a better one of its kind overlaps it by more than ``nms_iou``.
    """
    scores = calibration.score(output.region.score, output.regions.kind)
    kept = [_best_of_image(output, scores, image, config) for image in range(len(views.image_size))]
    chosen = torch.cat([*kept, torch.zeros(0, dtype=torch.int64, device=scores.device)])
    detections = _detections(output, views, calibration, scores, chosen, config)
    samples = _array(views.sample[output.regions.image[chosen]])
    parts = [detections[samples == row] for row in range(len(views.ego_motion))]
    return [part[np.argsort(-part.scores, kind="stable")] for part in parts]


def _best_of_image(
    output: TrafficOutput, scores: Tensor, image: int, config: TrafficConfig
) -> Tensor:  # (n,) rows
    own = (output.regions.image == image) & (scores >= config.score_threshold)
    rows = own.nonzero()[:, 0]
    rows = rows[scores[rows].argsort(descending=True, stable=True)]
    boxes, kinds = output.region.boxes_px[rows], output.regions.kind[rows]
    everything = torch.ones_like(kinds, dtype=torch.bool)[None]
    kept = suppress(boxes[None], kinds[None], valid=everything, iou=config.nms_iou)[0]
    return rows[kept][: config.max_elements]


def _detections(
    output: TrafficOutput,
    views: TrafficViews,
    calibration: Calibration,
    scores: Tensor,
    rows: Tensor,  # (E,)
    config: TrafficConfig,
) -> TrafficDetections:
    image, kind = output.regions.image[rows], output.regions.kind[rows]
    region, place = output.region, output.place
    factor, shift = torch.split(views.image_from_view[image], 2, 1)
    boxes = region.boxes_px[rows] * factor.repeat(1, 2) + shift.repeat(1, 2)

    def probabilities(name: str, logits: Tensor) -> NDArray[np.float64]:
        return _array(calibration.scaled(name, logits[rows]).double().softmax(1))

    pedestrian = calibration.scaled("pedestrian", region.pedestrian[rows]).double().sigmoid()
    relevance = calibration.scaled("relevance", output.relevance[rows])
    return TrafficDetections(
        camera=_array(views.camera[image]),
        boxes_px=_array(boxes.double()),
        scores=_array(scores[rows].double()),
        category=np.where(_array(kind == SIGN), ROAD_SIGN, TRAFFIC_LIGHT).astype(np.int64),
        color=probabilities("color", region.color),
        shape=probabilities("shape", region.shape),
        meaning=probabilities("meaning", region.meaning),
        position_m=_array(place.position_m[rows]),
        position_cov_m2=_array(place.cov_m2[rows]),
        heading_rad=_array(place.heading_rad[rows]),
        heading_std_rad=_array(place.heading_std_rad[rows]),
        relevance=_array(relevance.double()),
        lamp_box=_array(kind == LAMP_ONLY),
        pedestrian=_array(pedestrian),
        speed_limit_mps=_numbers(output, rows, config) if config.speed_limits_kmh else None,
    )


def _numbers(
    output: TrafficOutput,
    rows: Tensor,  # (E,)
    config: TrafficConfig,
) -> NDArray[np.float64]:  # (E,)
    """Return the number of every sign that is most probably a speed limit; NaN: none was read."""
    shares, best = output.region.speed_limit[rows].double().softmax(1).max(1)
    limits_mps = best.new_tensor(config.speed_limits_kmh).double()[best] / KMH_PER_MPS
    is_limit = output.region.meaning[rows].argmax(1) == SIGN_MEANINGS.index("speed_limit")
    is_limit &= (output.regions.kind[rows] == SIGN) & (shares > LEAST_SHARE)
    return _array(torch.where(is_limit, limits_mps, torch.nan))


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array
