"""A run that is killed and resumed repeats the steps of an uninterrupted one."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bevstack.config import BEVGrid
from bevstack.models.build import build_model, save_model
from bevstack.models.weights import read_safetensors, write_safetensors
from bevstack.tasks.detection3d import Detection3D
from bevstack.training.checkpoint import (
    checkpoint_path,
    list_checkpoints,
    load_checkpoint,
    load_newest,
)
from bevstack.training.jsonl import read_jsonl
from tests.small_world import CONFIG, dataset, small_world, with_training
from tests.small_world import train_detector as train


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_world(tmp_path_factory)


@pytest.fixture(scope="module")
def whole_run(root, tmp_path_factory):
    """Return weights and losses of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    result = train(CONFIG, dataset(root), out)
    return load_file(result.weights), read_jsonl(result.log)


def same_losses(log, want):
    keys = ("step", "loss", "learning_rate", "gradient_norm")
    return [[entry[k] for k in keys] for entry in log] == [[e[k] for k in keys] for e in want]


class Stopped(Exception):
    """Interruption of a run between two steps."""


def stop_at(last_step):
    """Return a listener that interrupts a run."""

    def stop(report):
        if report.step == last_step:
            raise Stopped

    return stop


@pytest.mark.parametrize("last_step", [1, 2, 3, 5])
def test_a_run_stopped_after_any_step_and_resumed_equals_the_whole_run(
    root, tmp_path, whole_run, last_step
):
    with pytest.raises(Stopped):
        train(CONFIG, dataset(root), tmp_path, report=stop_at(last_step))
    result = train(CONFIG, dataset(root), tmp_path, resume=True)
    # the checkpoint of the step that stopped is not written yet
    assert result.resumed_from == (last_step - 1) // 2 * 2
    weights, log = whole_run
    assert same_losses(read_jsonl(result.log), log)
    for name, value in load_file(result.weights).items():
        assert torch.equal(value, weights[name]), name


def test_a_run_may_start_with_the_weights_of_another(root, tmp_path, whole_run):
    weights, _ = whole_run
    first = tmp_path / "first.safetensors"
    model = build_model(CONFIG)
    model.load_state_dict(weights)
    save_model(first, model, CONFIG)
    still = with_training(num_steps=2, learning_rate=1e-12, weight_decay=0.0, seed=9)
    result = train(still, dataset(root), tmp_path / "still", start=first)
    for name, value in load_file(result.weights).items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-9)

    # a resumed run reads its weights from the checkpoint
    longer = with_training(num_steps=4)
    with pytest.raises(Stopped):
        train(longer, dataset(root), tmp_path / "longer", start=first, report=stop_at(3))
    first.unlink()
    train(longer, dataset(root), tmp_path / "longer", start=first, resume=True)
    with pytest.raises(FileNotFoundError, match=r"first\.safetensors"):
        train(longer, dataset(root), tmp_path / "again", start=first)


def test_a_run_does_not_start_with_weights_of_another_model(root, tmp_path):
    other = dataclasses.replace(CONFIG, grid=BEVGrid(shape=(12, 10)))
    save_model(tmp_path / "other.safetensors", build_model(other), other)
    with pytest.raises(ValueError, match=r"weights must be of the configuration given.*shape"):
        train(CONFIG, dataset(root), tmp_path, start=tmp_path / "other.safetensors")


def test_checkpoints_are_refused_without_resume_and_of_another_configuration(root, tmp_path):
    short = with_training(num_steps=2)
    train(short, dataset(root), tmp_path)
    with pytest.raises(FileExistsError, match=r"must hold no checkpoints; got checkpoint_0000002"):
        train(short, dataset(root), tmp_path)
    with pytest.raises(ValueError, match=r"training.num_steps: 3 != 2"):
        train(with_training(num_steps=3), dataset(root), tmp_path, resume=True)


def test_a_run_resumes_with_other_values_of_free_fields(root, tmp_path):
    train(with_training(num_steps=2), dataset(root), tmp_path)
    other = {"num_workers": 1, "checkpoint_every": 1, "accumulate": 2, "engine": "fsdp"}
    result = train(with_training(num_steps=2, **other), dataset(root), tmp_path, resume=True)
    assert result.resumed_from == 2


def test_an_old_checkpoint_is_read_with_defaults_for_new_fields(root, tmp_path):
    """Read a checkpoint in the first format: no average, and only the number of steps."""
    short = with_training(num_steps=4)
    wanted = read_jsonl(train(short, dataset(root), tmp_path / "whole").log)
    old = tmp_path / "old"
    tensors, metadata = read_safetensors(checkpoint_path(tmp_path / "whole", 2))
    fields = json.loads(metadata["config"])
    known = ("num_steps", "batch_size", "learning_rate", "warmup_steps", "checkpoint_every")
    fields["training"] = {name: fields["training"][name] for name in (*known, "num_workers")}
    metadata |= {"config": json.dumps(fields), "state": json.dumps({"steps_done": 2})}
    write_safetensors(checkpoint_path(old, 2), tensors, metadata)
    state = load_checkpoint(checkpoint_path(old, 2), Detection3D(short))
    assert (state.position.samples_seen, state.position.skipped) == (4, 0)
    found = read_jsonl(train(short, dataset(root), old, resume=True).log)
    assert [entry["loss"] for entry in found] == [entry["loss"] for entry in wanted[2:]]


