"""Lights and signs learned from labelled single pictures, as a task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bevstack.config import Config
from bevstack.datasets.images import read_image
from bevstack.datasets.traffic_view.pictures import PictureSamples, PictureSet
from bevstack.datasets.traffic_view.samples import stack_samples
from bevstack.evaluation.baselines.color_blobs import find_color_blobs
from bevstack.evaluation.traffic.picture_scores import PictureFigures
from bevstack.file_names import path_inside
from bevstack.models.build_traffic import traffic_model_with, traffic_section
from bevstack.models.traffic.decode import decode
from bevstack.tables.detected_pictures import labelled_image
from bevstack.tasks.task import ProcessGroup, Score
from bevstack.tasks.traffic import Traffic
from bevstack.types.labelled_images import LabelledImage


class PictureTraffic(Traffic):
    """The task "traffic" on pictures; models and files are those of ``Traffic``.

    Args:
        config: the detector, with a traffic section, and its recipe.
        pictures: the training pictures.
        held_out: labelled pictures that are not used in training; None: no evaluation.

    Raises:
        ValueError: the configuration has no traffic section.
    """

    def __init__(
        self,
        config: Config,
        pictures: PictureSamples | None = None,
        *,
        held_out: PictureSamples | None = None,
    ) -> None:
        super().__init__(config)
        self.own_samples = pictures
        self.held_out_pictures = held_out
        self.has_held_out = held_out is not None

    def evaluate(self, weights: Mapping[str, Tensor], folder: Path, group: ProcessGroup) -> Score:
        """Score weights on the held-out pictures; every process computes the same.

        The headline is the mean over the sets of the mean average precision over the attributes
        that the set has.
        """
        assert self.held_out_pictures is not None  # has_held_out
        predicted = predict_samples(weights, self.config, self.held_out_pictures, group.device)
        figures: dict[str, float] = {}
        means, first = [], 0
        for own in self.held_out_pictures.sets:
            found = predicted[first : first + len(own.images)]
            first += len(own.images)
            present = sorted({e.attribute for image in own.images for e in image.elements})
            rows = np.arange(len(own.images))
            scored = PictureFigures(own.images, found, group=rows, attributes=present)
            values = scored.figures(np.ones(len(rows), np.int64)).tolist()
            for name, value in zip(scored.names, values, strict=True):
                figures[f"{own.name}/{name}"] = value
            means.append(values[-1])
        return Score({"headline": float(np.mean(means)), **figures})


@torch.no_grad()
def predict_samples(
    weights: Mapping[str, Tensor], config: Config, samples: PictureSamples, device: torch.device
) -> list[LabelledImage]:
    """Return the predicted elements of every picture, under its path."""
    model = traffic_model_with(weights, config, device)
    found = []
    for row, (_, image) in enumerate(samples.rows):
        views = stack_samples([samples.prepare(row)]).views.to(device)
        elements = decode(model(views), views, traffic_section(config), model.calibration)[0]
        size = image.size or _size(views.image_size[0], views.image_from_view[0])
        found.append(labelled_image(image.path, size, elements))
    return found


def color_blobs_of(pictures: PictureSet) -> list[LabelledImage]:
    """Return the colour-blob rule's lights of pictures, in the convention of their true boxes.

    Raises:
        FileNotFoundError: a picture is missing.
        ValueError: a picture is damaged, or the true boxes have two conventions.
    """
    conventions = {e.box_convention for image in pictures.images for e in image.elements}
    if len(conventions) != 1:
        raise ValueError(
            f"true boxes must have one convention; got {', '.join(sorted(conventions)) or 'none'}"
        )
    (convention,) = conventions
    return [
        find_color_blobs(
            read_image(path_inside(pictures.root, image.path, what="path of a picture")),
            path=image.path,
            box_convention=convention,
        )
        for image in pictures.images
    ]


def _size(view: Tensor, image_from_view: Tensor) -> tuple[int, int]:
    """Return the size (H, W) of a whole picture from that of its view."""
    across, down, left, top = image_from_view.tolist()
    height, width = view.tolist()
    return round(height * down + top), round(width * across + left)
