"""Files of torch.save are read without running anything in them, and equal torch's own reading."""

from __future__ import annotations

import argparse
import enum
import errno
import os
import pathlib
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from bevstack.interop.published_files import read_published, read_published_file

OLD = pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])


def save(content: object, path: Path, old: bool = False, protocol: int = 2) -> Path:
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
    return path


def various_tensors() -> OrderedDict[str, torch.Tensor]:
    base = torch.arange(24.0)
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    tensors = model.state_dict()  # with the attribute _metadata
    tensors |= {
        "view": base[3:15].view(3, 4),
        "same": base,
        "transposed": base.view(4, 6).T,
        "strided": base[::5],
        "scalar": torch.tensor(7),
        "none": torch.zeros(0, 3),
        "half": torch.randn(5).half(),
        "bfloat": torch.randn(5).bfloat16(),
        "flags": torch.tensor([True, False, True]),
        "bytes": torch.arange(200, dtype=torch.uint8),
        "complex": torch.randn(3, dtype=torch.complex64),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
        "unsigned": torch.tensor([1, 60_000], dtype=torch.uint16),
        "eight": torch.randn(6).to(torch.float8_e4m3fn),
        "expanded": torch.ones(1).expand(9),
    }
    return tensors


def expect_equal(read: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert list(read) == list(wanted)
    for name, tensor in wanted.items():
        found = read[name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape), name
        assert found.stride() == tensor.stride(), name
        if tensor.dtype == torch.float8_e4m3fn:
            found, tensor = found.float(), tensor.float()
        assert torch.equal(found, tensor.detach()), name


@OLD
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_kind_of_tensor_is_read_in_every_protocol(
    tmp_path: Path, old: bool, protocol: int
) -> None:
    """Compare with what was saved: torch's own safe reader reads neither protocol 4 nor 5."""
    tensors = various_tensors()
    path = save(tensors, tmp_path / "weights.pth", old, protocol)
    expect_equal(read_published(path), tensors)
    if protocol == 2 and not old:
        expect_equal(read_published(path), torch.load(path, weights_only=True))


@OLD
def test_the_model_of_a_checkpoint_with_optimiser_is_read(tmp_path: Path, old: bool) -> None:
    model = torch.nn.Linear(3, 4)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    path = save(content, tmp_path / "checkpoint.pth", old)
    expect_equal(read_published(path), model.state_dict())


def test_values_of_the_other_byte_order_are_swapped(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(5.0), "b": torch.tensor([1 + 2j]), "c": torch.tensor([258])}
    path = save(tensors, tmp_path / "weights.pth")
    swapped = tmp_path / "swapped.pth"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(swapped, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("byteorder"):
                content = b"big"
            elif "/data/" in name:
                size = 8 if len(content) == 8 and content[0] == 2 else 4
                content = b"".join(
                    content[i : i + size][::-1] for i in range(0, len(content), size)
                )
            target.writestr(name, content)
    read = read_published(swapped)
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def framework_classes(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Define classes of frameworks that are not installed."""
    made = {}
    for module_name, class_name, parent in (
        ("mmengine.config.config", "ConfigDict", dict),
        ("mmengine.logging.history_buffer", "HistoryBuffer", object),
        ("easydict", "EasyDict", dict),
        ("omegaconf.listconfig", "ListConfig", list),
    ):
        for parent_name in (module_name.split(".")[0], module_name.rpartition(".")[0]):
            if parent_name:
                monkeypatch.setitem(sys.modules, parent_name, types.ModuleType(parent_name))
        module = types.ModuleType(module_name)
        made[class_name] = type(class_name, (parent,), {"__module__": module_name})
        setattr(module, class_name, made[class_name])
        monkeypatch.setitem(sys.modules, module_name, module)
    return types.SimpleNamespace(**made)


class Stage(enum.Enum):
    """An enumeration of the program that trained."""

    FIRST = 1


@OLD
@pytest.mark.parametrize("protocol", [2, 4])
def test_objects_of_other_programs_are_left_out_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool, protocol: int
) -> None:
    tensors = various_tensors()
    with monkeypatch.context() as patch:
        made = framework_classes(patch)
        history = made.HistoryBuffer()
        history.values = np.arange(1000.0)
        content = {
            "meta": made.ConfigDict(epoch=3, mmengine_version="0.10.4", size=np.float32(2.5)),
            "message_hub": {"log_scalars": {"loss": history}, 7: np.int64(4), Stage.FIRST: 1},
            "args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("/x"), on=(1, {2})),
            "hyper_parameters": made.EasyDict(a=made.ListConfig([1, torch.device("cpu")])),
            "stage": Stage.FIRST,
            "shape": torch.Size([2, 3]),
            "dtype": torch.float16,
            "state_dict": tensors,
        }
        path = save(content, tmp_path / "epoch_24.pth", old, protocol)
    file = read_published_file(path)
    expect_equal(file.tensors, dict(tensors))
    assert file.meta["epoch"] == 3 and file.meta["mmengine_version"] == "0.10.4"
    assert {"mmengine.config.config.ConfigDict", "argparse.Namespace"} <= set(file.skipped)
    assert "mmengine.logging.history_buffer" not in sys.modules


class Call:
    """An object whose pickle calls a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


@OLD
@pytest.mark.parametrize("place", ["meta", "state_dict", "inside"])
@pytest.mark.parametrize(
    ("function", "argument"),
    [(os.system, "touch planted"), (eval, "open('planted', 'w')"), (exec, "open('planted', 'w')")],
)
def test_a_file_that_would_run_a_program_is_refused_by_name_and_runs_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: bool,
    place: str,
    function: object,
    argument: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    call = Call(function, argument)
    content = {
        "meta": {"meta": call, "state_dict": {"a": torch.ones(1)}},
        "state_dict": {"state_dict": call},
        "inside": {"state_dict": {"a": torch.ones(1), "b": [(call, 1)]}},
    }[place]
    path = save(content, tmp_path / "weights.pth", old)
    with pytest.raises(ValueError, match="must hold tensors and plain values only") as caught:
        read_published(path)
    assert function.__name__ in str(caught.value) and "\n" not in str(caught.value)
    assert not Path("planted").exists()


def test_functions_and_classes_of_any_name_are_not_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {
        "state_dict": {"a": torch.ones(1)},
        "calls": [
            Call(subprocess.Popen, ["touch", "planted"]),
            Call(getattr, "text", "join"),
            Call(np.save, "planted", 1),
            Call(bytearray, 1 << 40),
        ],
    }
    save(content, tmp_path / "weights.pth")
    assert torch.equal(read_published(tmp_path / "weights.pth")["a"], torch.ones(1))
    assert not list(tmp_path.glob("planted*"))


def test_a_file_that_cannot_be_mapped_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    path = save({"a": torch.ones(2)}, tmp_path / "a.pth")
    monkeypatch.setattr("bevstack.interop.torch_file.mmap.mmap", fail)
    with pytest.raises(OSError) as caught:
        read_published_file(path)
    assert caught.value.filename == str(path)
