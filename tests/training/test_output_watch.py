"""Training notices outputs that no longer vary, names them, and is silent about healthy ones."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from bevstack.config import PerspectiveConfig
from bevstack.losses.criterion import Criterion
from bevstack.losses.spread import spreads
from bevstack.tasks.detection3d import Detection3D
from bevstack.training import ConstantOutputs, Listeners, train
from bevstack.training.output_watch import MIN_STEPS, WINDOW_STEPS, OutputWatch
from bevstack.training.processes import Processes
from tests.models.perspective.perspective_cases import changed
from tests.small_world import CONFIG, dataset, small_world

PERSPECTIVE = changed(
    PerspectiveConfig(
        strides=(8, 16, 32),
        num_convs=1,
        norm="GN",
        norm_groups=4,
        mean_depth_m=(40.0, 16.0, 9.0),
        std_depth_m=(20.0, 8.0, 6.0),
        level_bounds_px=(16, 32),
        min_points=1,
    ),
    min_extent=1.5,
    speed_activation="linear",
    sides_activation="softplus",
)


def watched(spreads_of_steps: list[dict[str, float]]) -> list[ConstantOutputs]:
    watch = OutputWatch(Processes())
    found = [watch.after_step(step, s) for step, s in enumerate(spreads_of_steps, 1)]
    return [report for report in found if report is not None]


def test_an_output_that_never_varies_in_a_window_is_named_once() -> None:
    healthy, dead = {"a": 0.5, "b": 1e-30}, {"a": 0.0, "b": 2.0}
    steps = [healthy] * WINDOW_STEPS + [dead] * 3 * WINDOW_STEPS
    assert watched(steps) == [ConstantOutputs(2 * WINDOW_STEPS, ("a",), WINDOW_STEPS)]
    # again after it has varied
    again = watched([*steps, *[healthy] * WINDOW_STEPS, *[dead] * WINDOW_STEPS])
    assert [report.step for report in again] == [2 * WINDOW_STEPS, 6 * WINDOW_STEPS]
    assert "a" in again[0].message and "b" not in again[0].names


def test_one_step_of_variation_or_too_few_measurements_are_silent() -> None:
    dead = {"a": 0.0}
    assert watched([dead] * (WINDOW_STEPS - 1) + [{"a": 1e-6}]) == []
    assert watched([dead] * (WINDOW_STEPS - 1)) == []
    unknown = [{"a": math.nan}] * (WINDOW_STEPS - MIN_STEPS + 1)
    assert watched(unknown + [dead] * (MIN_STEPS - 1)) == []
    assert len(watched(unknown[1:] + [dead] * MIN_STEPS)) == 1
    assert watched([{}] * WINDOW_STEPS) == []


def test_variation_in_one_process_is_enough() -> None:
    class Two(Processes):
        def gather_texts(self, text: str) -> list[str]:
            return [text, json.dumps([{"a": WINDOW_STEPS, "b": WINDOW_STEPS}, ["a"]])]

    watch = OutputWatch(Two())
    found = [watch.after_step(n, {"a": 0.0}) for n in range(1, WINDOW_STEPS + 1)]
    assert found[-1] is not None and found[-1].names == ("b",)


def test_spreads_are_those_of_each_component() -> None:
    values = torch.tensor(((1.0, 5, -2), (4.0, 5, -2.5)), requires_grad=True)
    found = spreads("box", values, ("x", "y", "z"))
    assert {k: float(v) for k, v in found.items()} == {"box.x": 3.0, "box.y": 0.0, "box.z": 0.5}
    assert not found["box.x"].requires_grad
    assert float(spreads("class", torch.tensor((1.0, 3.0)))["class"]) == 2
    assert math.isnan(spreads("class", torch.ones(1))["class"])
    assert math.isnan(spreads("class", torch.ones(0))["class"])


def test_both_heads_are_watched_part_by_part(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = dataclasses.replace(CONFIG, perspective=PERSPECTIVE)
    task = Detection3D(config, dataset(small_world(tmp_path_factory)))
    batch = next(iter(task.make_batches(config.training, Processes(), start=0)))
    torch.manual_seed(0)
    model = task.build_model()
    found = task.losses(task.forward(model, batch, first_stage=False), batch).spreads
    assert {"class", "box.x", "box.sin_yaw", "box.vy"} <= found.keys()
    assert {"perspective.sides.left", "perspective.depth", "perspective.speed"} <= found.keys()
    assert len(found) == 11 + 21
    assert all(float(value) > 0 for value in found.values())
    first = task.losses(task.forward(model, batch, first_stage=True), batch).spreads
    assert first.keys() == {name for name in found if name.startswith("perspective.")}
    assert isinstance(task.criterion.bev, Criterion)


class _KilledSides(Detection3D):
    """Task whose model's sides are killed: their rectified branch starts far below 0."""

    def build_model(self, backbone=None):
        model = super().build_model(backbone)
        assert model.perspective_head is not None
        torch.nn.init.constant_(model.perspective_head.ltrb.bias, -50.0)
        return model


@pytest.mark.parametrize("activation", ["relu", "softplus"])
def test_a_killed_branch_is_named_and_a_healthy_one_is_silent(
    tmp_path_factory: pytest.TempPathFactory, tmp_path, caplog, activation: str
) -> None:
    perspective = changed(PERSPECTIVE, sides_activation=activation)
    recipe = dataclasses.replace(
        CONFIG.training,
        num_steps=WINDOW_STEPS,
        perspective_steps=WINDOW_STEPS,
        batch_size=1,
        checkpoint_every=WINDOW_STEPS,
    )
    images = dataclasses.replace(CONFIG.images, size=(32, 96))
    config = dataclasses.replace(CONFIG, images=images, perspective=perspective, training=recipe)
    kind = _KilledSides if activation == "relu" else Detection3D
    task = kind(config, dataset(small_world(tmp_path_factory)))
    reported: list[ConstantOutputs] = []
    train(task, tmp_path / "run", listeners=Listeners(constant=reported.append))
    lines = (tmp_path / "run" / "warnings.jsonl").read_text().splitlines()
    sides = [f"perspective.sides.{side}" for side in ("bottom", "left", "right", "top")]
    if activation == "softplus":
        assert reported == [] and lines == []
        assert not any(record.levelname == "WARNING" for record in caplog.records)
        return
    assert [list(report.names) for report in reported] == [sides]
    (entry,) = map(json.loads, lines)
    assert entry["step"] == WINDOW_STEPS and entry["constant_outputs"] == sides
    assert "perspective.sides.left" in entry["message"]
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [f"step {WINDOW_STEPS}: {entry['message']}"]
