from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bevstack.interop.published_files import read_published, read_published_file

WRAPS = (
    *("plain", "state_dict", "model", "twice", "inside", "parallel", "compiled", "both", "within"),
    *("model_state_dict", "net", "lightning", "net_prefix", "ema", "ema_prefix", "averaged"),
    *("foreign_first", "shadow"),
)


@pytest.mark.parametrize("wrap", WRAPS)
def test_wrappers_of_training_frameworks_are_removed(tmp_path: Path, wrap: str) -> None:
    tensors = {"a.weight": torch.ones(2), "b": torch.zeros(1)}

    def prefixed(prefix: str) -> dict[str, torch.Tensor]:
        return {f"{prefix}{name}": value for name, value in tensors.items()}

    content = {
        "plain": tensors,
        "state_dict": {"meta": {"epoch": 3, "lr": 0.1}, "state_dict": tensors, "optimizer": {}},
        "model": {"model": tensors},
        "twice": {"state_dict": {"model": tensors}},
        "inside": {"model": {"state_dict": {"module": tensors}}},
        "parallel": {"state_dict": prefixed("module.")},
        "compiled": prefixed("_orig_mod."),
        "both": prefixed("module._orig_mod."),
        "within": {"state_dict": {"a._orig_mod.weight": tensors["a.weight"], "b": tensors["b"]}},
        "model_state_dict": {"model_state_dict": tensors, "optimizer_state_dict": {"state": {}}},
        "net": {"net": prefixed("_orig_mod.module.")},
        "lightning": {"state_dict": prefixed("model."), "hyper_parameters": {"lr": 0.1}},
        "net_prefix": {"state_dict": prefixed("net._orig_mod.")},
        "ema": {"ema": {"module": tensors, "updates": 7}},
        "ema_prefix": {"state_dict": prefixed("ema.")},
        "averaged": {"n_averaged": torch.tensor(3), **prefixed("module.")},
        "foreign_first": {"model": argparse.Namespace(depth=50), "net": tensors},
        "shadow": {"ema": {"decay": 0.99, "shadow": tensors}},
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


def test_metadata_of_the_framework_are_read(tmp_path: Path) -> None:
    meta = {"mmdet3d_version": "0.17.1", "CLASSES": ("car",), "epoch": 24}
    torch.save({"meta": meta, "state_dict": {"a": torch.ones(1)}}, tmp_path / "meta.pth")
    assert read_published_file(tmp_path / "meta.pth").meta == meta
    torch.save({"meta": 3, "state_dict": {"a": torch.ones(1)}}, tmp_path / "other.pth")
    assert read_published_file(tmp_path / "other.pth").meta == {}


def test_safetensors_files_are_read_too(tmp_path: Path) -> None:
    save_file({"module.a": torch.ones(2)}, tmp_path / "model.safetensors", {"format": "pt"})
    file = read_published_file(tmp_path / "model.safetensors")
    assert file.tensors.keys() == {"a"} and file.name == "model.safetensors"


def test_averaged_weights_are_read_only_if_the_choice_is_clear(tmp_path: Path) -> None:
    raw, averaged = {"a": torch.zeros(1)}, {"module.a": torch.ones(1)}
    both, alone = tmp_path / "both.pth", tmp_path / "alone.pth"
    torch.save({"model": raw, "model_ema": averaged}, both)
    torch.save({"state_dict_ema": {"module": averaged}}, alone)
    with pytest.raises(ValueError, match="must be 'raw' or 'averaged' for a file that holds both"):
        read_published_file(both)
    assert read_published_file(both, weights="raw").tensors["a"] == 0
    assert read_published_file(both, weights="averaged").tensors["a"] == 1
    assert read_published_file(alone).tensors["a"] == 1
    with pytest.raises(ValueError, match=r"weights must be 'averaged', the only kind in .*alone"):
        read_published_file(alone, weights="raw")
    torch.save({"model": raw}, alone)
    with pytest.raises(ValueError, match=r"weights must be 'raw', the only kind in .*alone"):
        read_published_file(alone, weights="averaged")
    with pytest.raises(ValueError, match="weights must be one of"):
        read_published_file(alone, weights="best")


def test_names_that_become_one_without_their_prefixes_are_refused(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "a": torch.zeros(1)}, tmp_path / "twice.pth")
    with pytest.raises(ValueError, match="must differ without their prefixes; got a twice"):
        read_published_file(tmp_path / "twice.pth")


def test_the_content_decides_the_format_and_not_the_name(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model.bin")
    assert torch.equal(read_published(tmp_path / "model.bin")["a"], torch.ones(2))
    torch.save({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    assert torch.equal(read_published(tmp_path / "model.safetensors")["a"], torch.ones(2))


def test_the_checksums_of_an_archive_are_compared_unless_the_caller_skips_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.ones(2)}, path)
    content = path.read_bytes()
    one = torch.ones(1).numpy().tobytes()
    place = content.index(2 * one)
    path.write_bytes(
        content[:place] + torch.full((1,), 2.0).numpy().tobytes() + content[place + 4 :]
    )
    with pytest.raises(ValueError, match="checksum of its entry data/0 differs"):
        read_published(path)
    assert read_published_file(path, verify=False).tensors["a"].tolist() == [2.0, 1.0]
