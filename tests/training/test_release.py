"""Packaged weights: written in half precision, with predictions close to the original."""

from __future__ import annotations

import errno
import json
import os
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bevstack
from bevstack.models.build import build_model, load_model, save_model
from bevstack.models.weights import read_safetensors, write_safetensors
from bevstack.runtime.traffic_predictor import TrafficPredictor
from bevstack.tasks.traffic import Traffic
from bevstack.training.release import ship_log, ship_weights
from tests.models.small_models import make_batch, small_config
from tests.runtime.traffic_weights import BOTH as LIGHTS

ROOT = Path(__file__).resolve().parent.parent.parent
ORIGIN = {"data_digest": "0123abc", "command": "bevstack train --config small", "revision": "f00"}


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    config = small_config()
    torch.manual_seed(5)
    path = tmp_path / "model.safetensors"
    save_model(path, build_model(config), config, {"step": "70"})
    return path


def test_shipped_weights_have_half_the_size_and_load_as_float32(
    trained: Path, tmp_path: Path
) -> None:
    target = tmp_path / "new" / "small.safetensors"
    shipment = ship_weights(trained, target, ORIGIN)
    tensors, metadata = read_safetensors(target)
    before, metadata_before = read_safetensors(trained)
    assert metadata == {**metadata_before, **ORIGIN} and metadata["step"] == "70"
    assert {t.dtype for t in tensors.values() if t.is_floating_point()} == {torch.float16}
    assert shipment.num_values == sum(tensor.numel() for tensor in before.values())
    assert shipment.num_bytes == target.stat().st_size < 0.6 * trained.stat().st_size
    assert 0 < shipment.largest_change <= 2**-11  # float16 keeps eleven binary places
    original, _ = load_model(trained)
    loaded, config = load_model(target)
    assert config == small_config()
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    for name, value in loaded.state_dict().items():
        wanted = original.state_dict()[name]
        assert value.dtype == wanted.dtype
        assert torch.equal(value, wanted.half().float() if wanted.is_floating_point() else wanted)
    with torch.no_grad():
        got, wanted_output = loaded(make_batch(1, 3)), original(make_batch(1, 3))
    # Weights are rounded by a relative 2**-12 at most; the errors of some tens of layers add up.
    torch.testing.assert_close(got.bev, wanted_output.bev, rtol=0.02, atol=0.02)


def test_lights_alone_are_shipped_and_load(tmp_path: Path) -> None:
    torch.manual_seed(6)
    task = Traffic(LIGHTS)
    before = task.build_model().state_dict()
    task.write_model(tmp_path / "lights.safetensors", before, {})
    target = tmp_path / "small.safetensors"
    ship_weights(tmp_path / "lights.safetensors", target, ORIGIN)
    predictor = bevstack.load_tasks(target)["traffic"]
    assert isinstance(predictor, TrafficPredictor)
    for name, value in predictor.model.state_dict().items():
        wanted = before[name]
        assert torch.equal(value, wanted.half().float() if wanted.is_floating_point() else wanted)
    tensors, metadata = read_safetensors(tmp_path / "lights.safetensors")
    del tensors[sorted(tensors)[0]]
    write_safetensors(tmp_path / "lights.safetensors", tensors, metadata)
    with pytest.raises(ValueError, match="must"):
        ship_weights(tmp_path / "lights.safetensors", target, ORIGIN)
    with pytest.raises(ValueError, match="decoder must be None for a file without boxes"):
        ship_weights(target, tmp_path / "b.safetensors", ORIGIN, decoder=small_config().decoder)


def test_shipping_again_changes_nothing(trained: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    ship_weights(trained, first, ORIGIN)
    assert ship_weights(first, second, ORIGIN).largest_change == 0
    tensors, metadata = read_safetensors(second)
    wanted, wanted_metadata = read_safetensors(first)
    assert metadata == wanted_metadata
    assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("value", [70000.0, -65520.0, float("nan"), float("inf")])
def test_a_value_that_does_not_fit_in_half_precision_is_refused(
    trained: Path, tmp_path: Path, value: float
) -> None:
    tensors, metadata = read_safetensors(trained)
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 2)
    tensors[name][0, 1] = value
    write_safetensors(trained, tensors, metadata)
    target = tmp_path / "out" / "small.safetensors"
    with pytest.raises(ValueError, match=rf"finite and at most 65504 .* in {name}"):
        ship_weights(trained, target, ORIGIN)
    assert not target.exists()


def test_large_weights_contradicting_metadata_and_other_files_are_refused(
    trained: Path, tmp_path: Path
) -> None:
    target = tmp_path / "small.safetensors"
    with pytest.raises(ValueError, match=r"weights must take 0\.01 MB or less to be packaged; got"):
        ship_weights(trained, target, ORIGIN, max_bytes=10_000)
    for key in ("config", "step"):
        with pytest.raises(ValueError, match=f"provenance must not change .* got another {key}"):
            ship_weights(trained, target, {key: "other"})
    write_safetensors(tmp_path / "bare.safetensors", {"a": torch.zeros(2)}, {})
    with pytest.raises(ValueError, match="weights must hold their configuration"):
        ship_weights(tmp_path / "bare.safetensors", target, ORIGIN)
    assert not target.exists()


