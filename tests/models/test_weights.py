from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest
import torch

from bevstack.models.weights import read_safetensors, write_safetensors

TENSORS = {"a.weight": torch.arange(12.0).view(3, 4), "b": torch.tensor(3), "none": torch.zeros(0)}


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    transposed = {**TENSORS, "transposed": TENSORS["a.weight"].T, "half": torch.ones(2).half()}
    write_safetensors(path, transposed, {"format": "x", "note": "größer"})
    tensors, metadata = read_safetensors(path)
    assert metadata == {"format": "x", "note": "größer"}
    assert tensors.keys() == transposed.keys()
    for name, value in transposed.items():
        assert torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype
    assert os.listdir(tmp_path) == ["weights.safetensors"]
    assert path.stat().st_mode & 0o444 == 0o444  # every user may read it


def test_the_same_content_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    words = {f"{word}": f"{word} größer" for word in range(12)}
    files = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for file, names in zip(files, (words, words, sorted(words, reverse=True)), strict=True):
        write_safetensors(file, TENSORS, {name: words[name] for name in names})
    assert len({file.read_bytes() for file in files}) == 1
    assert read_safetensors(files[0])[1] == words


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_full_disk_leaves_the_old_file_whole_and_no_other(
    tmp_path: Path, monkeypatch, failing: str
) -> None:
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, TENSORS, {"version": "old"})

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if failing == "write":
            _limit_file_size(patch, fail)
        else:
            patch.setattr(os, failing, fail)
        with pytest.raises(OSError, match="No space left"):
            write_safetensors(path, {"a.weight": torch.zeros(1000)}, {"version": "new"})
    tensors, metadata = read_safetensors(path)
    assert metadata == {"version": "old"}
    assert torch.equal(tensors["a.weight"], TENSORS["a.weight"])
    assert os.listdir(tmp_path) == ["weights.safetensors"]


def _limit_file_size(patch: pytest.MonkeyPatch, fail) -> None:
    """Make writing fail for files opened from a handle, as on a full disk."""
    real = os.fdopen

    class Full:
        def __init__(self, handle: int, mode: str) -> None:
            self.file = real(handle, mode)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        write = staticmethod(fail)

    patch.setattr(os, "fdopen", Full)


def test_folder_that_does_not_exist_is_made(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "none" / "weights.safetensors", TENSORS, {})
    assert read_safetensors(tmp_path / "none" / "weights.safetensors")[0].keys() == TENSORS.keys()


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, TENSORS, {"format": "x"})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="must be a whole safetensors file") as caught:
        read_safetensors(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_pickled_files_are_refused_with_the_remedy_and_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(TENSORS, path)
    with pytest.raises(ValueError, match=r"pickled file.*`bevstack convert-weights`"):
        read_safetensors(path)
    for protocol in (2, 3, 4, 5):
        path.write_bytes(pickle.dumps({"a": [1.0] * 100}, protocol=protocol))
        with pytest.raises(ValueError, match=r"pickled file.*`bevstack convert-weights`"):
            read_safetensors(path)


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"weights must be a file; got .*none\.safetensors"):
        read_safetensors(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="weights must be a file"):
        read_safetensors(tmp_path)
