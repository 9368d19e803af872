"""`bevstack convert-weights` on small files in the format of the published ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bevstack.cli.main import main
from bevstack.config import InternImageConfig, load_config
from bevstack.interop.conversion import bevformer_from_public
from bevstack.interop.internimage_names import ours_to_official
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.build import load_model
from tests.models.bevformer_oracle import read_case

# The stored detector: a small version of the released t2, with 40 queries and no groups.
RELEASED_IN_SMALL = """
from dataclasses import replace
from bevstack.config import *
from bevstack.configs.bevformerv2_r50_t2 import CONFIG as T2

CONFIG = replace(
    T2,
    name="released_in_small",
    grid=replace(T2.grid, shape=(20, 20)),
    backbone=ResNetConfig(base_channels=8),
    fpn=FPNConfig(num_outputs=5, channels=32),
    encoder=BEVEncoderConfig(
        num_layers=1, num_levels=4, num_heads=4, feedforward_channels=64
    ),
    temporal=replace(T2.temporal, num_fusion=2),
    decoder=DecoderConfig(
        num_layers=2, num_heads=4, feedforward_channels=64, num_queries=40, num_groups=GROUPS
    ),
)
"""


def config_file(folder: Path, groups: int = 1) -> Path:
    path = folder / "small.py"
    path.write_text(RELEASED_IN_SMALL.replace("GROUPS", str(groups)), encoding="utf-8")
    return path


def convert(*arguments: str | Path) -> int:
    return main(["convert-weights", *map(str, arguments)])


@pytest.mark.oracle("detector_test")
def test_a_released_detector_becomes_a_bevstack_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = read_case("detector_test").weights
    wrapped = {f"module.{name}": value for name, value in weights.items()}
    meta = {"mmdet3d_version": "0.17.1", "epoch": 24}
    torch.save({"meta": meta, "state_dict": wrapped, "optimizer": {}}, tmp_path / "published.pth")
    config, out = config_file(tmp_path), tmp_path / "converted.safetensors"
    assert convert(tmp_path / "published.pth", "--out", out, "--config", config) == 0
    model, saved = load_model(out)
    assert saved == load_config(config)
    expected = bevformer_from_public(weights, saved)
    state = model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    text = capsys.readouterr().out
    assert "boxes: legacy, as in mmdet3d 0.17.1" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["left", "over", "in", "the", "file:", "3"] in rows and ["pts_bbox_head", "1"] in rows
    assert all([part, "0"] == [row[0], row[2]] for row in rows[1:7] for part in [row[0]])


@pytest.mark.oracle("detector_test")
def test_one_group_of_queries_is_noted_and_kept_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": read_case("detector_test").weights}, tmp_path / "published.pth")
    out = tmp_path / "converted.safetensors"
    config = config_file(tmp_path, groups=3)
    assert convert(tmp_path / "published.pth", "--out", out, "--config", config) == 0
    assert load_model(out)[1].decoder.num_groups == 1
    assert "note: queries: the file holds 1 of 3 groups" in capsys.readouterr().out


@pytest.mark.oracle("detector_test")
def test_unmatched_names_are_refused_with_the_table_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = dict(read_case("detector_test").weights)
    weights["pts_bbox_head.extra.weight"] = weights.pop("img_neck.lateral_convs.0.conv.bias")
    torch.save(weights, tmp_path / "published.pth")
    out = tmp_path / "converted.safetensors"
    common = (tmp_path / "published.pth", "--out", out, "--config", config_file(tmp_path))
    assert convert(*common, "--list") == 2
    shown = capsys.readouterr()
    assert "1 missing: neck.lateral_convs.0.bias" in shown.err
    assert "left over 4" in shown.out and "  pts_bbox_head.extra.weight" in shown.out
    assert convert(*common, "--allow-missing", "neck.lateral_convs.0.") == 2
    assert "1 left over: pts_bbox_head.extra.weight" in capsys.readouterr().err
    assert not out.exists()
    allowed = ("--allow-missing", "neck.lateral_convs.0.", "--allow-left-over", "pts_bbox_head.ext")
    assert convert(*common, *allowed) == 0
    assert torch.equal(load_model(out)[0].neck.lateral_convs[0].bias, torch.zeros(32))


@pytest.mark.oracle("detector_test")
def test_modern_boxes_are_refused_until_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = read_case("detector_test").weights
    content = {"meta": {"mmdet3d_version": "1.1.0"}, "state_dict": weights}
    torch.save(content, tmp_path / "published.pth")
    out = tmp_path / "converted.safetensors"
    common = (tmp_path / "published.pth", "--out", out, "--config", config_file(tmp_path))
    assert convert(*common) == 2 and not out.exists()
    assert "box convention must be named" in capsys.readouterr().err
    assert convert(*common, "--boxes", "modern") == 0
    branch = load_model(out)[0].state_dict()["decoder.head.box_branches.1.4.weight"]
    assert torch.equal(branch, weights["pts_bbox_head.reg_branches.1.4.weight"])


def classifier_file(path: Path) -> dict[str, Tensor]:
    """Write a classification backbone of tiny_cpu's size in Hugging Face's format; return it."""
    torch.manual_seed(5)
    config = load_config("tiny_cpu").backbone
    assert isinstance(config, InternImageConfig)
    ours = {f"backbone.{n}": v for n, v in InternImage(config).state_dict().items()}
    named = {f"model.{ours_to_official(name)}": value for name, value in ours.items()}
    torch.save({**named, "model.head.weight": torch.zeros(7, 3)}, path)
    return ours


def test_a_detector_starts_from_a_backbone_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "pytorch_model.bin", tmp_path / "start.safetensors"
    ours = classifier_file(path)
    assert convert(path, "--out", out, "--config", "tiny_cpu", "--backbone") == 0
    model, config = load_model(out, expected=load_config("tiny_cpu"))
    state = model.state_dict()
    assert config.name == "tiny_cpu"
    assert all(torch.equal(state[name], value) for name, value in ours.items())
    assert "left over in the file: 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "out.pth"], "--out must end in .safetensors"),
        (["--out", "out.safetensors"], "must hold a BEVFormer v2 detector"),
        (
            ["--out", "o.safetensors", "--backbone", "--boxes", "modern"],
            "--boxes must not be given",
        ),
        (["--out", "o.safetensors", "--backbone", "--use", "averaged"], "weights must be 'raw'"),
    ],
)
def test_contradictory_options_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    classifier_file(tmp_path / "published.pth")
    assert convert("published.pth", "--config", "tiny_cpu", *options) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.safetensors"))
