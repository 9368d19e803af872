"""Several tasks in one step: losses, one backbone pass a view, kills, two processes, files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

import bevstack
from bevstack.models.weights import read_safetensors, task_weights
from bevstack.tasks.detection3d import Detection3D
from bevstack.tasks.joint import JointPart, JointTask
from bevstack.training import train
from bevstack.training.jsonl import read_jsonl
from bevstack.training.processes import Processes
from tests.conftest import shared_dir
from tests.small_world import CONFIG, dataset, small_world
from tests.sources import ROOT
from tests.tasks.joint_run import BACKBONE, recipe, tiny_alone, together
from tests.tasks.tiny import PictureTask, RoleTask, read_pictures

pytestmark = pytest.mark.skipif(
    shared_dir() is None, reason="no stored pictures: neither ../shared nor $BEVSTACK_SHARED"
)
TIMES = {"data_s", "step_s", "elapsed_s", "memory_bytes"}
WAIT_S = 600


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_world(tmp_path_factory)


def first_batch(task, labelled=None):
    """Return the first batch, or the first one in which a task has labels."""
    batches = iter(task.make_batches(task.recipe, Processes(), start=0))
    return next(b for b in batches if labelled in (None, *b.parts["detection3d"].labels))


def losses_of(task, model, batch):
    return task.losses(task.forward(model, batch, None, first_stage=False), batch)


def test_a_tiny_task_learns_alone_through_the_same_loop(tmp_path):
    result = train(tiny_alone(num_steps=60), tmp_path)
    log = read_jsonl(result.log)
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    (evaluation,) = read_jsonl(result.evaluations)
    assert evaluation["tiny/accuracy"] > 0.4  # five classes
    _, metadata = read_safetensors(result.weights)
    assert json.loads(metadata["tasks"]) == ["tiny"]
    assert result.best.is_file()


def test_the_backbone_runs_once_for_each_view(root):
    """Detection and roles see the same images; pictures are the second view."""
    task = together(root)
    model = task.build_model().train()
    calls = []
    model.backbone.register_forward_hook(lambda _, inputs, __: calls.append(inputs[0].shape))
    batch = first_batch(task, "role")
    losses_of(task, model, batch).total.backward()
    assert [tuple(shape[:1]) for shape in calls] == [(2 * 6,), (2,)]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    assert len({id(m.backbone) for m in model.tasks.values()} | {id(model.backbone)}) == 1


def test_the_joint_loss_is_the_weighted_sum_of_the_tasks(root):
    task = together(root)
    torch.manual_seed(0)
    model = task.build_model().eval()  # no dropout: losses can be computed again
    batch = first_batch(task, "role")
    found = losses_of(task, model, batch)
    assert set(found.terms) == {"detection3d", "role", "tiny"}
    alone = {}
    detection = batch.parts["detection3d"]
    for name, labels in (("detection3d", detection), ("role", detection.labels["role"])):
        part, own = task.parts[name].task, model.tasks[name]
        maps = model.backbone(
            task.parts["detection3d"].task.images(model.tasks["detection3d"], detection)
        )
        alone[name] = part.losses(part.forward(own, labels, maps, first_stage=False), labels).total
    pictures = batch.parts["tiny"]
    tiny = task.parts["tiny"].task
    outputs = tiny.forward(model.tasks["tiny"], pictures, None, first_stage=False)
    alone["tiny"] = tiny.losses(outputs, pictures).total
    wanted = alone["detection3d"] + 0.5 * alone["role"] + 2.0 * alone["tiny"]
    torch.testing.assert_close(found.total, wanted)
    torch.testing.assert_close(found.terms["tiny"], 2.0 * alone["tiny"].detach())


def test_samples_without_labels_of_a_task_give_it_no_loss(root):
    """Every second sample has no role: a batch of those gives no gradient to its head."""
    settings = recipe(1)
    stream = dataset(root)
    without = [i for i in range(len(stream)) if stream.frame(i, False).timestamp_us // 500_000 % 2]
    assert 0 < len(without) < len(stream)
    parts = [
        JointPart(task=Detection3D(CONFIG, stream.select(without)), num_samples=1),
        JointPart(task=RoleTask(BACKBONE, settings), same_samples_as="detection3d"),
    ]
    task = JointTask(parts, settings)
    model = task.build_model().train()
    batch = first_batch(task)
    assert batch.parts["detection3d"].labels == {}
    losses = losses_of(task, model, batch)
    losses.total.backward()
    assert losses.terms["role"] == 0
    assert all(p.grad is None for p in model.tasks["role"].head.parameters())
    assert losses.terms["detection3d"] == losses.total > 0


def test_a_pass_without_any_sample_has_a_loss_of_zero_with_a_gradient(root):
    task = together(root)
    model = task.build_model().train()
    batch = type(first_batch(task))({"detection3d": None, "tiny": None}, {})
    losses = losses_of(task, model, batch)
    losses.total.backward()
    assert losses.total == 0 and set(losses.terms) == set(task.names)


def load_pictures(weights, config, device):
    """Return the tiny task's model of a file; its configuration is the task's own JSON."""
    assert json.loads(config)["name"] == "tiny"
    model = PictureTask(BACKBONE, recipe(4)).build_model().to(device).eval()
    model.load_state_dict(weights)
    return model


def run_program(*arguments, processes=1):
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*launcher, "tests.tasks.joint_run", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def kill_after(process, log, lines):
    until = time.monotonic() + WAIT_S
    while not log.is_file() or log.read_text().count("\n") < lines:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def without_times(path):
    return [{k: v for k, v in entry.items() if k not in TIMES} for entry in read_jsonl(path)]


@pytest.mark.parametrize(("kind", "lines"), [("alone", 13), ("together", 3)])
def test_a_killed_run_resumes_bit_for_bit(root, tmp_path, kind, lines):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_program(kind, root, whole).wait() == 0
    kill_after(run_program(kind, root, killed), killed / "log.jsonl", lines)
    assert not (killed / "model.safetensors").exists()
    assert run_program(kind, root, killed).wait() == 0
    wanted = load_file(whole / "model.safetensors")
    found = load_file(killed / "model.safetensors")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    for name in ("log.jsonl", "evaluations.jsonl"):
        assert without_times(killed / name) == without_times(whole / name)


def test_two_processes_train_although_one_has_no_picture(root, tmp_path):
    assert run_program("ranks", root, tmp_path / "two", processes=2).wait() == 0
    assert run_program("ranks", root, tmp_path / "one").wait() == 0
    two, one = (read_jsonl(tmp_path / name / "log.jsonl") for name in ("two", "one"))
    # The first step has the same weights. Detection divides by each process's matched queries.
    assert two[0]["loss/tiny"] == pytest.approx(one[0]["loss/tiny"], rel=1e-4)
    assert two[0]["images"] == one[0]["images"] == 2 * 6 + 1
    assert two[1]["loss"] == pytest.approx(one[1]["loss"], rel=0.1)


def test_a_joint_file_offers_what_its_tasks_offer(root, tmp_path):
    held_out = dataset(root, "synth_val").select([0])
    result = train(together(root, held_out, num_steps=2, ema_decay=0.0), tmp_path)
    _, metadata = read_safetensors(result.weights)
    assert json.loads(metadata["tasks"]) == ["detection3d", "role", "tiny"]
    (evaluation,) = read_jsonl(result.evaluations)
    assert {"detection3d/nds", "detection3d/map", "tiny/accuracy"} <= evaluation.keys()
    weights = load_file(result.weights)
    assert not any(".backbone." in name for name in weights)
    assert bevstack.load(result.weights).tasks == ("detection3d",)  # no loader is known
    detector = bevstack.load(result.weights, predictors={"tiny": load_pictures})
    assert detector.config == CONFIG and detector.tasks == ("detection3d", "tiny")
    pictures, classes = read_pictures()
    found = bevstack.load_tasks(result.weights, predictors={"tiny": load_pictures})
    assert list(found) == ["detection3d", "tiny"]
    with torch.no_grad():
        predicted = found["tiny"](found["tiny"].backbone(pictures)).argmax(-1)
        assert torch.equal(
            predicted,
            detector.further["tiny"](detector.further["tiny"].backbone(pictures)).argmax(-1),
        )
    accuracy = float((predicted == classes).float().mean())
    assert accuracy == pytest.approx(evaluation["tiny/accuracy"])
    wanted = task_weights(weights, "detection3d")
    found = detector.model.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in found)
    frame = held_out.frame(0)
    assert len(detector.predict(frame)) == len(bevstack.load(result.weights).predict(frame))
    again = together(root, held_out, num_steps=1, ema_decay=0.0)
    train(again, tmp_path / "again", start=result.weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": []}, r"parts must be tasks of distinct names; got \[\]"),
        ({"names": 2}, r"distinct names; got \['tiny', 'tiny'\]"),
        ({"batch_size": 5}, r"batch_size must be the sum of num_samples, 4; got 5"),
        ({"owner": "none"}, r"same_samples_as of tiny must name a task .* got 'none'"),
        ({"engine": "fsdp"}, r"engine must be 'ddp' for several tasks"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    settings = recipe(changes.get("batch_size", 4), engine=changes.get("engine", "ddp"))
    part = JointPart(
        task=PictureTask(BACKBONE, settings), num_samples=4, same_samples_as=changes.get("owner")
    )
    parts = changes.get("parts", [part] * changes.get("names", 1))
    with pytest.raises(ValueError, match=message):
        JointTask(parts, settings)


def test_weights_of_another_list_of_tasks_are_refused(root, tmp_path):
    train(tiny_alone(num_steps=1, ema_decay=0.0), tmp_path / "tiny")
    parts = [p for p in together(root).parts.values() if p.name != "tiny"]
    with pytest.raises(ValueError, match=r"weights must be of the tasks \('detection3d', 'role'"):
        JointTask(parts, recipe(2)).read_weights(tmp_path / "tiny" / "model.safetensors")
    with pytest.raises(ValueError, match=r"must be of the task detection3d; got .* \('tiny',\)"):
        bevstack.load(tmp_path / "tiny" / "model.safetensors")
    with pytest.raises(ValueError, match=r"predictors must hold a loader of .* got \['role'\]"):
        bevstack.load_tasks(
            tmp_path / "tiny" / "model.safetensors", predictors={"role": load_pictures}
        )
