"""Calibration on held-out samples: what is collected, what it improves, and the file."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from bevstack.datasets.traffic_view.labels import ElementIndex
from bevstack.datasets.traffic_view.samples import FrontSamples
from bevstack.models.build_traffic import build_traffic_model
from bevstack.models.traffic.calibration import (
    FACTORS,
    calibrate,
    fit_platt,
    fit_temperature,
    negative_log_likelihood,
)
from bevstack.models.traffic.dense import Regions
from bevstack.models.weights import read_safetensors
from bevstack.types.traffic import EgoLane, Lamp, LaneCenterline
from bevstack.types.traffic_batch import LIGHT, SIGN
from tests.models.traffic.cases import camera, element
from tests.runtime.traffic_weights import BOTH as CONFIG
from tests.runtime.traffic_weights import write_both
from tests.small_world import SPEC, dataset, small_world
from tools import calibrate_traffic as program


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_world(tmp_path_factory)


def busy_samples(data):
    """Return the samples of a data set with two lights and a sign each, instead of its own."""
    view, tokens = camera((225, 400), focal=300.0), [data.sample_token(i) for i in range(len(data))]
    elements = []
    for number, token in enumerate(tokens):
        colors = ("red", "green", "yellow")[number % 3], "red"
        for y, color in zip((1.5, -1.0), colors, strict=True):
            lamp = Lamp(color, "left" if number % 2 else "circle")
            place = {"lane_token": "own" if y > 0 else "beside", "sample_token": token}
            elements.append(element(view, (14.0, y, 4.0), lamps=(lamp,), **place))
        sign = {"category": 2, "attribute": 0, "lamps": None, "meaning": "turn_left"}
        elements.append(element(view, (12.0, -3.0, 3.0), sample_token=token, **sign))
    lanes = {"own": LaneCenterline("own", "", np.zeros((2, 2)), manoeuvres=("straight",))}
    index = ElementIndex.build(elements, lanes, [EgoLane(t, "own", "straight") for t in tokens])
    return FrontSamples(data, index, config=CONFIG.traffic, images=CONFIG.images)


def use_true_boxes(monkeypatch, samples):
    """Let the true boxes of each sample be the regions, in the order of the samples."""
    labels = iter([samples.prepare(row).targets for row in range(len(samples))])

    def find(dense, image_size, count):
        targets = next(labels)
        return Regions(targets.image, targets.kind, targets.boxes_px, torch.zeros(len(targets)))

    monkeypatch.setattr("bevstack.models.traffic.model.find_regions", find)


def test_logits_are_collected_with_their_labels_and_calibration_improves_them(root, monkeypatch):
    torch.manual_seed(1)
    model = build_traffic_model(CONFIG).eval()
    with torch.no_grad():
        model.regions.output.weight.mul_(300)  # far too certain
    samples = busy_samples(dataset(root))
    use_true_boxes(monkeypatch, samples)
    scores, factors = program.collect(model, samples)
    targets = [samples.prepare(row).targets for row in range(len(samples))]
    learned = [t[~t.ignored] for t in targets]
    color = torch.cat([t.color[t.kind != SIGN] for t in learned])
    assert len(color) == 12 and torch.equal(factors["color"][1], color[color >= 0])
    meaning = torch.cat([t.meaning for t in learned])
    assert torch.equal(factors["meaning"][1], meaning[meaning >= 0])
    assert len(scores[LIGHT][1]) == sum(int((t.kind == LIGHT).sum()) for t in learned)
    assert set(factors) == set(FACTORS)
    calibrate(model.calibration, scores, factors)
    improved = 0
    for name, (logits, labels) in factors.items():
        if len(labels):
            before = negative_log_likelihood(logits, labels)
            after = negative_log_likelihood(model.calibration.scaled(name, logits), labels)
            assert float(after) <= float(before), name
            improved += float(after) < 0.9 * float(before)
    assert improved >= 3


def test_separable_scores_give_finite_parameters():
    values = torch.linspace(-3, 3, 40)
    assert fit_temperature(values, (values > 0).long()) == pytest.approx(0.2)  # the bound
    assert fit_temperature(values, (values < 0).long()) == pytest.approx(5.0)
    scale, offset = fit_platt(values, values > 0)
    # at the smoothed labels 21 / 22 of the outer scores, a scale of a few units is enough
    assert 1 < scale < 10 and offset == pytest.approx(0, abs=1e-3)


def test_the_program_writes_the_buffers_and_leaves_the_network(root, tmp_path, monkeypatch):
    weights = write_both(tmp_path / "both.safetensors", CONFIG, boxes=False)
    out = tmp_path / "calibrated.safetensors"
    logits = torch.tensor([[3.0, 0, 0, 0, 0], [0, 3.0, 0, 0, 0]])
    pairs = {"color": (logits, torch.tensor([0, 0]))}
    values = torch.linspace(-1, 3, 40)
    scores = {LIGHT: (values, values + values.mul(9).sin() > 1)}
    monkeypatch.setattr(program, "collect", lambda model, samples: (scores, pairs))
    options = ("--weights", weights, "--nuscenes", root, "--version", SPEC.version, "--out", out)
    monkeypatch.setattr(sys, "argv", ["calibrate", *map(str, options), "--split", "synth_val"])
    program.main()
    before, metadata = read_safetensors(weights)
    after, kept = read_safetensors(out)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    prefix = "tasks.traffic.calibration."
    assert changed == {prefix + n for n in ("temperature", "score_scale", "score_offset")}
    assert after.keys() == before.keys() and kept == metadata
    model = build_traffic_model(CONFIG)
    model.load_state_dict(dict(program.task_weights(after, "traffic")))
    wanted = fit_temperature(*pairs["color"])
    assert wanted > 1.2
    scaled = model.calibration.scaled("color", logits)
    torch.testing.assert_close(scaled, logits / wanted)
    scale, offset = fit_platt(*scores[LIGHT])
    found = model.calibration.score(values, torch.full((40,), LIGHT))
    torch.testing.assert_close(found, (values * scale + offset).sigmoid())
