"""Counts of whole detectors, compared with costs that were measured on the released code."""

from __future__ import annotations

import json

import pytest
import torch

from bevstack.cli.main import main
from bevstack.config import load_config
from bevstack.costs.detector import ConfigCount, PartCount, count_config, nominal_rig
from bevstack.models.build import build_model

# Queries times cameras, padded as in the released code; bevstack packs the visible pairs.
RELEASED_PAIRS = 57_220


def part(count: ConfigCount, name: str) -> PartCount:
    return next(part for part in count.parts if part.name == name)


@pytest.fixture(scope="module")
def t8() -> ConfigCount:
    return count_config("bevformerv2_r50_t8", pairs=RELEASED_PAIRS)


# GFLOP of the released modules (v2 specification, section 17), to the last digit given there.
@pytest.mark.parametrize(
    ("name", "released", "tolerance"), [("backbone", 944, 0.5), ("neck", 195, 0.5)]
)
def test_backbone_and_neck_cost_as_much_as_the_released_ones(
    t8: ConfigCount, name: str, released: float, tolerance: float
) -> None:
    assert part(t8, name).gflop == pytest.approx(released, abs=tolerance)


def test_perspective_head_costs_as_much_as_the_released_one_with_attributes(
    t8: ConfigCount,
) -> None:
    locations = 6 * (80 * 200 + 40 * 100 + 20 * 50 + 10 * 25 + 5 * 13)
    attributes_and_speed = 2 * locations * 9 * 256 * 4 / 1e9  # not in section 17
    head = part(t8, "perspective_head")
    assert head.gflop == pytest.approx(1884 + attributes_and_speed, abs=0.5)
    assert (head.clip_runs, head.stream_runs, head.training_gflop) == (0, 0, head.gflop)


def test_encoder_costs_the_released_less_one_value_projection(t8: ConfigCount) -> None:
    """The value of both queues is projected once; a sample counts 5 MACs, in section 17 only 4."""
    projection = 2 * 40_000 * 256 * 256 / 1e9
    sampling = 0.7 + 3.7  # GFLOP of a layer, section 17
    expected = 560 - 6 * projection + 6 * sampling / 4
    # Section 17 gives eight numbers for a layer, each rounded to 0.1.
    assert part(t8, "encoder").gflop == pytest.approx(expected, abs=6 * 8 * 0.05)


@pytest.mark.parametrize(("name", "released"), [("t2", 1143), ("t8", 2464)])
def test_fusion_costs_as_much_as_the_released_one(name: str, released: float) -> None:
    count = count_config(f"bevformerv2_r50_{name}", pairs=RELEASED_PAIRS)
    assert part(count, "fusion").gflop == pytest.approx(released, abs=0.5)


def test_decoder_costs_as_much_as_the_released_one_with_branches(t8: ConfigCount) -> None:
    branches = 2 * 6 * 900 * (4 * 256 * 256 + 2 * 256 * 10) / 1e9  # not in section 17
    decoder = part(t8, "decoder")
    assert decoder.gflop == pytest.approx(43 + branches, abs=0.6)
    # Eleven groups; the queries of a group attend to each other only.
    assert decoder.training_gflop == pytest.approx(159 + 11 * branches, abs=1.1)


def test_features_in_memory_save_half_of_a_step(t8: ConfigCount) -> None:
    released_clip, released_stream = 16_100, 8_100  # section 17, to 0.1 TFLOP
    saved = 8 * (560 - part(t8, "encoder").gflop)  # the encoder's difference, eight times
    assert t8.clip_gflop == pytest.approx(released_clip - saved, abs=60)
    assert t8.stream_gflop == pytest.approx(released_stream - saved, abs=60)
    assert t8.frame_memory_bytes == 4 * 6 * 256 * (16_000 + 4_000 + 1_000 + 250)


def test_bev_maps_in_memory_save_the_encoder_too() -> None:
    count = count_config("bevformerv2_internimage_xl_bidirectional")
    assert part(count, "encoder").stream_runs == 1 and count.looks_ahead
    assert count.frame_memory_bytes == 4 * 256 * 200 * 200
    assert "streaming none (needs future frames)" in "\n".join(count.lines())


def test_nominal_rig_has_as_many_pairs_as_real_rigs() -> None:
    """Compare with 44.3 to 48.4 thousand of all tested rigs (v2 specification, section 5.4)."""
    count = count_config("bevformerv2_r50_t1_base")
    assert 44_300 <= count.pairs <= 48_400
    rig = nominal_rig(load_config("bevformerv2_r50_t1_base"))
    assert rig.image_size.tolist() == [[640, 1600]] * 6


def test_no_part_is_forgotten(t8: ConfigCount) -> None:
    for count in (t8, count_config("tiny_cpu_t4")):
        with torch.device("meta"):
            model = build_model(load_config(count.name))
        assert count.parameters == sum(p.numel() for p in model.parameters())


def test_the_command_prints_the_parts_and_their_sums(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--config", "tiny_cpu_t4"]) == 0
    text = capsys.readouterr().out
    for name in ("backbone", "neck", "perspective_head", "encoder", "fusion", "decoder", "total"):
        assert f"\n{name} " in text
    assert "4 frames" in text and "memory of a stream: " in text
    assert main(["doctor", "--config", "tiny_cpu_t4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "tiny_cpu_t4"
    assert main(["doctor", "--config", "tiny_cpu_t5"]) == 2
    assert "did you mean 'tiny_cpu_t4'" in capsys.readouterr().err
