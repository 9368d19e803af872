"""Packaged weights are found by name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

import bevstack
from bevstack.models.build import build_model, list_tasks, save_model
from bevstack.models.weights import read_safetensors, task_weights
from bevstack.runtime import shipped
from bevstack.runtime.shipped import packaged_weights, weights_path
from bevstack.training.release import MAX_BYTES, ship_weights
from tests.models.small_models import small_config

ROOT = Path(__file__).resolve().parent.parent.parent
ORIGIN = {"data_digest": "0123abc", "command": "bevstack train --config small", "revision": "f00"}


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    config = small_config()
    torch.manual_seed(5)
    path = tmp_path / "model.safetensors"
    save_model(path, build_model(config), config, {"step": "70"})
    return path


@pytest.fixture
def package(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a package of weights with two weights files and another file."""
    folder = tmp_path / "packaged"
    for name in ("large", "little"):
        ship_weights(trained, folder / f"{name}.safetensors", {})
    (folder / "README.md").write_text("no weights")
    monkeypatch.setattr(shipped.importlib.resources, "files", lambda name: folder)
    return folder


def test_packaged_weights_are_the_files_of_the_folder_and_small_enough() -> None:
    files = sorted((ROOT / "weights").glob("*.safetensors"))
    assert packaged_weights() == [path.stem for path in files]
    for path in files:
        assert path.stat().st_size <= MAX_BYTES
        tensors, metadata = read_safetensors(path)
        floating = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
        assert floating == {torch.float16}
        assert all(metadata.get(key) for key in ORIGIN), path
        tasks = list_tasks(path, metadata)
        if "detection3d" in tasks:
            assert bevstack.load(path.stem).config.name
        assert set(bevstack.load_tasks(path)) == set(tasks)


@pytest.mark.parametrize(
    ("card", "name"),
    [("weights/README.md", "tiny_cpu_t4"), ("docs/lights.md", "tiny_cpu_t4_traffic")],
)
def test_a_card_has_the_digest_of_its_file(card: str, name: str) -> None:
    digest = hashlib.sha256(weights_path(name).read_bytes()).hexdigest()
    assert f"SHA-256 `{digest}`" in (ROOT / card).read_text("utf-8")


def test_lights_leave_the_packaged_boxes_as_they_were() -> None:
    """The training of the lights keeps the boxes' weights, so their scores stay the same."""
    boxes, _ = read_safetensors(weights_path("tiny_cpu_t4"))
    both, _ = read_safetensors(weights_path("tiny_cpu_t4_traffic"))
    kept = task_weights(both, "detection3d")
    assert kept.keys() == boxes.keys()
    assert all(torch.equal(kept[name], tensor) for name, tensor in boxes.items())


def test_a_name_gives_the_file_of_the_package(package: Path) -> None:
    assert packaged_weights() == ["large", "little"]
    assert weights_path("little") == package / "little.safetensors"
    assert bevstack.load("little").config == small_config()


@pytest.mark.parametrize("path", ["x.safetensors", "some/where", "/little"])
def test_a_path_is_returned_unchanged(package: Path, path: str) -> None:
    assert weights_path(path) == Path(path)
    with pytest.raises(FileNotFoundError, match="weights must be a file; got"):
        bevstack.load(path)


def test_the_name_of_an_existing_file_is_a_path(
    package: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.parent)
    trained.rename("mine")
    assert weights_path("mine") == Path("mine")
    assert bevstack.load("mine").config == small_config()


def test_the_error_for_an_unknown_name_lists_the_known_ones(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"must be one of the packaged large, little, .* path of a file; got 'litle'",
    ):
        bevstack.load("litle")
    monkeypatch.setattr(shipped, "packaged_weights", list)
    with pytest.raises(FileNotFoundError, match=r"this installation has none.*; got 'little'"):
        bevstack.load("little")
