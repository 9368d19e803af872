from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch

from bevstack.interop.public_weights import Rename, convert_weights, read_published

ROWS = (
    Rename("old.{i}.{p}", "new.{i}.{p}"),
    Rename("joint", "upper", lambda tensor, shape: tensor[: shape[0]]),
    Rename("joint", "lower", lambda tensor, shape: tensor[shape[0] :]),
)
WANTED = {
    "new.0.weight": torch.zeros(2, 3),
    "new.0.bias": torch.zeros(2),
    "upper": torch.zeros(2, 4),
    "lower": torch.zeros(2, 4),
}


def published() -> dict[str, torch.Tensor]:
    return {
        "old.0.weight": torch.arange(6.0).view(2, 3),
        "old.0.bias": torch.tensor([1.0, 2.0]),
        "joint": torch.arange(16.0).view(4, 4),
    }


def test_rows_rename_split_and_report() -> None:
    converted, report = convert_weights(published(), WANTED, ROWS)
    assert converted.keys() == WANTED.keys()
    assert torch.equal(torch.cat((converted["upper"], converted["lower"])), published()["joint"])
    assert torch.equal(converted["new.0.weight"], published()["old.0.weight"])
    assert ("joint", "lower") in report.matched and len(report.matched) == 4
    assert report.missing == () and report.left_over == ()
    assert "old.0.bias" in report.table() and "left over 0" in report.table()


def test_converted_tensors_share_no_memory_with_the_file() -> None:
    source = published()
    converted, _ = convert_weights(source, WANTED, ROWS)
    converted["upper"].fill_(-1)
    assert torch.equal(source["joint"], published()["joint"])


def test_missing_names_are_refused_unless_allowed() -> None:
    source = published()
    del source["old.0.bias"]
    with pytest.raises(ValueError, match=r"got 1 missing: new\.0\.bias"):
        convert_weights(source, WANTED, ROWS)
    with pytest.raises(ValueError, match="missing"):
        convert_weights(source, WANTED, ROWS, allow_missing=["new.1.*"])
    converted, report = convert_weights(source, WANTED, ROWS, allow_missing=["new.0.*"])
    assert report.missing == ("new.0.bias",) and "new.0.bias" not in converted


def test_left_over_names_are_refused_unless_allowed() -> None:
    source = {**published(), "old.1.bias": torch.zeros(2), "extra": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"got 2 left over: old\.1\.bias, extra"):
        convert_weights(source, WANTED, ROWS)
    _, report = convert_weights(source, WANTED, ROWS, allow_left_over=["old.1.bias", "ext*"])
    assert report.left_over == ("old.1.bias", "extra")


def test_other_shapes_are_refused_by_name() -> None:
    source = {**published(), "old.0.weight": torch.zeros(3, 3)}
    with pytest.raises(ValueError, match=r"old\.0\.weight must have shape \(2, 3\).*got \(3, 3\)"):
        convert_weights(source, WANTED, ROWS)


def test_two_published_tensors_for_one_of_ours_are_refused() -> None:
    rows = (*ROWS, Rename("other", "new.0.bias"))
    with pytest.raises(ValueError, match=r"new\.0\.bias must come from one published tensor"):
        convert_weights({**published(), "other": torch.zeros(2)}, WANTED, rows)


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "twice", "parallel"])
def test_wrappers_of_training_frameworks_come_off(tmp_path: Path, wrap: str) -> None:
    tensors = {"a.weight": torch.ones(2), "b": torch.zeros(1)}
    content = {
        "plain": tensors,
        "state_dict": {"meta": {"epoch": 3, "lr": 0.1}, "state_dict": tensors, "optimizer": {}},
        "model": {"model": tensors},
        "twice": {"state_dict": {"model": tensors}},
        "parallel": {"state_dict": {f"module.{name}": value for name, value in tensors.items()}},
    }[wrap]
    torch.save(content, tmp_path / "weights.pth")
    read = read_published(tmp_path / "weights.pth")
    assert read.keys() == tensors.keys()
    assert torch.equal(read["a.weight"], tensors["a.weight"])


class Surprise:
    def __reduce__(self):
        return os.mkdir, ("surprise",)


def test_file_that_would_run_code_is_refused_and_does_not(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.ones(1)}, "meta": Surprise()}, "weights.pth")
    with pytest.raises(ValueError, match="must hold tensors and plain values only"):
        read_published("weights.pth")
    assert not Path("surprise").exists()


def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.randn(1000)}, path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a weights file at all"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="published weights must") as caught:
            read_published(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_absent_file_and_file_without_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="published weights must be a file"):
        read_published(tmp_path / "none.pth")
    torch.save({"epoch": 3, "loss": math.pi}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="must hold named tensors"):
        read_published(tmp_path / "empty.pth")