def test_a_full_disk_leaves_the_old_file_whole(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "small.safetensors"
    ship_weights(trained, target, ORIGIN)
    before = target.read_bytes()

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        ship_weights(trained, target, {**ORIGIN, "more": "yes"})
    assert target.read_bytes() == before


def run_tool(*arguments: object) -> int:
    main: Callable[[list[str]], int] = runpy.run_path(str(ROOT / "tools/ship_weights.py"))["main"]
    return main([str(argument) for argument in arguments])


def test_the_tool_writes_the_file_with_its_origin(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "small.safetensors"
    origin = ["--data-digest", "0123abc", "--command", "bevstack train --config small"]
    assert run_tool(trained, "--out", target, *origin, "--revision", "f00") == 0
    metadata = read_safetensors(target)[1]
    assert {key: metadata[key] for key in ORIGIN} == ORIGIN
    assert "MB" in capsys.readouterr().out
    assert run_tool(tmp_path / "none.safetensors", "--out", target, *origin, "--revision", "0") == 2
    assert "weights must be a file" in capsys.readouterr().err
    assert run_tool(trained, "--out", target, *origin, "--revision", "0", "--max-mb", 0.001) == 2


def test_a_shortened_log_has_the_mean_of_several_steps_per_line(tmp_path: Path) -> None:
    log, short = tmp_path / "log.jsonl", tmp_path / "short.jsonl"
    log.write_text("".join(f'{{"step": {i}, "loss": {i * i}}}\n' for i in range(1, 6)))
    assert ship_log(log, short, steps=2) == 3
    rows = [json.loads(text) for text in short.read_text().splitlines()]
    assert rows == [
        {"step": 2, "loss": (1 + 4) / 2},
        {"step": 4, "loss": (9 + 16) / 2},
        {"step": 5, "loss": 25},
    ]
    log.write_text('{"step": 1, "loss": 3}\n{"loss": 2}\n')
    with pytest.raises(ValueError, match="line 2 must be an object of numbers with a step"):
        ship_log(log, short, steps=2)
    with pytest.raises(ValueError, match="steps must be at least 1 per line; got 0"):
        ship_log(log, short, steps=0)
    log.write_bytes(b'{"step": 1}\n\xff\n')
    with pytest.raises(ValueError, match="training log must be UTF-8 text; got "):
        ship_log(log, short, steps=2)
    assert len(short.read_text().splitlines()) == 3  # unchanged


def test_the_selection_of_boxes_may_be_changed_after_training(
    trained: Path, tmp_path: Path
) -> None:
    target, config = tmp_path / "read.safetensors", small_config()
    decoder = replace(config.decoder, nms_iou=0.1, max_detections=7)
    ship_weights(trained, target, ORIGIN, decoder=decoder)
    assert load_model(target)[1] == replace(config, decoder=decoder)
    changes = read_safetensors(target)[1]["set_after_training"]
    assert "decoder.nms_iou: 0.1 != None" in changes and "decoder.max_detections: 7 != " in changes
    ship_weights(trained, target, ORIGIN, decoder=config.decoder)
    assert "set_after_training" not in read_safetensors(target)[1]
    wider = replace(decoder, feedforward_channels=99)
    with pytest.raises(ValueError, match=r"nms_iou alone; got decoder\.feedforward_channels: 99"):
        ship_weights(trained, target, ORIGIN, decoder=wider)


def test_the_tool_writes_the_log_and_the_selection_of_boxes(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, log, config = (tmp_path / name for name in ("s.safetensors", "log.jsonl", "read.py"))
    log.write_text("".join(f'{{"step": {i}, "loss": 1}}\n' for i in range(1, 42)))
    config.write_text(
        "from dataclasses import replace\n"
        "from tests.models.small_models import small_config\n"
        "CONFIG = small_config()\n"
        "CONFIG = replace(CONFIG, decoder=replace(CONFIG.decoder, nms_iou=0.25))\n"
    )
    given = ["--data-digest", "0123abc", "--command", "bevstack train", "--revision", "f00"]
    arguments = [trained, "--out", target, *given, "--log", log]
    assert run_tool(*arguments, "--read-as", config) == 0
    assert load_model(target)[1].decoder.nms_iou == 0.25
    lines = (tmp_path / "s.log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [20, 40, 41]
    assert run_tool(*arguments, "--read-as", "tiny_cpu_t4") == 2
    assert "decoder must differ from the source's in" in capsys.readouterr().err
    new = tmp_path / "new.safetensors"
    assert run_tool(trained, "--out", new, *given, "--log", tmp_path / "none.jsonl") == 2
    assert "none.jsonl" in capsys.readouterr().err and not new.exists()
