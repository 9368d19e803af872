"""Damaged files of torch.save, and files that ask for endless memory or time, are refused soon."""

from __future__ import annotations

import pickle
import struct
import time
import zipfile
from pathlib import Path

import pytest
import torch

from bevstack.interop.pickle_machine import MAX_OPCODES
from bevstack.interop.published_files import read_published
from tests.damages import damaged_copies
from tests.interop.test_torch_file import expect_equal, save


def expect_one_sentence(path: Path, longest_s: float = 5.0) -> str:
    started = time.process_time()
    with pytest.raises(ValueError, match="published weights must") as caught:
        read_published(path)
    assert time.process_time() - started < longest_s
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600 and str(path) in text
    assert "weights_only" not in text
    return text


@pytest.mark.parametrize("suffix", ["pth", "pt"])
def test_every_damage_to_an_archive_is_refused_or_leaves_the_tensors_equal(
    tmp_path: Path, suffix: str
) -> None:
    tensors = {"a.weight": torch.randn(8, 5), "b": torch.randn(30), "n": torch.tensor(3)}
    path = save({"state_dict": tensors, "epoch": 3}, tmp_path / f"weights.{suffix}")
    refused = 0
    for content in damaged_copies(path.read_bytes(), 300, seed=len(suffix)):
        path.write_bytes(content)
        try:
            read = read_published(path)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 600 and str(path) in str(error)
            continue
        expect_equal(read, tensors)
    assert refused > 100


def test_every_damage_to_an_older_file_is_one_sentence_or_read(tmp_path: Path) -> None:
    """The older layout has no checksums: values may differ, but their number may not grow."""
    tensors = {"a.weight": torch.randn(8, 5), "b": torch.randn(30)}
    path = save({"state_dict": tensors, "epoch": 3}, tmp_path / "weights.pth", old=True)
    refused = 0
    for content in damaged_copies(path.read_bytes(), 400, seed=7):
        path.write_bytes(content)
        try:
            read = read_published(path)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 600 and str(path) in str(error)
            continue
        assert sum(tensor.numel() for tensor in read.values()) <= 70
    assert refused > 100


def write_archive(path: Path, pickled: bytes, storages: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("archive/data.pkl", pickled)
        for key, content in storages.items():
            target.writestr(f"archive/data/{key}", content)
    return path


def tensor_pickle(storage_values: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """Return the pickle of {"a": tensor} with any declared sizes, in protocol 0."""
    numbers = [f"(I{n}\n" + "".join(f"I{v}\n" for v in r) + "t" for n, *r in (shape, stride)]
    return (
        "(dS'a'\nctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\n"
        f"S'cpu'\nI{storage_values}\ntQI0\n{numbers[0]}{numbers[1]}I00\nNtRs."
    ).encode()


def test_sizes_that_the_file_does_not_have_are_refused_before_they_are_allocated(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.pth"
    four = {"0": struct.pack("<4f", 1, 2, 3, 4)}
    write_archive(path, tensor_pickle(4, (2, 2), (2, 1)), four)
    assert read_published(path)["a"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    for values, shape, stride in (
        (2**40, (2**40,), (1,)),
        (4, (2**40,), (0,)),
        (4, (5,), (1,)),
        (4, (2, 2), (3, 1)),
        (4, (2**31, 2**31), (0, 0)),
        (4, (-1,), (1,)),
        (4, (2,), (-1,)),
        (5, (5,), (1,)),
        (3, (3,), (1,)),
    ):
        write_archive(path, tensor_pickle(values, shape, stride), four)
        expect_one_sentence(path)


def test_compressed_and_overlapping_entries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("archive/data.pkl", bytes(10_000_000))
    assert "compressed" in expect_one_sentence(path)
    write_archive(path, tensor_pickle(4, (4,), (1,)), {str(i): bytes(64) for i in range(99)})
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")
    while place >= 0:  # every entry of the directory points to the first one, of 10 times the size
        struct.pack_into("<2L", content, place + 20, 640, 640)
        struct.pack_into("<L", content, place + 42, 0)
        place = content.find(b"PK\x01\x02", place + 4)
    path.write_bytes(content)
    expect_one_sentence(path)


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x04]" + b"]" * (MAX_OPCODES + 10) + b".",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
        b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"abc.",
        b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1) + b"abc.",
        b"\x80\x04]r" + struct.pack("<I", 2**32 - 1) + b".",
        b"\x80\x04h\x07.",
        b"\x80\x04",
        b"\x80\x04.",
        b"\x80\x04}(\x8c\x01a]K\x01u.",
        b"\x80\x04}(]K\x01u.",
        b"(dS'state_dict'\n" + b"(I1\nt" + b"2\x86" * 400 + b"I1\nss.",  # a key as a deep tuple
        b"(lp0\n"
        + b"(I1\nI2\nta" * 10_000
        + b"".join(b"ccollections\nOrderedDict\n(g0\ntR" for _ in range(3000))
        + b".",
        b"\x80\x04" + b"(" * 100_000 + b".",
        b"\x80\x04" + b"]" + b"\x85" * 200_000 + b".",
        b"I" + b"9" * 100_000 + b"\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x05\x97.",
        b"\xff\xfe\xfd.",
    ],
    ids=lambda pickled: f"{len(pickled)} bytes",
)
def test_hostile_pickles_end_soon_in_one_sentence(tmp_path: Path, pickled: bytes) -> None:
    path = write_archive(tmp_path / "weights.pth", pickled, {})
    expect_one_sentence(path, longest_s=20.0)


def test_a_dictionary_within_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, object] = {"a": 1}
    content["model"] = content
    expect_one_sentence(save(content, tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 99\n", "Git LFS"),
        (b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>", "web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        (b"", "empty file"),
        (bytes(4096), "zeros"),
        (b"\x1f\x8b\x08\x00" + bytes(100), "gzip"),
        (pickle.dumps({"a": [1.0, 2.0]}), "torch.save did not write"),
    ],
)
@pytest.mark.parametrize("name", ["weights.pth", "weights.bin", "checkpoint.pth.tar"])
def test_files_of_other_kinds_are_named(
    tmp_path: Path, content: bytes, kind: str, name: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert kind in expect_one_sentence(tmp_path / name)


def test_programs_and_whole_models_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(2, 3), path)
    assert "save only its state_dict()" in expect_one_sentence(path)
    with zipfile.ZipFile(path, "w") as target:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            target.writestr(f"model/{name}", b"\x80\x02N.")
    assert "TorchScript" in expect_one_sentence(path)
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("weights/epoch_24.pth", b"abc")
    assert "without the entry data.pkl" in expect_one_sentence(path)
