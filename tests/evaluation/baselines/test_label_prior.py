"""Labels without the picture: the most frequent ones of a place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bevstack.evaluation.baselines.label_prior import LabelPrior
from bevstack.synthetic import make_world
from tests.datasets.segmentation.label_files import SMALL_DENSE
from tests.small_world import build_once
from tools.control_labels import main

CONFIG = """
from dataclasses import replace
from bevstack.configs.segmentation.upernet_nano_dense import CONFIG as NANO

CONFIG = replace(
    NANO,
    training=replace(NANO.training, num_steps=2, warmup_steps=1, evaluate_every=2, batch_size=2),
)
"""


def test_the_label_of_a_place_is_that_of_most_pictures_there() -> None:
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 4, (7, 6, 10)).astype(np.uint8)
    maps[:, 2, 3] = 255
    prior = LabelPrior(5, cells=(6, 10))
    for own in maps:
        prior.add(own)
    want = [
        [max(range(5), key=lambda k, y=y, x=x: (maps[:, y, x] == k).sum()) for x in range(10)]
        for y in range(6)
    ]
    assert prior.label_map((6, 10)).tolist() == want
    assert prior.most_frequent() == max(range(5), key=lambda k: (maps == k).sum())
    assert prior.counts.sum() == 7 * 59
    np.testing.assert_array_equal(prior.label_map((12, 20))[::2, ::2], want)
    with pytest.raises(ValueError, match="labels must be below 5 or 255; got 5"):
        prior.add(np.full((6, 10), 5, np.uint8))


def test_the_control_prints_the_priors_and_trains_on_the_labels_of_other_pictures(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = build_once(
        tmp_path_factory, "small_dense", lambda folder: make_world(folder, SMALL_DENSE)
    )
    config = tmp_path / "two_steps.py"
    config.write_text(CONFIG, encoding="utf-8")
    command = ["--config", str(config), "--dense", str(world), "--split", "synth_train"]
    command += ["--held-out", "synth_val", "--out", str(tmp_path / "control")]
    assert main(command) == 0
    printed = capsys.readouterr().out
    figures = [float(line.rpartition(" ")[2]) for line in printed.splitlines()[:3]]
    assert 0 < figures[0] < figures[1] <= 1 and 0 < figures[2] <= 1
    logged = (tmp_path / "control" / "evaluations.jsonl").read_text()
    assert '"mean_iou"' in logged
