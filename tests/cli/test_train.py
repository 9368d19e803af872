"""Output and files of `bevstack train` on a small world."""

import argparse
import json
import re

import pytest
import torch
import torch.distributed.run

from bevstack.cli.main import main
from bevstack.cli.train import add_arguments
from bevstack.models.build import load_model
from bevstack.tables.reader import Tables
from tests.small_world import SPEC, small_world

HEAD = "import dataclasses\nfrom tests.small_world import CONFIG as SMALL\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_world(tmp_path_factory)


def command(root, tmp_path, *more, **recipe):
    """Return the command line for the small configuration with another recipe."""
    path = tmp_path / "config.py"
    path.write_text(
        f"{HEAD}CONFIG = dataclasses.replace(SMALL, training=dataclasses.replace(SMALL.training, "
        f"**{recipe!r}))\n"
    )
    data = ("--nuscenes", str(root), "--version", SPEC.version, "--split", "synth_train")
    return ["train", "--config", str(path), *data, "--out", str(tmp_path / "out"), *more]


def test_it_prints_its_progress_and_writes_weights_logs_and_curves(root, tmp_path, capsys):
    arguments = command(
        root, tmp_path, "--held-out", "synth_val", num_steps=4, log_every=2, evaluate_every=2
    )
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "small: 4 steps of 2 samples from the 6 of synth_train" in text
    line = (
        r"step 4/4  loss \d+\.\d+ \(class \d+\.\d+, box \d+\.\d+\)  \d+\.\d+ steps/s  "
        r"\d+ images/s  waiting for images \d+ % of the time  \d+\.\d GB  0 s left"
    )
    assert re.search(line, text), text
    assert re.search(r"held-out scenes after step 2 \(\d+ s of training\): NDS 0\.\d+, mAP", text)
    out = tmp_path / "out"
    for name in ("learning_curve.png", "score_curve.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    for name in ("model.safetensors", "best.safetensors", "checkpoint_0000004.safetensors"):
        assert (out / name).is_file()
    entries = [json.loads(text) for text in (out / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]
    assert all(entry["images"] == 12 and entry["memory_bytes"] > 1e7 for entry in entries)
    scores = [json.loads(text) for text in (out / "evaluations.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in scores] == [2, 4]
    assert {"nds", "map", "mate", "mave", "ap/car", "elapsed_s"} <= scores[0].keys()


@pytest.mark.parametrize("more", [["--dry-run"], []])
def test_without_held_out_scenes_nothing_is_evaluated_and_a_note_states_it(
    root, tmp_path, capsys, more
):
    arguments = command(root, tmp_path, *more, evaluate_every=2, num_steps=2, checkpoint_every=2)
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "note: without --held-out, the training is not evaluated\n" in text
    assert ("no evaluation\n" in text) == bool(more)
    assert not (tmp_path / "out" / "best.safetensors").exists()


def test_tables_are_opened_once_for_training_and_held_out_scenes(root, tmp_path, monkeypatch):
    opened = []
    construct = Tables.__init__

    def count(self, *arguments, **options):
        opened.append(arguments)
        construct(self, *arguments, **options)

    monkeypatch.setattr(Tables, "__init__", count)
    assert main(command(root, tmp_path, "--dry-run", "--held-out", "synth_val", num_steps=4)) == 0
    assert opened == [(root, SPEC.version)]


def test_scenes_may_be_named_instead_of_splits(root, tmp_path, capsys):
    arguments = command(root, tmp_path, "--dry-run", "--held-out-scene", "scene-6002", num_steps=4)
    split = arguments.index("--split")
    arguments[split : split + 2] = ["--scene", "scene-2002", "--scene", "scene-2001"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "from the 6 of scene-2002, scene-2001" in text and "evaluations at the end" in text
    assert "trained on" not in text
    assert main([*arguments, "--held-out-scene", "scene-2001"]) == 0
    assert "note: held-out scenes are also trained on: scene-2001\n" in capsys.readouterr().out
    assert main([*arguments, "--scene", "scene-1"]) == 2
    assert "scene-1" in capsys.readouterr().err


def test_overrides_change_fields_and_are_stored_with_the_weights(root, tmp_path, capsys):
    arguments = command(root, tmp_path, "training.num_steps=2", "decoder.num_queries=7")
    assert main([*arguments, "--dry-run", "training.log_every=1"]) == 0
    assert "small: 2 steps of 2 samples" in capsys.readouterr().out
    assert main(arguments) == 0
    config = load_model(tmp_path / "out" / "model.safetensors")[1]
    assert (config.decoder.num_queries, config.training.num_steps) == (7, 2)
    assert main([*arguments, "--steps", "3"]) == 2
    assert "training.num_steps must not be given with --steps" in capsys.readouterr().err


def test_a_dry_run_prints_the_plan_and_writes_nothing(root, tmp_path, capsys):
    assert main(command(root, tmp_path, "--dry-run", num_steps=30, accumulate=2)) == 0
    text = capsys.readouterr().out
    for piece in (
        r"parameters: \d\d\d,\d\d\d",
        r"steps: 30\b",
        r"2 per step \(1 process; passes per process: 2, samples per pass: 1\), 60 in total: "
        r"10\.0 times the 6 of the split; sampling: shuffle",
        r"GFLOP per step: \d+ \(forward pass of a sample: \d+\.\d\)",
        r"estimated memory per process: 0\.\d\d GB",
    ):
        assert re.search(piece, text), piece
    assert not (tmp_path / "out").exists()


def test_the_recipe_is_scaled_to_another_number_of_steps(root, tmp_path, capsys):
    arguments = command(root, tmp_path, "--steps", "3", num_steps=30, warmup_steps=20, log_every=1)
    assert main([*arguments, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "small: 3 steps of 2 samples" in text and "steps: 3" in text
    assert main(arguments) == 0
    assert "step 3/3" in capsys.readouterr().out
    assert (tmp_path / "out" / "checkpoint_0000003.safetensors").is_file()


def test_an_error_in_training_is_one_sentence(root, tmp_path, capsys):
    assert main(command(root, tmp_path, learning_rate=1e30, warmup_steps=0)) == 2
    assert re.search(
        r"error: loss must be finite; got .* at step \d, samples ", capsys.readouterr().err
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(root, tmp_path, capsys):
    assert main([*command(root, tmp_path), "--device", "cuda"]) == 2
    assert "device must be one of this machine's 0 GPUs" in capsys.readouterr().err


def test_skipped_samples_are_named(root, tmp_path, capsys):
    arguments = command(
        root, tmp_path, learning_rate=1e30, warmup_steps=0, num_steps=3, on_bad_step="skip"
    )
    assert main(arguments) == 0
    assert re.search(
        r"skipped at step \d, samples \w+, \w+: loss must be finite", capsys.readouterr().out
    )
    assert (tmp_path / "out" / "learning_curve.png").is_file()


def test_torchrun_consumes_no_option_of_the_verb():
    """Check every option: torchrun completes unknown ones, so that it would consume --start."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    torchrun = torch.distributed.run.get_args_parser()
    for action in parser._actions:
        for option in action.option_strings:
            words = ["-m", "bevstack", "train", option, "x"]
            parsed = torchrun.parse_args(["--nproc-per-node", "2", *words])
            assert parsed.training_script_args == words[2:] or option in ("-h", "--help")
