"""Single pictures at the command line: train, predict, evaluate, and refusals."""

from __future__ import annotations

import json

import pytest

from bevstack.cli.main import main
from bevstack.cli.pictures_option import parse_fold, parse_pictures
from bevstack.models.weights import read_safetensors
from tests.datasets.traffic_view.picture_sets import write_housings, write_lamps

HEAD = """
import dataclasses
from bevstack.config import TrafficConfig
from tests.small_world import CONFIG as SMALL
CONFIG = dataclasses.replace(
    SMALL,
    traffic=TrafficConfig(
        rows=(0.0, 1.0), channels=16, num_convs=1, roi_channels=24, max_candidates=8, samples=2,
        window_px=64, score_threshold=0.0,
    ),
    training=dataclasses.replace(
        SMALL.training, num_steps=2, batch_size=2, num_workers=0, checkpoint_every=1,
        evaluate_every=2,
    ),
)
"""


def test_pictures_are_trained_on_predicted_and_scored(tmp_path, capsys):
    lamps, housings = write_lamps(tmp_path / "lamps"), write_housings(tmp_path / "housings")
    (tmp_path / "config.py").write_text(HEAD, encoding="utf-8")
    sets = ["--pictures", f"lamps={lamps}:yolo:lamp", "--pictures", f"h={housings}:yolo:housing"]
    out = str(tmp_path / "run")
    command = ["train", "--config", str(tmp_path / "config.py"), "--out", out, *sets]
    assert main([*command, "--fold", "0/2"]) == 0
    text = capsys.readouterr().out
    assert "lamps: " in text and " kept apart, 0 upside down" in text and "h/green" in text
    weights = tmp_path / "run" / "model.safetensors"
    assert json.loads(read_safetensors(weights)[1]["tasks"]) == ["traffic"]
    assert main([*command, "--fold", "0/2", "--resume"]) == 0  # all steps are done
    elements = tmp_path / "lamps.json"
    predict = ["predict", "--images", str(lamps), "--weights", str(weights)]
    assert main([*predict, "--out", str(elements)]) == 0
    score = ["evaluate", *sets[:2], "--elements", str(elements), "--out", out, "--draws", "10"]
    capsys.readouterr()
    assert main(score) == 0
    text = capsys.readouterr().out
    assert "5 pictures in " in text
    content = json.loads((tmp_path / "run" / "picture_metrics.json").read_text(encoding="utf-8"))
    rows = {row["attribute"]: row for row in content["attributes"]}
    assert set(rows) == {"red", "green", "yellow", "turn_left", "mean"}
    assert rows["red"]["num_truth"] == 2 and 0 <= rows["red"]["rule"]["value"] <= 1
    assert rows["turn_left"]["rule"]["value"] == 0 and rows["turn_left"]["num_truth"] == 2


def test_the_option_names_set_folder_format_convention_and_light():
    source = parse_pictures("kr=a:b/c:yolo:lamp:day")
    assert (source.name, str(source.root), source.format) == ("kr", "a:b/c", "yolo")
    assert source.box_convention == "lamp" and source.streets_by_day
    stated = parse_pictures("b=train.yaml:bstld")
    assert stated.box_convention is None and not stated.streets_by_day
    for text in ("kr", "=a:yolo:lamp", "kr=a", "kr=a:cvat:lamp", "kr=:yolo:lamp"):
        with pytest.raises(ValueError, match="--pictures must be NAME=DIR:FORMAT"):
            parse_pictures(text)
    assert parse_fold("3/5") == (3, 5)
    for text in ("3", "a/b", "-1/5", ""):
        with pytest.raises(ValueError, match="--fold must be K/N"):
            parse_fold(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--out", "o", "--config", "tiny_cpu"], "--nuscenes must be given, or --pict"),
        (
            ["train", "--out", "o", "--config", "tiny_cpu", "--fold", "0/5"],
            "--pictures must be given with --fold",
        ),
        (
            ["train", "--out", "o", "--config", "c", "--pictures", "a=b:yolo:lamp", "--split", "s"],
            "--split must be left out with --pictures",
        ),
        (["evaluate", "--elements", "e.json"], "--pictures must be given to score single pict"),
        (
            ["evaluate", "--elements", "e", "--pictures", "a=b:yolo:lamp", "--out", "o", "f.json"],
            "--file must be left out with --pictures",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
