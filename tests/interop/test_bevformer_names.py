from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import Size, Tensor

from bevstack.config import (
    BEVEncoderConfig,
    BEVGrid,
    Config,
    DecoderConfig,
    FPNConfig,
    InternImageConfig,
)
from bevstack.interop.bevformer_names import (
    BEVFORMER_V2,
    NOT_WEIGHTS,
    first_group,
    from_legacy_boxes,
    position_half,
    query_half,
)
from bevstack.interop.public_weights import convert_weights
from bevstack.models.build import build_model
from tests.conftest import shared_dir
from tests.models.bevformer_oracle import legacy_codes

# The backbone, the perspective head and its own pyramid level are not part of this detector.
OTHER_PARTS = ("img_backbone.*", "fcos3d_bbox_head.*", "img_neck.fpn_convs.4.conv.*")


def published_size() -> Config:
    """The published detector's sizes, behind a backbone with ResNet-50's channels."""
    return Config(
        name="published",
        grid=BEVGrid(z_range_m=(-5, 3), frame="lidar"),
        backbone=InternImageConfig(channels=256, depths=(1, 1, 1, 1), groups=(1, 1, 1, 1)),
        fpn=FPNConfig(),
        encoder=BEVEncoderConfig(),
        decoder=DecoderConfig(),
    )


def dummy_file(name: str, query_rows: int | None = None) -> dict[str, Tensor]:
    """Every key of a published file in its shape, on the meta device."""
    shared = shared_dir()
    assert shared is not None
    path = shared / "oracle" / "bevformer_v2" / f"keys_{name}.json"
    listed = json.loads(path.read_text(encoding="utf-8"))
    tensors = {
        entry["key"]: torch.empty(entry["shape"], device="meta") for entry in listed["state_dict"]
    }
    if query_rows is not None:
        tensors["pts_bbox_head.query_embedding.weight"] = torch.empty(
            query_rows, 512, device="meta"
        )
    return tensors


def meta_model(config: Config) -> dict[str, Tensor]:
    with torch.device("meta"):
        return build_model(config).state_dict()


@pytest.mark.oracle("keys_bevformerv2_r50_t1-base")
@pytest.mark.parametrize("query_rows", [900, 9900])
def test_every_key_of_the_published_single_frame_detector_finds_its_place(query_rows: int) -> None:
    published = dummy_file("bevformerv2_r50_t1-base", query_rows)
    wanted = meta_model(published_size())
    converted, report = convert_weights(
        published,
        wanted,
        BEVFORMER_V2,
        allow_missing=["backbone.*"],
        allow_left_over=[*OTHER_PARTS, *NOT_WEIGHTS],
    )
    ours = {name for name in wanted if not name.startswith("backbone.")}
    assert converted.keys() == ours
    theirs = {name for name in published if name.startswith("pts_bbox_head.")}
    neck = {name for name, _ in report.matched if not name.startswith("pts_bbox_head.")}
    assert {name for name, _ in report.matched} - neck == theirs - set(NOT_WEIGHTS)
    assert len(neck) == 2 * 3 + 2 * 4  # weight and bias of three laterals and four outputs
    assert all(converted[name].shape == wanted[name].shape for name in ours)


@pytest.mark.oracle("keys_bevformerv2_r50_t1-base")
def test_the_level_only_the_perspective_head_reads_is_left_over_by_name() -> None:
    published = dummy_file("bevformerv2_r50_t1-base")
    wanted = meta_model(published_size())
    allowed = [*OTHER_PARTS[:2], *NOT_WEIGHTS]
    with pytest.raises(ValueError, match=r"2 left over: img_neck\.fpn_convs\.4\.conv\.weight"):
        convert_weights(
            published, wanted, BEVFORMER_V2, allow_missing=["backbone.*"], allow_left_over=allowed
        )


@pytest.mark.oracle("keys_bevformerv2_r50_t1-base")
def test_weights_of_another_grid_are_refused() -> None:
    published = dummy_file("bevformerv2_r50_t1-base")
    config = published_size()
    wanted = meta_model(replace(config, grid=replace(config.grid, shape=(100, 200))))
    with pytest.raises(ValueError, match=r"must have shape \(100, 128\).*got \(200, 128\)"):
        convert_weights(published, wanted, BEVFORMER_V2)


@pytest.mark.oracle("keys_bevformerv2_r50_t2")
def test_fusion_weights_are_not_dropped_silently() -> None:
    published = dummy_file("bevformerv2_r50_t2")
    with pytest.raises(ValueError, match=r"left over: pts_bbox_head\.transformer\.fusion"):
        convert_weights(
            published,
            meta_model(published_size()),
            BEVFORMER_V2,
            allow_missing=["backbone.*"],
            allow_left_over=[*OTHER_PARTS, *NOT_WEIGHTS],
        )


def test_legacy_box_rows_say_the_same_box() -> None:
    """A branch that says a legacy code says, converted, the code of the same box in ours."""
    length, width, yaw = 4.0, 1.5, 0.7
    legacy_yaw = -yaw - math.pi / 2
    sin, cos = math.sin(legacy_yaw), math.cos(legacy_yaw)
    theirs = torch.tensor((1, 2, math.log(width), math.log(length), 3, 0.5, sin, cos, 5, 6))
    ours = torch.tensor(
        (1, 2, math.log(length), math.log(width), 3, 0.5, math.sin(yaw), math.cos(yaw), 5, 6)
    )
    torch.testing.assert_close(from_legacy_boxes(theirs, Size((10,))), ours)
    torch.testing.assert_close(legacy_codes(ours), theirs)  # what the stored cases are read with
    weight = torch.randn(10, 7)
    x = torch.randn(7)
    got = from_legacy_boxes(weight, Size((10, 7))) @ x
    torch.testing.assert_close(got, from_legacy_boxes(weight @ x, Size((10,))))


def test_halves_of_the_joint_matrix_say_the_same() -> None:
    joint = torch.randn(5, 8, dtype=torch.float64)
    q, pos = torch.randn(4).double(), torch.randn(4).double()
    wanted = joint @ torch.cat((q, q + pos))
    got = query_half(joint, Size((5, 4))) @ q + position_half(joint, Size((5, 4))) @ pos
    torch.testing.assert_close(got, wanted)


def test_first_group_takes_whole_groups_only() -> None:
    table = torch.arange(33.0).view(33, 1)
    assert torch.equal(first_group(table, Size((3, 1))), table[:3])
    assert first_group(table, Size((5, 1))) is table  # 33 is no multiple: refused by its shape