def test_partial_files_of_a_killed_run_are_removed(root, tmp_path):
    short = with_training(num_steps=2)
    train(short, dataset(root), tmp_path)
    left = tmp_path / f".checkpoint_0000003.safetensors.bevstack-{7:016x}.part"
    left.write_bytes(b"half")
    train(short, dataset(root), tmp_path, resume=True)
    assert not left.exists()


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def poison(path):
    """Write NaN, with the checksum that belongs to it."""
    tensors, metadata = read_safetensors(path)
    name = next(name for name in tensors if name.startswith("model."))
    tensors[name].view(-1)[0] = float("nan")
    write_safetensors(path, tensors, metadata)


@pytest.fixture(scope="module")
def stopped_run(root, tmp_path_factory):
    """Return the folder of a run that stopped in step 5, with the checkpoints of steps 2 and 4."""
    out = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Stopped):
        train(CONFIG, dataset(root), out, report=stop_at(5))
    return out


@pytest.fixture
def stopped_copy(stopped_run, tmp_path):
    return Path(shutil.copytree(stopped_run, tmp_path / "run"))


@pytest.mark.parametrize("damage", [cut, poison, lambda p: flip(p, -9), lambda p: flip(p, 300)])
def test_a_damaged_newest_checkpoint_gives_way_to_an_older_whole_one(stopped_copy, damage):
    damage(checkpoint_path(stopped_copy, 4))
    with pytest.warns(UserWarning, match=r"resuming from the older checkpoint_0000002.*0000004"):
        state = load_newest(stopped_copy, Detection3D(CONFIG))
    assert state.position.steps_done == 2
    damage(checkpoint_path(stopped_copy, 2))
    with pytest.raises(ValueError, match=r"checkpoint_0000004\.safetensors"):
        load_newest(stopped_copy, Detection3D(CONFIG))


def test_a_run_resumed_from_the_older_checkpoint_equals_the_whole_run(
    root, stopped_copy, whole_run
):
    cut(checkpoint_path(stopped_copy, 4))
    with pytest.warns(UserWarning, match="resuming from the older checkpoint_0000002"):
        result = train(CONFIG, dataset(root), stopped_copy, resume=True)
    assert result.resumed_from == 2
    assert same_losses(read_jsonl(result.log), whole_run[1])
    found = load_file(result.weights)
    assert all(torch.equal(found[name], value) for name, value in whole_run[0].items())


def test_damaged_checkpoints_of_later_steps_leave_with_the_next_one_written(root, stopped_copy):
    cut(checkpoint_path(stopped_copy, 4))
    other = with_training(checkpoint_every=1)
    with pytest.raises(Stopped), pytest.warns(UserWarning, match="resuming from the older"):
        train(other, dataset(root), stopped_copy, resume=True, report=stop_at(4))
    assert [path.name for path in list_checkpoints(stopped_copy)] == [
        "checkpoint_0000002.safetensors",
        "checkpoint_0000003.safetensors",
    ]


def test_a_checkpoint_of_another_configuration_is_refused_and_not_passed_over(stopped_copy):
    newest = checkpoint_path(stopped_copy, 4)
    tensors, metadata = read_safetensors(newest)
    other = metadata["config"].replace('"learning_rate": ', '"learning_rate": 1')
    write_safetensors(newest, tensors, {**metadata, "config": other})
    with pytest.raises(ValueError, match=r"training\.learning_rate"):
        load_newest(stopped_copy, Detection3D(CONFIG))


def test_only_the_newest_checkpoints_are_kept(root, tmp_path):
    train(CONFIG, dataset(root), tmp_path)
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "checkpoint_0000004.safetensors",
        "checkpoint_0000006.safetensors",
    ]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_samples(root, tmp_path):
    wild = with_training(learning_rate=1e30, warmup_steps=0)
    with pytest.raises((FloatingPointError, ValueError), match="finite"):
        train(wild, dataset(root), tmp_path)


def test_the_log_drops_steps_after_the_checkpoint_and_a_line_cut_short(root, tmp_path):
    result = train(with_training(num_steps=2), dataset(root), tmp_path)
    with result.log.open("a") as file:
        file.write(json.dumps({"step": 3, "loss": 0.0}) + "\n" + '{"step": 4, "lo')
    train(with_training(num_steps=2), dataset(root), tmp_path, resume=True)
    assert [entry["step"] for entry in read_jsonl(result.log)] == [1, 2]
