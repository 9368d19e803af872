"""Missing and damaged files and bad steps: the run stops, or skips and counts them."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bevstack.datasets.loader import make_training_loader
from bevstack.training import Listeners
from bevstack.training.jsonl import read_jsonl
from tests.small_world import dataset, small_world, with_training
from tests.small_world import train_detector as train


@pytest.fixture(scope="module")
def whole_root(tmp_path_factory):
    return small_world(tmp_path_factory)


@pytest.fixture
def root(whole_root, tmp_path):
    """Copy the world, so that a test can damage it."""
    return shutil.copytree(whole_root, tmp_path / "world")


def damage(root, index, how):
    """Damage the last image of a sample; return the token and the file."""
    data = dataset(root)
    row = data._cameras(int(data._selection[index]))[-1]
    path = root / str(data.tables.keyframes.filename[row])
    if how == "missing":
        path.unlink()
    elif how == "overwritten":  # inside, so that only the decoder notices it
        data_of_file, middle = path.read_bytes(), path.stat().st_size // 2
        noise = np.random.default_rng(0).bytes(400)
        path.write_bytes(data_of_file[:middle] + noise + data_of_file[middle + 400 :])
    else:
        path.write_bytes(path.read_bytes()[:500])
    return data.sample_token(index), path


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(
    ("how", "error"), [("missing", FileNotFoundError), ("damaged", ValueError)]
)
def test_a_bad_file_stops_the_run_and_names_sample_and_file(
    root, tmp_path, how, error, num_workers
):
    token, path = damage(root, 3, how)
    config = with_training(num_workers=num_workers)
    with pytest.raises(error) as caught:
        train(config, dataset(root), tmp_path / "run")
    assert token in str(caught.value) and path.name in str(caught.value)


@pytest.mark.parametrize(("num_workers", "how"), [(0, "overwritten"), (1, "damaged")])
def test_a_bad_file_is_skipped_named_and_counted(root, tmp_path, num_workers, how):
    token, path = damage(root, 3, how)
    config = with_training(num_workers=num_workers, on_bad_sample="skip")
    reported = []
    result = train(
        config, dataset(root), tmp_path / "run", listeners=Listeners(skipped=reported.append)
    )
    log = read_jsonl(result.log)
    assert [entry["step"] for entry in log] == [1, 2, 3, 4, 5, 6]
    assert log[-1]["skipped"] == len(reported) == 2  # 12 draws from 6 samples: each twice
    assert {skipped.sample_tokens for skipped in reported} == {(token,)}
    assert all(path.name in skipped.reason for skipped in reported)
    lines = (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["samples"] for line in lines] == [[token]] * 2
    assert [json.loads(line)["step"] for line in lines] == [skipped.step for skipped in reported]


def test_a_bad_sample_is_replaced_by_the_same_sample_in_every_run(root):
    good = with_training(on_bad_sample="skip")
    wanted = next(iter(make_training_loader(dataset(root), good))).sample_tokens
    index = dataset(root).index_of(wanted[1])
    damage(root, index, "missing")
    found = []
    for num_workers in (0, 1):
        config = with_training(on_bad_sample="skip", num_workers=num_workers)
        stream = make_training_loader(dataset(root), config)
        found.append(next(iter(stream)).sample_tokens)
        assert [skipped.sample_token for skipped in stream.skipped] == [wanted[1]]
    assert found[0] == found[1]
    assert found[0][0] == wanted[0] and found[0][1] != wanted[1]


def test_the_order_of_good_samples_does_not_depend_on_on_bad_sample(root):
    for on_bad_sample in ("stop", "skip"):
        config = with_training(on_bad_sample=on_bad_sample)
        stream = iter(make_training_loader(dataset(root), config))
        tokens = [next(stream).sample_tokens for _ in range(4)]
        if on_bad_sample == "stop":
            wanted = tokens
    assert tokens == wanted


def test_a_resumed_run_keeps_the_count_and_the_names_of_skipped_samples(root, tmp_path):
    damage(root, 3, "missing")
    config = with_training(on_bad_sample="skip")
    whole = train(config, dataset(root), tmp_path / "whole")

    class Stopped(Exception):
        pass

    def stop(report):
        if report.step == 5:
            raise Stopped

    with pytest.raises(Stopped):
        train(config, dataset(root), tmp_path / "run", report=stop)
    result = train(config, dataset(root), tmp_path / "run", resume=True)
    assert result.resumed_from == 4
    found, wanted = (read_jsonl(run.log) for run in (result, whole))
    assert [e["skipped"] for e in found] == [e["skipped"] for e in wanted]
    names = [(tmp_path / run / "skipped.jsonl").read_text() for run in ("run", "whole")]
    assert names[0] == names[1] != ""


def test_more_skipped_samples_than_allowed_stop_the_run(root, tmp_path):
    damage(root, 3, "missing")
    config = with_training(on_bad_sample="skip", max_skipped=1)
    with pytest.raises(ValueError, match=r"at most training\.max_skipped = 1; got 2 at step \d"):
        train(config, dataset(root), tmp_path / "run")


def test_a_run_without_good_samples_stops(root, tmp_path):
    for index in range(6):
        damage(root, index, "missing")
    with pytest.raises(FileNotFoundError, match=r"got no file .* \(sample \w+\)"):
        train(with_training(on_bad_sample="skip"), dataset(root), tmp_path / "run")


def wild(**changes):
    """Return a recipe whose weights are useless after the first step."""
    return with_training(learning_rate=1e30, warmup_steps=0, num_steps=3, **changes)


def test_a_bad_step_stops_the_run_and_names_its_samples(whole_root, tmp_path):
    with pytest.raises(FloatingPointError, match=r"must be finite; got .* at step \d, ") as caught:
        train(wild(), dataset(whole_root), tmp_path)
    step = len(read_jsonl(tmp_path / "log.jsonl")) + 1
    stream = iter(make_training_loader(dataset(whole_root), wild()))
    tokens = [next(stream).sample_tokens for _ in range(step)][-1]
    assert all(token in str(caught.value) for token in tokens)


def test_a_bad_step_that_is_skipped_changes_nothing(whole_root, tmp_path):
    config = wild(on_bad_step="skip", checkpoint_every=1, ema_decay=0.9)
    result = train(config, dataset(whole_root), tmp_path)
    log = read_jsonl(result.log)
    bad = [entry["step"] for entry in log if entry["loss"] != entry["loss"]]
    assert bad and bad[-1] == 3
    assert log[-1]["skipped"] >= len(bad)
    assert '"loss": null' in result.log.read_text()  # valid JSON
    before, after = (load_file(tmp_path / f"checkpoint_000000{n}.safetensors") for n in (2, 3))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_an_infinite_gradient_of_a_finite_loss_is_a_bad_step(whole_root, tmp_path):
    data = dataset(whole_root)
    config = with_training(num_steps=1)
    from bevstack.training import optimizer_step

    clip = optimizer_step.nn.utils.clip_grad_norm_

    def infinite(parameters, limit):
        parameters = list(parameters)
        parameters[0].grad.fill_(torch.inf)
        return clip(parameters, limit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizer_step.nn.utils, "clip_grad_norm_", infinite)
        with pytest.raises(FloatingPointError, match=r"gradient must be finite; got a norm of inf"):
            train(config, data, tmp_path)
