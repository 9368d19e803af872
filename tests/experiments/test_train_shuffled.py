"""The program of the negative control: its options."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_world import SPEC, small_world
from tools import train_shuffled


def test_classes_of_other_categories_are_those_of_the_tables(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = small_world(tmp_path_factory)
    (tmp_path / "map.json").write_text('{"tractor": "car"}')
    where = ["--nuscenes", str(root), "--version", SPEC.version, "--split", "synth_train"]
    options = ["--held-out", "synth_val", "--out", str(tmp_path / "out")]
    with pytest.raises(ValueError, match=r"classes must map categories of .*; got 'tractor'"):
        train_shuffled.main(
            ["--config", "tiny_cpu", *where, *options, "--classes", str(tmp_path / "map.json")]
        )
