"""Reading of the stored BEVFormer v2 cases: inputs, published weights, outputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import torch
from safetensors import safe_open
from torch import Tensor, nn

from bevstack.geometry import BEVGrid, CameraRig
from bevstack.interop.bevformer_names import BEVFORMER_V2, NOT_WEIGHTS
from bevstack.interop.public_weights import convert_weights
from bevstack.models.detection3d.visible_pairs import VisiblePairs
from tests.conftest import shared_dir

ENCODER_LAYER = "pts_bbox_head.transformer.encoder.layers.0."


@dataclass(frozen=True)
class Case:
    inputs: dict[str, Tensor]
    weights: dict[str, Tensor]  # under published names relative to the module
    outputs: dict[str, Tensor]
    cfg: dict[str, Any]
    tolerance: float  # of the case's own manifest: |a - b| <= tolerance (1 + |b|)

    def features(self, name: str, levels: int = 4) -> list[Tensor]:
        return [self.inputs[f"{name}.{level}"] for level in range(levels)]

    @property
    def image_size(self) -> tuple[int, int]:
        height, width = self.inputs["img_hw"].tolist()
        return height, width


def read_case(name: str) -> Case:
    shared = shared_dir()
    assert shared is not None
    folder = shared / "oracle" / "bevformer_v2"
    manifest = json.loads((folder / "MANIFEST.json").read_text(encoding="utf-8"))
    entry = next(e for e in manifest["cases"] if e["file"] == f"{name}.safetensors")
    parts: dict[str, dict[str, Tensor]] = {"in": {}, "w": {}, "out": {}}
    with safe_open(folder / entry["file"], framework="pt") as file:
        for key in file.keys():  # noqa: SIM118
            kind, rest = key.split("/", 1)
            parts[kind][rest] = file.get_tensor(key)
    return Case(parts["in"], parts["w"], parts["out"], entry["cfg"], entry["rtol_atol"])


def assert_close(got: Tensor, wanted: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


def load_published(
    module: nn.Module,
    weights: dict[str, Tensor],
    *,
    published: str,
    ours: str,
    allow_missing: Sequence[str] = (),
) -> None:
    """Load weights of a published module, converted by the same tables as whole files."""
    wanted = {ours + name: value for name, value in module.state_dict().items()}
    named = {published + name: value for name, value in weights.items()}
    converted, _ = convert_weights(
        named,
        wanted,
        BEVFORMER_V2,
        allow_missing=[ours + name for name in allow_missing],
        allow_left_over=NOT_WEIGHTS,
    )
    module.load_state_dict(
        {name.removeprefix(ours): value for name, value in converted.items()},
        strict=not allow_missing,
    )


def rig_of(
    lidar2img: Tensor,  # (N, 4, 4)
    image_size: tuple[int, int],
) -> CameraRig:  # leading axes (1,)
    """Return the pinhole cameras of published projection matrices, by RQ decomposition."""
    intrinsics, poses = [], []
    for matrix in lidar2img.double().numpy():
        upper, rotation = scipy.linalg.rq(matrix[:3, :3])
        flip = np.diag(np.sign(np.diag(upper)))
        upper, rotation = upper @ flip, flip @ rotation
        cam_from_bev = np.eye(4)
        cam_from_bev[:3, :3] = rotation
        cam_from_bev[:3, 3] = np.linalg.solve(upper, matrix[:3, 3])
        intrinsics.append(upper)
        poses.append(np.linalg.inv(cam_from_bev))
    count = len(poses)
    return CameraRig(
        torch.tensor(np.stack(intrinsics))[None],
        torch.tensor(np.stack(poses))[None],
        torch.tensor(image_size).expand(1, count, 2),
        torch.ones(1, count, dtype=torch.bool),
    )


def grid_of(
    shape: Sequence[int], pc_range: Sequence[float] = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)
) -> BEVGrid:
    x0, y0, z0, x1, y1, z1 = pc_range
    return BEVGrid(
        x_range_m=(x0, x1),
        y_range_m=(y0, y1),
        z_range_m=(z0, z1),
        shape=(shape[0], shape[1]),
        frame="lidar",
    )


def pack_pairs(
    anchors: Tensor,  # (B, N, Q, Z, 2)
    visible: Tensor,  # (B, N, Q, Z) bool
) -> VisiblePairs:
    """Return visible pairs, collected by loops."""
    batch, cameras, queries = visible.shape[:3]
    camera, query, chosen = [], [], []
    count = torch.zeros(batch, queries, dtype=torch.int64)
    for b in range(batch):
        for n in range(cameras):
            for q in range(queries):
                if visible[b, n, q].any():
                    camera.append(b * cameras + n)
                    query.append(b * queries + q)
                    chosen.append(anchors[b, n, q])
                    count[b, q] += 1
    packed = torch.stack(chosen) if chosen else anchors.new_zeros(0, *anchors.shape[3:])
    return VisiblePairs(
        torch.tensor(camera, dtype=torch.int64),
        torch.tensor(query, dtype=torch.int64),
        packed,
        count,
    )


def legacy_codes(
    codes: Tensor,  # (..., 10) of ours
) -> Tensor:  # (..., 10)
    """Return the published box code: width before length, sin and cos of yaw' = -yaw - pi/2."""
    cx, cy, log_l, log_w, cz, log_h, sin, cos, vx, vy = codes.unbind(-1)
    return torch.stack((cx, cy, log_w, log_l, cz, log_h, -cos, -sin, vx, vy), -1)
