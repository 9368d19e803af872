"""The table of configs/README.md, compared with the code's counts and the published scores."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bevstack.config import load_config, packaged_configs
from bevstack.costs.detector import ConfigCount, count_config
from bevstack.models.build import build_model
from bevstack.models.build_traffic import build_traffic_model

README = Path(__file__).resolve().parent.parent.parent / "configs" / "README.md"
# The authors' NDS: headers of the released configurations; arXiv 2211.10439, tables 1 and 3.
PUBLISHED = {
    "bevformerv2_r50_t1_base": "0.426 val",
    "bevformerv2_r50_t1": "0.453 val",
    "bevformerv2_r50_t2": "0.518 val",
    "bevformerv2_r50_t8": "0.553 val",
    "bevformerv2_internimage_b_t1": "0.485 val",
    "bevformerv2_internimage_xl_bidirectional": "0.634 test",
}

# Rows that take seconds each. Their parts also occur in the remaining rows; their parameters are
# counted in the fast suite too.
IN_THE_SLOW_SUITE = {
    *(f"bevformerv2_internimage_{size}_t1" for size in ("s", "b", "l", "xl")),
    *(f"bevformerv2_internimage_{size}_t8" for size in ("t", "s", "l", "xl")),
    "bevformerv2_internimage_xl_t8_traffic",
}


def table() -> dict[str, list[str]]:
    lines = README.read_text(encoding="utf-8").splitlines()
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines if "| `" in line]
    return {row[0].strip("`"): row[1:] for row in rows}


def gflop(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def row_of(count: ConfigCount) -> list[str]:
    streams = count.frames > 1 and not count.looks_ahead
    return [
        str(count.frames),
        f"{count.parameters:,}",
        gflop(count.clip_gflop),
        gflop(count.stream_gflop) if streams else "-",
        gflop(count.training_gflop),
    ]


def test_every_configuration_has_its_row() -> None:
    assert table().keys() == set(packaged_configs())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in IN_THE_SLOW_SUITE))
        for name in packaged_configs()
    ],
)
def test_a_row_holds_the_counts_of_the_code(name: str) -> None:
    assert table()[name][:-1] == row_of(count_config(name))


@pytest.mark.parametrize("name", packaged_configs())
def test_every_configuration_builds_without_allocation(name: str) -> None:
    config = load_config(name)
    with torch.device("meta"):
        model = build_model(config)
        traffic = None if config.traffic is None else build_traffic_model(config, model.backbone)
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    parts = [*model.parameters(), *(() if traffic is None else traffic.parameters())]
    count = sum(p.numel() for p in dict.fromkeys(parts))  # the backbone once
    assert table()[name][1] == f"{count:,}"


@pytest.mark.parametrize("name", packaged_configs())
def test_scores_are_the_authors_and_marked_so(name: str) -> None:
    assert table()[name][-1] == PUBLISHED.get(name, "-")
    assert "**The last column is published, not ours.**" in README.read_text(encoding="utf-8")
