"""A GPU that does not exist: tensors with shapes and a device, and no values.

Operators that need a value raise. It works with a torch built for the CPU.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only

from bevstack.geometry import CameraRig
from bevstack.types import Batch, BEVMemory

T = TypeVar("T")


# A torch built for the CPU has no guard that selects the current GPU. This one does nothing.
GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
using Guard = c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>;
static c10::impl::DeviceGuardImplRegistrar registrar(c10::DeviceType::CUDA, new Guard());
"""


@functools.cache
def provide_guard() -> None:
    """Compile and register the guard, unless this torch is built for GPUs."""
    if torch.version.cuda:
        return
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the guard of a fake GPU")
    torch_folder = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "guard.cpp", Path(folder) / "guard.so"
        source.write_text(GUARD)
        command = [compiler, "-std=c++20", "-shared", "-fPIC", f"-I{torch_folder / 'include'}"]
        command += [str(source), "-o", str(library), f"-L{torch_folder / 'lib'}", "-lc10"]
        subprocess.run(command, check=True)
        ctypes.CDLL(str(library))


@contextmanager
def fake_gpu() -> Iterator[None]:
    """Make tensors of the device "cuda" possible, as fakes."""
    provide_guard()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        yield


def _move(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="cuda")


def on_fake_gpu(value: T) -> T:
    """Return a batch, a memory, a rig or tensors on the fake GPU; batches lose annotations."""
    moved: Any = value
    if isinstance(value, Batch | BEVMemory):
        left_out = ("annotations", "camera_annotations", "labels", "sequence_id")
        left_out = left_out if isinstance(value, Batch) else ()
        parts = {k: on_fake_gpu(v) for k, v in vars(value).items() if k not in left_out}
        moved = replace(value, **parts)
        if isinstance(value, Batch):
            moved = replace(moved, annotations=None, camera_annotations=None)
    elif isinstance(value, CameraRig):
        moved = CameraRig(*(_move(part) for part in vars(value).values()))
    else:
        moved = tree_map_only(Tensor, _move, value)
    return moved


def move_module(module: nn.Module) -> None:
    """Replace weights and buffers by fakes on the GPU."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(_move(parameter), requires_grad=False))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, _move(buffer))
