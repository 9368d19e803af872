"""Model input and labels of lights and signs: images of the front cameras of several samples.

Letters: M images of all samples, B samples, E labelled elements of all images.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from bevstack.shapes import expect_shape
from bevstack.vocabulary import MANOEUVRES

# What a box can surround: the housing of a light, its lit lamp alone, or the plate of a sign.
LIGHT, LAMP_ONLY, SIGN = 0, 1, 2
BOX_KINDS = ("light", "lamp", "sign")
UNKNOWN = -1  # a label that is not known
HIDDEN = -2  # a colour that the image does not show: all are to be equally probable


@dataclass(frozen=True)
class TrafficTargets:
    """Labels of E elements. A class of -1 and a NaN are unknown and are not learned."""

    image: Tensor  # (E,) int64, index into the images
    boxes_px: Tensor  # (E, 4) float32 left, top, right, bottom, in pixels of the model's images
    kind: Tensor  # (E,) int64, of BOX_KINDS
    ignored: Tensor  # (E,) bool, True: neither positive nor negative
    color: Tensor  # (E,) int64, of LIGHT_COLORS, or HIDDEN
    shape: Tensor  # (E,) int64, of LAMP_SHAPES
    pedestrian: Tensor  # (E,) int64, 1 if for pedestrians
    meaning: Tensor  # (E,) int64, of SIGN_MEANINGS
    speed_limit: Tensor  # (E,) int64, of TrafficConfig.speed_limits_kmh
    depth_m: Tensor  # (E,) float32, along the optical axis
    aspect_rad: Tensor  # (E,) float32, turn of the face from the camera, 0 if it looks there
    relevance: Tensor  # (E, len(MANOEUVRES)) int64, 1 if it governs the own vehicle

    def __post_init__(self) -> None:
        sizes = expect_shape("boxes_px", self.boxes_px, ("E", 4))
        expect_shape("relevance", self.relevance, ("E", len(MANOEUVRES)), sizes)
        for field in fields(self):
            if field.name not in ("boxes_px", "relevance"):
                expect_shape(field.name, getattr(self, field.name), ("E",), sizes)

    def __len__(self) -> int:
        """Return E."""
        return int(self.boxes_px.shape[0])

    def __getitem__(self, index: Tensor) -> TrafficTargets:
        """Return some of the elements."""
        return TrafficTargets(*(getattr(self, field.name)[index] for field in fields(self)))

    def to(self, device: torch.device | str) -> TrafficTargets:
        """Return the labels on a device."""
        return TrafficTargets(*(getattr(self, field.name).to(device) for field in fields(self)))

    @staticmethod
    def empty() -> TrafficTargets:
        """Return no labels."""
        whole = torch.zeros(0, dtype=torch.int64)
        real = torch.zeros(0)
        none = torch.zeros(0, dtype=torch.bool)
        boxes, relevance = torch.zeros(0, 4), torch.zeros(0, len(MANOEUVRES), dtype=torch.int64)
        return TrafficTargets(
            whole, boxes, whole, none, whole, whole, whole, whole, whole, real, real, relevance
        )

    @staticmethod
    def concatenate(parts: list[TrafficTargets]) -> TrafficTargets:
        """Concatenate labels; their image indices must refer to the same images."""
        if not parts:
            return TrafficTargets.empty()
        return TrafficTargets(
            *(torch.cat([getattr(p, field.name) for p in parts]) for field in fields(parts[0]))
        )


@dataclass(frozen=True)
class TrafficViews:
    """M images of the front cameras of B samples, padded to one size.

    Calibrations are those of the model's images: cropped, resized and mirrored with them.
    """

    images: Tensor  # (M, 3, H, W) float32, normalised, zero where padded
    image_size: Tensor  # (M, 2) int64 (H, W) without padding
    intrinsics: Tensor  # (M, 3, 3) float64, pixels
    ego_from_cam: Tensor  # (M, 4, 4) float64, ego frame at the sample's reference time
    sample: Tensor  # (M,) int64, index of the sample
    camera: Tensor  # (M,) int64, index of the camera in its frame
    # (M, 4) float32 (a, b, left, top): (u, v) lies at (a u + left, b v + top) in the camera's image
    image_from_view: Tensor
    # (B, 3) float32: speed in m/s, curvature of the path in 1/m (left is positive), and 1 if both
    # are known, else 0
    ego_motion: Tensor

    def __post_init__(self) -> None:
        sizes = expect_shape("images", self.images, ("M", 3, "H", "W"))
        expect_shape("image_size", self.image_size, ("M", 2), sizes)
        expect_shape("intrinsics", self.intrinsics, ("M", 3, 3), sizes)
        expect_shape("ego_from_cam", self.ego_from_cam, ("M", 4, 4), sizes)
        expect_shape("sample", self.sample, ("M",), sizes)
        expect_shape("camera", self.camera, ("M",), sizes)
        expect_shape("image_from_view", self.image_from_view, ("M", 4), sizes)
        expect_shape("ego_motion", self.ego_motion, ("B", 3))

    def to(self, device: torch.device | str) -> TrafficViews:
        """Return the images on a device."""
        return TrafficViews(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class TrafficBatch:
    """Images of the front cameras of several samples, with labels.

    A sample without a front camera has no image.
    """

    views: TrafficViews
    targets: TrafficTargets
    # (M, len(BOX_KINDS)) bool, True: every visible element of the kind has a label in the image
    labelled: Tensor
    sample_tokens: tuple[str, ...]  # B

    @property
    def num_images(self) -> int:
        """Return M."""
        return int(self.views.images.shape[0])

    def to(self, device: torch.device | str) -> TrafficBatch:
        """Return the batch on a device."""
        return replace(
            self,
            views=self.views.to(device),
            targets=self.targets.to(device),
            labelled=self.labelled.to(device),
        )

    def pin_memory(self) -> TrafficBatch:
        """Return the batch with its images in page-locked memory; this needs a GPU."""
        views = replace(self.views, images=self.views.images.pin_memory())
        return replace(self, views=views)
