"""The controls of lights and signs: blanked images, and the direction of arrows."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import torch

from bevstack.datasets.traffic_view.samples import FrontSamples
from bevstack.tasks.traffic_held_out import PredictedImage
from bevstack.types.traffic import Lamp
from bevstack.vocabulary import LAMP_SHAPES
from tests.models.traffic.cases import camera, element
from tests.runtime.traffic_scenes import seen_light, street_frame
from tests.runtime.traffic_weights import BOTH, write_both
from tests.small_world import SPEC, dataset, small_world
from tools import control_traffic as program


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_world(tmp_path_factory)


def test_the_upper_half_is_blanked_and_the_rest_stays(root):
    normal = FrontSamples.open(dataset(root), BOTH)
    blanked = program.BlankedSamples(
        normal.dataset, normal.index, config=normal.config, images=normal.images
    )
    plain, changed = normal.prepare(1), blanked.prepare(1)
    half = plain.images[0].shape[1] // 2
    assert torch.equal(plain.images[0][:, half:], changed.images[0][:, half:])
    least_std = min(BOTH.images.std)
    assert changed.images[0][:, :half].abs().max() <= 0.5 / least_std  # the mean, rounded
    assert plain.images[0][:, :half].abs().max() > 0.5
    for field in dataclasses.fields(plain.targets):
        given, wanted = (getattr(x.targets, field.name) for x in (changed, plain))
        assert torch.equal(given.nan_to_num(-9), wanted.nan_to_num(-9))


def test_arrows_are_counted_by_their_side():
    frame = street_frame(3.0)
    found = seen_light(frame, "red", "left")
    place = tuple(float(x) for x in found.boxes_px[0])

    def count(shape, box=place):
        light = element(camera(), (9, 0, 2), lamps=(Lamp("red", shape),), box_px=box)
        return program.arrow_accuracy([PredictedImage(found, [light], torch.zeros(3))])

    assert count("left") == (1, 1) and count("right") == (0, 1)
    assert count("circle") == (0, 0) and count("left", (0.0, 0.0, 4.0, 9.0)) == (0, 0)
    assert LAMP_SHAPES[int(np.argmax(found.shape))] == "left"


def test_the_program_prints_both_columns(root, tmp_path, monkeypatch, capsys):
    weights = write_both(tmp_path / "both.safetensors", boxes=False)
    options = ("--weights", weights, "--nuscenes", root, "--version", SPEC.version)
    command = ["control_traffic.py", *map(str, options), "--split", "synth_val"]
    monkeypatch.setattr(sys, "argv", command)
    program.main()
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["figure", "normal", "blanked"]
    assert {"color_accuracy", "arrow_side", "sign_map"} <= {row.split()[0] for row in rows}
