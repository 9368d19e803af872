from __future__ import annotations

import pytest
from torch import Tensor

from bevstack.config import Config, ImageConfig
from bevstack.datasets.collate import prepare_clip
from bevstack.geometry import invert_se3, se3_from_parts
from bevstack.types import Clip, Frame
from tests.models.bevformer_oracle import Case, assert_close, read_case, rig_of

OFFSETS = (-3, -2, -1, 0, 1)


def frame_of(case: Case, rig: str, offset: int) -> Frame:
    """Return a stored moment as a frame without images; its bev frame is the lidar frame."""

    def pose(name: str) -> Tensor:
        rotation, translation = case.inputs[f"{name}_q"], case.inputs[f"{name}_t"]
        return se3_from_parts(rotation, translation)

    ego_from_lidar = pose(f"{rig}.lidar2ego")
    # A camera without an image has a size of one pixel.
    cameras = rig_of(case.inputs[f"{rig}.{offset}.lidar2img_raw"], (1, 1))[0]
    return Frame(
        images=[None] * cameras.num_cameras,
        intrinsics=cameras.intrinsics,
        ego_from_cam=ego_from_lidar @ cameras.bev_from_cam,
        world_from_ego=pose(f"{rig}.{offset}.ego2global"),
        bev_from_ego=invert_se3(ego_from_lidar),
    )


@pytest.mark.oracle("temporal_projection")
@pytest.mark.parametrize("rig", ["real_old0", "real_old1"])
def test_past_and_future_rigs_project_as_the_published_ones(rig: str) -> None:
    case = read_case("temporal_projection")
    clip = Clip(tuple(frame_of(case, rig, offset) for offset in OFFSETS), OFFSETS)
    prepared = prepare_clip(clip, Config(name="lidar", images=ImageConfig()))
    current_from_world = invert_se3(prepared.world_from_bev[OFFSETS.index(0)])
    for slot, offset in enumerate(OFFSETS):
        image_from_bev = prepared.rig[slot].image_from_bev
        wanted = case.outputs[f"{rig}.{offset}.lidar2img"]
        assert_close(image_from_bev, wanted, case.tolerance)
        if offset != 0:
            motion = current_from_world @ prepared.world_from_bev[slot]
            stored = case.outputs[f"{rig}.{offset}.lidaradj2lidarcurr"]
            assert_close(motion, stored, case.tolerance)
            raw = case.inputs[f"{rig}.{offset}.lidar2img_raw"]
            assert float((wanted - raw).abs().max()) > 1  # it did change
