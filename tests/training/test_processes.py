"""Two processes train like a single one on the same batches: DDP and FSDP2, by gloo on the CPU."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bevstack.datasets.loader import make_training_loader
from bevstack.tasks.detection3d import Detection3D
from bevstack.training.checkpoint import checkpoint_path, load_checkpoint
from bevstack.training.jsonl import read_jsonl
from bevstack.training.processes import Processes, join_processes
from tests.small_world import build_once, dataset, small_world
from tests.small_world import train_detector as train
from tests.training.two_ranks import CASES, POISONED_STEP, RECIPE

REPOSITORY = Path(__file__).parents[2]
# Relative tolerance of float32 losses, which are summed in another order.
CLOSE = 1e-5
CONFIG_FILE = "from tests.training.two_ranks import CASES\nCONFIG = CASES['ddp']\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_world(tmp_path_factory)


@pytest.fixture(scope="module")
def alone(root, tmp_path_factory):
    """Return the folders of the same runs by a single process."""

    def make(out):
        for name in ("ddp", "all_ddp"):
            train(CASES[name], dataset(root), out / name, held_out=dataset(root, "synth_val"))

    out = build_once(tmp_path_factory, "alone", make)
    return {"ddp": out / "ddp", "all_ddp": out / "all_ddp"}


def copy_of_second_step(finished, out):
    """Copy the files that a run had after its second step."""
    out.mkdir()
    for path in (finished / "log.jsonl", checkpoint_path(finished, 2)):
        shutil.copy(path, out)
    return out


@pytest.fixture(scope="module")
def together(root, alone, tmp_path_factory):
    """Return the folder of the runs by two processes."""

    def make(out):
        for name in ("ddp", "fsdp"):
            copy_of_second_step(alone["ddp"], out / f"{name}_resumed")
        (out / "config.py").write_text(CONFIG_FILE)
        (out / "victim").write_text(str(victim(root)))
        (out / "stdout").write_text(run_two_processes(root, out))

    return build_once(tmp_path_factory, "together", make)


def run_two_processes(root, out):
    script = [str(Path(__file__).with_name("two_ranks.py")), str(root), str(out)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", *script],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def victim(root):
    """Return the index of a sample of the second step."""
    return dataset(root).index_of(tokens(root, POISONED_STEP)[0])


def tokens(root, step):
    start = (step - 1) * RECIPE.batch_size
    return next(iter(make_training_loader(dataset(root), CASES["ddp"], start=start))).sample_tokens


def expect_same_losses(found, wanted):
    found, wanted = (read_jsonl(folder / "log.jsonl") for folder in (found, wanted))
    assert [e["step"] for e in found] == [e["step"] for e in wanted] == [1, 2, 3]
    for ours, theirs in zip(found, wanted, strict=True):
        keys = [key for key in theirs if key.startswith("loss")]
        assert keys == [key for key in ours if key.startswith("loss")]
        assert [ours[k] for k in keys] == pytest.approx([theirs[k] for k in keys], rel=CLOSE)
        assert ours["images"] == theirs["images"]


@pytest.mark.parametrize("name", ["ddp", "fsdp", "all_ddp", "all_fsdp"])
def test_two_processes_have_the_losses_of_one(alone, together, name):
    single = alone[name.replace("fsdp", "ddp")]
    expect_same_losses(together / name, single)
    # Adam divides gradients by their size, so where gradients are rounding errors the weights
    # diverge by up to the learning rate of 1e-4 per step.
    folders = together / name, single
    found, wanted = (load_file(folder / "model.safetensors") for folder in folders)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=4e-4)
    mean = sum((found[k] - v).abs().double().sum() for k, v in wanted.items())
    assert mean / sum(v.numel() for v in wanted.values()) < 2e-6


@pytest.mark.parametrize("name", ["ddp", "fsdp", "all_ddp", "all_fsdp"])
def test_two_processes_evaluate_each_held_out_scene_once(alone, together, name):
    found = read_jsonl(together / name / "evaluations.jsonl")
    wanted = read_jsonl(alone[name.replace("fsdp", "ddp")] / "evaluations.jsonl")
    assert [e["step"] for e in found] == [e["step"] for e in wanted] == [3]
    assert found[0]["nds"] == pytest.approx(wanted[0]["nds"], abs=1e-3)
    assert not list((together / name).glob(".evaluation*"))
    assert (together / name / "best.safetensors").is_file()


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_a_run_of_one_process_resumes_with_two(alone, together, name):
    expect_same_losses(together / f"{name}_resumed", alone["ddp"])


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_a_run_of_two_processes_resumes_with_one(root, alone, together, tmp_path, name):
    out = copy_of_second_step(together / name, tmp_path / "run")
    position = load_checkpoint(checkpoint_path(out, 2), Detection3D(CASES[name])).position
    assert (position.steps_done, position.samples_seen, position.epoch) == (2, 8, 1)
    assert train(CASES[name], dataset(root), out, resume=True).resumed_from == 2
    expect_same_losses(out, alone["ddp"])


def test_the_command_trains_under_torchrun_and_one_process_prints(alone, together):
    expect_same_losses(together / "cli", alone["ddp"])
    printed = (together / "stdout").read_text()
    assert printed.count("weights: ") == printed.count("step 3/3") == 1
    assert (together / "cli" / "learning_curve.png").is_file()


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_a_bad_step_of_one_process_is_skipped_by_all(root, alone, together, engine):
    out = together / f"skip_{engine}"
    entries = read_jsonl(out / "log.jsonl")
    sample = dataset(root).sample_token(victim(root))
    bad = [e for e in entries if sample in tokens(root, int(e["step"]))]
    assert POISONED_STEP in [e["step"] for e in bad]
    assert all(e["loss"] != e["loss"] for e in bad)  # NaN
    assert entries[-1]["skipped"] == len(bad) < len(entries)
    lines = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [e["step"] for e in bad]
    for line in lines:
        position = tokens(root, line["step"]).index(sample)
        assert line["samples"] == list(tokens(root, line["step"])[position % 2 :: 2])
        assert "loss must be finite" in line["reason"]
    weights = load_file(out / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values())


def test_collectives_of_a_single_process():
    alone = Processes()
    assert alone.gather_texts("ü") == ["ü"]
    assert alone.all_true(torch.tensor(True)) and not alone.all_true(torch.tensor(False))
    assert alone.all_reduce_sum(torch.tensor([3.0])).tolist() == [3.0]
    assert join_processes().is_first


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_refused():
    with pytest.raises(ValueError, match="device must be one of this machine's 0 GPUs; got cuda"):
        join_processes("cuda")
