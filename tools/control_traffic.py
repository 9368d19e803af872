"""Score a traffic head on a split, and again with the upper half of every image blanked.

    python tools/control_traffic.py --weights run/best.safetensors --nuscenes ROOT --version V
        --split synth_test

Lights are in the upper half, so a head that looks at them must collapse in the second column. The
same program scores heads that were trained with ``traffic.control``: their labels were wrong, so
the figure of colours or of arrows must collapse in the first column.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bevstack.config import config_from_json
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.traffic_view.front_view import FrontCamera
from bevstack.datasets.traffic_view.labels import class_of_shape
from bevstack.datasets.traffic_view.samples import FrontSamples
from bevstack.models.build import read_task_config
from bevstack.models.layers.nms import image_iou
from bevstack.models.weights import read_weights_file, task_weights
from bevstack.tasks.traffic_held_out import (
    PredictedImage,
    figures_of_scores,
    predict_held_out,
    score_images,
)
from bevstack.vocabulary import LAMP_SHAPES

MATCH_IOU = 0.3
SIDES = [LAMP_SHAPES.index("left"), LAMP_SHAPES.index("right")]


class BlankedSamples(FrontSamples):
    """Samples whose images have the mean colour in their upper half; labels stay."""

    def read(self, index: int) -> tuple[list[FrontCamera], Tensor]:
        """Return the front cameras with blanked images, and the pose of the sample."""
        cameras, world_from_ego = super().read(index)
        return [replace(camera, image=self._blanked(camera)) for camera in cameras], world_from_ego

    def _blanked(self, camera: FrontCamera) -> np.ndarray:
        mean = self.images.mean
        blanked = camera.image.copy()
        color = mean if self.images.channel_order == "rgb" else mean[::-1]
        blanked[: len(blanked) // 2] = np.rint(color)
        return blanked


def arrow_accuracy(images: list[PredictedImage]) -> tuple[int, int]:
    """Count the found arrows to the left and right, and those of the right direction among them."""
    right = total = 0
    for image in images:
        found = torch.from_numpy(image.detections.boxes_px)
        for element in image.truth:
            shape = class_of_shape(element)
            overlap = image_iou(torch.tensor(element.box_px, dtype=found.dtype), found)
            if shape not in SIDES or not len(found) or float(overlap.max()) < MATCH_IOU:
                continue
            shares = image.detections.shape[int(overlap.argmax()), SIDES]
            right, total = right + (SIDES[int(shares.argmax())] == shape), total + 1
    return right, total


def main() -> None:
    """Print the figures of both columns."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--nuscenes", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--version", required=True)
    parser.add_argument("--split", required=True)
    arguments = parser.parse_args()
    path, tensors, metadata = read_weights_file(arguments.weights)
    config = config_from_json(read_task_config(path, metadata, "traffic"))
    dataset = NuScenesDataset(arguments.nuscenes, arguments.version, split=arguments.split)
    normal = FrontSamples.open(dataset, config)
    blanked = BlankedSamples(dataset, normal.index, config=normal.config, images=normal.images)
    weights, columns = task_weights(tensors, "traffic"), []
    for samples in (normal, blanked):
        images = predict_held_out(weights, config, samples, torch.device("cpu"))
        right, total = arrow_accuracy(images)
        figures = figures_of_scores(score_images(images))
        columns.append({**figures, "arrow_side": right / total if total else np.nan})
    print(f"{'figure':24s} {'normal':>8s} {'blanked':>8s}")
    for name in columns[0]:
        print(f"{name:24s} {columns[0][name]:8.3f} {columns[1][name]:8.3f}")


if __name__ == "__main__":
    main()
