"""Half precision: weights converted once, coordinates in float32, and scores that stay."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bevstack
from bevstack.cli.main import main
from bevstack.config import load_config
from bevstack.evaluation.scoring import load, score
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.detection3d import spatial_cross_attention, temporal_self_attention
from bevstack.models.layers import deformable_attention
from bevstack.runtime.detector import Detector, with_config
from bevstack.runtime.precision import cast_weights, choose_precision, computing_in
from bevstack.runtime.predict import predict_dataset
from tests.models.test_fixed_shapes import STREAMING, frames_of, small_model
from tests.small_world import dataset, small_world

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("float16", "cpu", "precision must not be float16 on a CPU, where it is slow: use bfloat"),
        ("tf32", "cpu", "precision must not be tf32 on a CPU, which lacks it: use float32"),
        (
            "half",
            "cuda",
            "precision must be one of float32, tf32, bfloat16, float16, auto; got 'ha",
        ),
    ],
)
def test_a_precision_that_the_device_lacks_is_refused(name: str, device: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_precision(name, device)
    if device == "cpu":
        with pytest.raises(ValueError, match=message):
            bevstack.load("no such weights are read", precision=name)


@pytest.mark.parametrize(
    ("instructions", "wanted"),
    [((False, False), "float32"), ((True, False), "bfloat16"), ((False, True), "bfloat16")],
)
def test_auto_is_bfloat16_if_the_cpu_computes_it(
    instructions: tuple[bool, bool], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    for name, value in zip(names, instructions, strict=True):
        monkeypatch.setattr(torch.cpu, name, lambda value=value: value)
    assert choose_precision("auto", "cpu") == wanted
    assert choose_precision("float32", "cpu") == "float32"


def bfloat16_detector() -> Detector:
    model, config = small_model(STREAMING)
    return Detector(model, config, precision="bfloat16")


def test_weights_are_converted_once_except_those_of_coordinates_and_norms() -> None:
    model = bfloat16_detector().model
    kinds: dict[torch.dtype, set[str]] = {torch.bfloat16: set(), torch.float32: set()}
    for name, parameter in model.named_parameters():
        kinds[parameter.dtype].add(name)
    coordinates = {n for n in kinds[torch.float32] if "sampling_offsets" in n}
    assert coordinates == {n for n, _ in model.named_parameters() if "sampling_offsets" in n}
    assert "decoder.reference_points.weight" in kinds[torch.float32]
    norms = {n for n, m in model.named_modules() if isinstance(m, nn.LayerNorm | nn.BatchNorm2d)}
    assert norms and all(f"{n}.weight" in kinds[torch.float32] for n in norms)
    assert any(n.endswith("value_proj.weight") for n in kinds[torch.bfloat16])
    assert any(n.startswith("backbone") and "conv" in n for n in kinds[torch.bfloat16])
    before = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    cast_weights(model, "bfloat16")
    assert before == {name: parameter.data_ptr() for name, parameter in model.named_parameters()}


@pytest.fixture
def locations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """Record the offsets and reference points of all attention."""
    found: list[Tensor] = []
    for module in (spatial_cross_attention, temporal_self_attention, deformable_attention):
        attend = module.deformable_attention

        def record(value, shapes, offsets, logits, points, *, _attend=attend, **options):
            assert value.dtype == torch.bfloat16
            found.extend((offsets, points))
            return _attend(value, shapes, offsets, logits, points, **options)

        monkeypatch.setattr(module, "deformable_attention", record)
    yield found


def test_coordinates_and_boxes_stay_float32(locations: list[Tensor]) -> None:
    detector = bfloat16_detector()
    frame = frames_of(detector.config)[-1]
    with torch.no_grad(), computing_in("bfloat16", CPU):
        output = detector.model(frame)
    assert len(locations) >= 6
    assert {points.dtype for points in locations} == {torch.float32}
    assert output.decoder.codes.dtype == torch.float32
    assert output.memory is not None and output.memory.features[0].dtype == torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")


def test_a_changed_configuration_keeps_the_precision() -> None:
    detector = bfloat16_detector()
    changed = with_config(
        detector, replace(detector.config, decoder=replace(detector.config.decoder, nms_iou=0.3))
    )
    assert changed.precision == "bfloat16" and changed.mode == "Detector(bfloat16)"
    plain = Detector(*small_model(STREAMING))
    assert plain.mode == "Detector"
    assert plain.fingerprint() != detector.fingerprint()  # predictions of the two never mix


@pytest.mark.slow
def test_the_packaged_weights_score_the_same_in_bfloat16(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    held_out = dataset(small_world(tmp_path_factory), "synth_val")
    figures = []
    for precision in ("float32", "bfloat16"):
        results = tmp_path / f"{precision}.json"
        detector = bevstack.load("tiny_cpu_t4", precision=precision)
        predict_dataset(detector, held_out, results)
        figures.append(score(load(results, held_out.tables, held_out.scene_names)).metrics.nds)
    assert figures[0] > 0.05
    assert abs(figures[1] - figures[0]) <= 0.005, figures


@pytest.mark.slow
def test_stages_of_internimage_xl_differ_by_less_than_a_hundredth() -> None:
    config = load_config("bevformerv2_internimage_xl_t1").backbone
    torch.manual_seed(0)
    backbone = InternImage(replace(config, out_indices=(0, 1, 2, 3))).eval()
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if "gamma" in name:  # of an untrained network every block is scaled almost to nothing
                parameter.fill_(0.1)
            if name.endswith(("dcn.offset.weight", "dcn.mask.weight")):
                parameter.normal_(std=0.02)
        images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
        exact = backbone(images)
        cast_weights(backbone, "bfloat16")
        with computing_in("bfloat16", CPU):
            rounded = backbone(images)
    for stage, wanted in zip(rounded, exact, strict=True):
        error = (stage.float() - wanted).norm() / wanted.norm()
        assert 0 < error <= 0.01


@pytest.mark.parametrize("verb", ["predict", "demo", "node"])
def test_the_verbs_take_a_precision(verb: str) -> None:
    module = importlib.import_module(f"bevstack.cli.{verb}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    options = {"predict": ["--out", "boxes.json"], "demo": [], "node": ["--weights", "tiny_cpu_t4"]}
    assert parser.parse_args([*options[verb], "--precision", "auto"]).precision == "auto"
    assert parser.parse_args(options[verb]).precision == "float32"


@pytest.mark.slow
def test_predict_computes_in_the_given_precision(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = small_world(tmp_path_factory)
    arguments = ["predict", "--nuscenes", str(world), "--version", "v1.0-synth"]
    arguments += ["--split", "synth_val", "--weights", "tiny_cpu_t4", "--device", "cpu"]
    for precision in ("float32", "bfloat16"):
        file = tmp_path / f"{precision}.json"
        assert main([*arguments, "--precision", precision, "--out", str(file)]) == 0
    assert (tmp_path / "float32.json").read_bytes() != (tmp_path / "bfloat16.json").read_bytes()
    refused = [*arguments, "--precision", "float16", "--out", str(tmp_path / "float16.json")]
    assert main(refused) != 0
    assert "error: precision must not be float16 on a CPU" in capsys.readouterr().err
