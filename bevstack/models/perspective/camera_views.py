"""The perspective head on a batch of rigs: selected images, with mirroring undone.

Letters: B batch, N cameras, I selected images, L levels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bevstack.config import PerspectiveConfig
from bevstack.geometry import CameraRig
from bevstack.models.layers.mirroring import mirror_back
from bevstack.models.layers.sizes import Sizes
from bevstack.models.perspective.head import (
    PerspectiveHead,
    PerspectiveOutput,
    ground_inverse_depth,
    level_locations,
)
from bevstack.shapes import expect_shape
from bevstack.types import CameraAnnotations


@dataclass(frozen=True)
class PerspectiveViews:
    """Predictions of the perspective head for some images of a batch.

    Mirroring by augmentation is undone: features were mirrored back, and pixel u of the network's
    image is pixel ``padded_width - u`` here. So attitudes, and the order of left and right, are
    those of real cameras. If the strides of the coarsest levels do not divide the width, mirroring
    back shifts their maps by up to half a stride, as in the released code.
    """

    output: PerspectiveOutput  # I images
    image: Tensor  # (I,) int64, sample * N + camera
    intrinsics: Tensor  # (I, 3, 3) float64 pixels of the unmirrored image
    mirrored: Tensor  # (I,) bool, True if the network's image is mirrored
    padded_width: int  # pixels

    def unmirror(
        self,
        annotations: Sequence[Sequence[CameraAnnotations]],  # B x N, in the network's images
    ) -> list[CameraAnnotations]:  # I
        """Return the true boxes of the selected images, with mirroring undone.

        Raises:
            ValueError: there is no annotation for a selected image.
        """
        flat = [camera for sample in annotations for camera in sample]
        images = self.image.tolist()
        if images and max(images) >= len(flat):
            raise ValueError(
                f"annotations must be one a camera of each sample; got {len(flat)} for image "
                f"{max(images)}"
            )
        return [
            _mirror(flat[image], self.padded_width) if mirrored else flat[image]
            for image, mirrored in zip(images, self.mirrored.tolist(), strict=True)
        ]


def run_perspective_head(
    head: PerspectiveHead,
    pyramid: Sequence[Tensor],  # L x (B, N, C, H_l, W_l)
    rig: CameraRig,  # leading axes (B,)
    *,
    wanted: Tensor | None,  # (B, N) bool, True for images to run the head on; None: all
    padded_width: int,  # pixels of the images the features cover
    sizes: Sizes | None = None,
) -> PerspectiveViews:
    """Run the perspective head on the wanted images, with mirroring undone; there may be none.

    Raises:
        ValueError: ``wanted`` is not (B, N), or the pyramid does not fit the head.
    """
    shape = expect_shape("rig.camera_mask", rig.camera_mask, ("B", "N"))
    if wanted is None:
        image = torch.arange(shape["B"] * shape["N"], device=rig.camera_mask.device)
    else:
        expect_shape("wanted", wanted, ("B", "N"), shape)
        (image,) = wanted.flatten().nonzero(as_tuple=True)  # (I,)
    intrinsics = rig.intrinsics.flatten(0, 1)[image]
    mirrored = rig.mirrored.flatten()[image]
    unmirrored = intrinsics.clone()
    unmirrored[:, 0] = padded_width * intrinsics[:, 2] - intrinsics[:, 0]
    intrinsics = torch.where(mirrored[:, None, None], unmirrored, intrinsics)
    levels = mirror_back([level.flatten(0, 1)[image] for level in pyramid], mirrored, sizes)
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
    levels: Sequence[Tensor],  # L x (I, C, H_l, W_l), unmirrored
    intrinsics: Tensor,  # (I, 3, 3) float64, unmirrored
    bev_from_cam: Tensor,  # (I, 4, 4) float64
) -> list[Tensor] | None:  # L x (I, H_l, W_l)
    """Return the inverse depth of the ground at all locations; None for a head without ground."""
    if config.changes.ground_z_m is None:
        return None
    cam_from_image = torch.linalg.inv_ex(intrinsics).inverse  # inv waits to check for errors
    ground = []
    for level, stride in zip(levels, config.strides, strict=True):
        shape = (int(level.shape[-2]), int(level.shape[-1]))
        locations = level_locations([shape], [stride], device=level.device)
        inverse_depth = ground_inverse_depth(
            locations, cam_from_image, bev_from_cam, ground_z_m=config.changes.ground_z_m
        )
        ground.append(torch.unflatten(inverse_depth, 1, shape))
    return ground


def _mirror(annotations: CameraAnnotations, width: int) -> CameraAnnotations:
    left, top, right, bottom = annotations.boxes_px.unbind(-1)
    boxes = torch.stack((width - right, top, width - left, bottom), -1)
    return replace(annotations, boxes_px=boxes)
