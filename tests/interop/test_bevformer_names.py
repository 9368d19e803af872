"""Every key of every published BEVFormer v2 file has a counterpart in the released detectors."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import Size, Tensor

from bevstack.config import Config, load_config
from bevstack.interop.bevformer_names import (
    BEVFORMER_V2,
    NOT_WEIGHTS,
    bevformer_rows,
    first_groups,
    from_legacy_boxes,
    position_half,
    query_half,
)
from bevstack.interop.conversion import bevformer_from_public, match_query_groups
from bevstack.interop.public_weights import convert_weights
from bevstack.models.build import build_model
from tests.conftest import shared_dir
from tests.models.bevformer_oracle import legacy_codes

RELEASED = ("t1-base", "t1", "t2", "t8")
EVERY_RELEASE = [
    pytest.param(name, marks=pytest.mark.oracle(f"keys_bevformerv2_r50_{name}"))
    for name in RELEASED
]


def released_config(name: str) -> Config:
    return load_config(f"bevformerv2_r50_{name.replace('-', '_')}")


def dummy_file(name: str, query_rows: int | None = None) -> dict[str, Tensor]:
    """Return every tensor of a published file, on the meta device."""
    shared = shared_dir()
    assert shared is not None
    path = shared / "oracle" / "bevformer_v2" / f"keys_bevformerv2_r50_{name}.json"
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


@pytest.mark.parametrize("query_rows", [900, 9900])
@pytest.mark.parametrize("name", EVERY_RELEASE)
def test_every_key_of_every_release_has_a_counterpart(name: str, query_rows: int) -> None:
    published = dummy_file(name, query_rows)
    config, _ = match_query_groups(published, released_config(name))
    wanted = meta_model(config)
    converted, report = convert_weights(
        published, wanted, BEVFORMER_V2, allow_left_over=NOT_WEIGHTS
    )
    assert {key: value.shape for key, value in converted.items()} == {
        key: value.shape for key, value in wanted.items()
    }
    assert {name for name, _ in report.matched} == published.keys() - set(NOT_WEIGHTS)
    assert set(report.left_over) == set(NOT_WEIGHTS) and not report.missing
    assert bevformer_from_public(published, config).keys() == wanted.keys()


@pytest.mark.parametrize("name", EVERY_RELEASE)
def test_released_detectors_have_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        ours = sum(p.numel() for p in build_model(released_config(name)).parameters())
    published = dummy_file(name)
    buffers = ("running_mean", "running_var", "num_batches_tracked", *NOT_WEIGHTS)
    theirs = sum(value.numel() for key, value in published.items() if not key.endswith(buffers))
    assert ours == theirs


@pytest.mark.oracle("keys_bevformerv2_r50_t1")
def test_one_group_of_eleven_is_enough_and_is_noted() -> None:
    config = released_config("t1")
    fitted, notes = match_query_groups(dummy_file("t1", 900), config)
    assert fitted == replace(config, decoder=replace(config.decoder, num_groups=1))
    assert "holds 1 of 11 groups" in notes[0]
    base, notes = match_query_groups(dummy_file("t1-base", 9900), released_config("t1-base"))
    assert base == released_config("t1-base") and "first 1 of the 11 groups" in notes[0]
    assert match_query_groups(dummy_file("t1"), config) == (config, ())
    assert match_query_groups(dummy_file("t1", 901), config) == (config, ())  # refused by its shape


@pytest.mark.oracle("keys_bevformerv2_r50_t1-base")
def test_parts_that_a_configuration_lacks_are_named_as_left_over() -> None:
    config = replace(released_config("t1-base"), perspective=None)
    with pytest.raises(ValueError, match=r"left over: fcos3d_bbox_head\.fcos2d_head"):
        bevformer_from_public(dummy_file("t1-base"), config)


@pytest.mark.oracle("keys_bevformerv2_r50_t1-base")
def test_weights_of_another_grid_are_refused() -> None:
    config = released_config("t1-base")
    other = replace(config, grid=replace(config.grid, shape=(100, 200)))
    with pytest.raises(ValueError, match=r"must have shape \(100, 128\).*got \(200, 128\)"):
        bevformer_from_public(dummy_file("t1-base"), other)


@pytest.mark.oracle("keys_bevformerv2_r50_t2", "keys_bevformerv2_r50_t8")
def test_fusion_weights_are_not_dropped_silently() -> None:
    with pytest.raises(ValueError, match=r"left over: pts_bbox_head\.transformer\.fusion"):
        bevformer_from_public(dummy_file("t2"), released_config("t1"))
    with pytest.raises(ValueError, match=r"missing: fusion\."):
        bevformer_from_public(dummy_file("t1"), released_config("t2"))
    with pytest.raises(ValueError, match=r"fusion\.layers\.0\.conv1\.weight must have shape"):
        bevformer_from_public(dummy_file("t8"), released_config("t2"))


def test_modern_boxes_are_copied_and_unknown_conventions_refused() -> None:
    legacy, modern = bevformer_rows("legacy"), bevformer_rows("modern")
    changed = [(old, new) for old, new in zip(legacy, modern, strict=True) if old != new]
    assert [old.convert for old, _ in changed] == [from_legacy_boxes]
    assert [new.convert for _, new in changed] == [None]
    assert "box_branches" in changed[0][1].ours
    with pytest.raises(ValueError, match="boxes must be 'legacy' or 'modern'; got 'kitti'"):
        bevformer_rows("kitti")


def test_converted_legacy_branches_predict_the_same_box() -> None:
    """Check that a converted branch predicts the same box in our code."""
    length, width, yaw = 4.0, 1.5, 0.7
    legacy_yaw = -yaw - math.pi / 2
    sin, cos = math.sin(legacy_yaw), math.cos(legacy_yaw)
    theirs = torch.tensor((1, 2, math.log(width), math.log(length), 3, 0.5, sin, cos, 5, 6))
    ours = torch.tensor(
        (1, 2, math.log(length), math.log(width), 3, 0.5, math.sin(yaw), math.cos(yaw), 5, 6)
    )
    torch.testing.assert_close(from_legacy_boxes(theirs, Size((10,))), ours)
    torch.testing.assert_close(legacy_codes(ours), theirs)  # used to read the stored cases
    weight = torch.randn(10, 7)
    x = torch.randn(7)
    got = from_legacy_boxes(weight, Size((10, 7))) @ x
    torch.testing.assert_close(got, from_legacy_boxes(weight @ x, Size((10,))))


def test_halves_of_the_joint_matrix_compute_the_same() -> None:
    joint = torch.randn(5, 8, dtype=torch.float64)
    q, pos = torch.randn(4).double(), torch.randn(4).double()
    wanted = joint @ torch.cat((q, q + pos))
    got = query_half(joint, Size((5, 4))) @ q + position_half(joint, Size((5, 4))) @ pos
    torch.testing.assert_close(got, wanted)


def test_first_groups_takes_only_complete_groups() -> None:
    table = torch.arange(33.0).view(33, 1)
    assert torch.equal(first_groups(table, Size((3, 1))), table[:3])
    assert first_groups(table, Size((5, 1))) is table  # 33 is not a multiple: refused by its shape
