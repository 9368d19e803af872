"""The perspective head in a batch of rigs: which images take part, and how they lie.

Letters: B batch, N cameras, I images that take part, L levels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bevstack.config import PerspectiveConfig
from bevstack.geometry import CameraRig
from bevstack.models.perspective.head import (
    PerspectiveHead,
    PerspectiveOutput,
    ground_seen_at,
    level_locations,
)
from bevstack.shapes import expect_shape
from bevstack.types import CameraAnnotations


@dataclass(frozen=True)
class PerspectiveViews:
    """What the perspective head says of some images of a batch.

    Images that augmentation mirrored are upright here: their features were mirrored back, and
    pixel u of the network's image is pixel ``padded_width - u`` of the upright one. So attitudes,
    and the order of left and right, are those of real cameras. Where the coarsest levels do not
    divide the width, mirroring maps back shifts them by up to half a stride, as in the released
    code.
    """

    output: PerspectiveOutput  # I images
    image: Tensor  # (I,) int64, sample * N + camera
    intrinsics: Tensor  # (I, 3, 3) float64 pixels of the upright image
    mirrored: Tensor  # (I,) bool, whether the network's image is mirrored
    padded_width: int  # pixels

    def upright(
        self,
        annotations: Sequence[Sequence[CameraAnnotations]],  # B x N, in the network's images
    ) -> list[CameraAnnotations]:  # I
        """The true boxes of the images that took part, in their upright images.

        Raises:
            ValueError: not every sample has its N cameras.
        """
        flat = [of_camera for of_sample in annotations for of_camera in of_sample]
        taken = self.image.tolist()
        if taken and max(taken) >= len(flat):
            raise ValueError(
                f"annotations must be one a camera of each sample; got {len(flat)} for image "
                f"{max(taken)}"
            )
        return [
            _mirror(flat[image], self.padded_width) if mirrored else flat[image]
            for image, mirrored in zip(taken, self.mirrored.tolist(), strict=True)
        ]


def look_from_cameras(
    head: PerspectiveHead,
    pyramid: Sequence[Tensor],  # L x (B, N, C, H_l, W_l)
    rig: CameraRig,  # leading axes (B,)
    *,
    wanted: Tensor,  # (B, N) bool, which images take part
    padded_width: int,  # pixels of the images the features cover
) -> PerspectiveViews:
    """Runs the perspective head on the wanted images, upright; there may be none.

    Raises:
        ValueError: ``wanted`` is not (B, N), or the head and the pyramid do not fit.
    """
    sizes = expect_shape("rig.camera_mask", rig.camera_mask, ("B", "N"))
    expect_shape("wanted", wanted, ("B", "N"), sizes)
    (image,) = wanted.flatten().nonzero(as_tuple=True)  # (I,)
    intrinsics = rig.intrinsics.flatten(0, 1)[image]
    mirrored = intrinsics[:, 0, 0] < 0
    upright = intrinsics.clone()
    upright[:, 0] = padded_width * intrinsics[:, 2] - intrinsics[:, 0]
    intrinsics = torch.where(mirrored[:, None, None], upright, intrinsics)
    levels = [_mirror_back(level.flatten(0, 1)[image], mirrored) for level in pyramid]
    ground = _ground(head.config, levels, intrinsics, rig.bev_from_cam.flatten(0, 1)[image])
    return PerspectiveViews(
        output=head(levels, ground),
        image=image,
        intrinsics=intrinsics,
        mirrored=mirrored,
        padded_width=padded_width,
    )


def _ground(
    config: PerspectiveConfig,
    levels: Sequence[Tensor],  # L x (I, C, H_l, W_l), upright
    intrinsics: Tensor,  # (I, 3, 3) float64, upright
    bev_from_cam: Tensor,  # (I, 4, 4) float64
) -> list[Tensor] | None:  # L x (I, H_l, W_l)
    """Inverse depth of the ground at all locations; None where the head is not to know."""
    if config.changes.ground_z_m is None:
        return None
    cam_from_image = torch.linalg.inv(intrinsics)
    seen = []
    for level, stride in zip(levels, config.strides, strict=True):
        shape = (int(level.shape[-2]), int(level.shape[-1]))
        places = level_locations([shape], [stride], device=level.device)
        inverse = ground_seen_at(
            places, cam_from_image, bev_from_cam, ground_z_m=config.changes.ground_z_m
        )
        seen.append(inverse.unflatten(1, shape))
    return seen


def _mirror_back(
    maps: Tensor,  # (I, C, H, W)
    mirrored: Tensor,  # (I,) bool
) -> Tensor:  # (I, C, H, W)
    return torch.where(mirrored[:, None, None, None], maps.flip(-1), maps)


def _mirror(annotations: CameraAnnotations, width: int) -> CameraAnnotations:
    left, top, right, bottom = annotations.boxes_px.unbind(-1)
    boxes = torch.stack((width - right, top, width - left, bottom), -1)
    return replace(annotations, boxes_px=boxes)
