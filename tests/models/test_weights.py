from __future__ import annotations

import errno
import os
import pickle
import random
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bevstack.models.build import TASKS_KEY, list_tasks
from bevstack.models.checksum import PACKAGED_FILES, hash_content
from bevstack.models.weights import (
    DamagedWeightsError,
    check_finite,
    read_safetensors,
    read_weights_file,
    write_safetensors,
)
from tests.damages import damaged_copies

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
    """Make writing fail for the files of ``write_atomically``, as on a full disk."""
    patch.setattr("bevstack.files._NamedFile.write", fail)


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


PACKAGED = Path(__file__).resolve().parents[2] / "weights" / "tiny_cpu_t4.safetensors"


def test_every_damage_is_refused_in_one_sentence_or_leaves_the_content_equal(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.safetensors"
    tensors = {**TENSORS, "c": torch.randn(40), "half": torch.ones(7).half()}
    metadata = {"format": "x", "config": '{"nms_iou": 0.25, "channels": 32}'}
    write_safetensors(path, tensors, metadata)
    refused = 0
    for content in damaged_copies(path.read_bytes(), 400, seed=0):
        path.write_bytes(content)
        try:
            read, read_metadata = read_safetensors(path)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
            continue
        assert read_metadata.items() >= metadata.items()
        assert read.keys() == tensors.keys()
        assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert refused > 380


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_value_that_is_not_finite_is_refused_by_name(
    tmp_path: Path, value: float, dtype: torch.dtype
) -> None:
    path = tmp_path / "weights.safetensors"
    wrong = torch.ones(3, 4, dtype=dtype)
    wrong[1, 2] = value
    write_safetensors(path, {"a": torch.ones(2), "b": wrong, "none": torch.zeros(0)}, {})
    for verify in (True, False):
        with pytest.raises(DamagedWeightsError, match=rf"must be finite; got {value} in b of .*"):
            read_weights_file(path, verify=verify)


def test_float8_is_checked_too() -> None:
    values = torch.tensor([1.0, 448.0]).to(torch.float8_e4m3fn)
    check_finite("a", values, "x")
    values = torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn)
    with pytest.raises(DamagedWeightsError, match="must be finite; got nan in a of x"):
        check_finite("a", values, "x")


def test_the_checksum_is_compared_unless_the_caller_skips_it(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, TENSORS, {"format": "x"})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # the last bit of "a.weight" or "b"
    path.write_bytes(content)
    with pytest.raises(DamagedWeightsError, match=r"must equal the checksum.*--no-verify"):
        read_weights_file(path)
    assert read_weights_file(path, verify=False).tensors.keys() == TENSORS.keys()
    path.write_bytes(path.read_bytes().replace(b'"format":"x"', b'"format":"y"'))
    with pytest.raises(DamagedWeightsError, match="must equal the checksum"):
        read_weights_file(path)


def test_a_file_without_a_checksum_is_read_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_file(TENSORS, path, {"format": "bevstack-model-1"})
    with pytest.warns(UserWarning, match=r"old\.safetensors holds no checksum"):
        file = read_weights_file(path)
    assert file.tensors.keys() == TENSORS.keys()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_weights_file(path, verify=False)  # the user knows
        write_safetensors(path, file.tensors, file.metadata)
        read_weights_file(path)


def test_packaged_weights_are_known_by_their_digest(tmp_path: Path) -> None:
    (known,) = PACKAGED_FILES
    assert known.content == hash_content(PACKAGED)
    assert known.content in (PACKAGED.parent / "README.md").read_text("utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_weights_file(PACKAGED)
        read_weights_file(shutil.copy(PACKAGED, tmp_path / "copy.safetensors"))


@pytest.mark.parametrize("name", ["tiny_cpu_t4.safetensors", "copy.safetensors"])
def test_one_flipped_bit_of_the_packaged_weights_is_found_under_any_name(
    tmp_path: Path, name: str
) -> None:
    content = bytearray(PACKAGED.read_bytes())
    draw = random.Random(1)
    for _ in range(3):
        position = draw.randrange(60_000, len(content))
        damaged = content.copy()
        damaged[position] ^= 1
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"checksum of the packaged weights"):
            read_weights_file(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 3\n",
            "Git LFS pointer",
        ),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\n  <html lang='en'>" + b" " * 600, "web page"),
        (b'{"message": "Not Found"}', "JSON text"),
        (b"\x1f\x8b\x08\x00" + bytes(40), "gzip archive"),
        (bytes(1000), "file of zeros"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=kind) as caught:
        read_safetensors(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError("Cannot allocate memory (os error 12)"), errno.ENOMEM),
        (FileNotFoundError("No such file or directory: somewhere"), errno.EIO),
    ],
)
def test_an_error_of_the_disk_names_the_file_and_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, number: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error  # as safetensors does, without a number and without a name

    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path)
    monkeypatch.setattr("bevstack.models.weights.safe_open", fail)
    with pytest.raises(OSError) as caught:
        read_safetensors(path)
    assert (caught.value.errno, caught.value.filename) == (number, str(path))


def test_a_task_is_named_once() -> None:
    with pytest.raises(ValueError, match=r"must name each task once; got '\[\"a\", \"a\"\]' in b"):
        list_tasks("b", {TASKS_KEY: '["a", "a"]'})
