"""The plugins of TensorRT: compiled against its headers, and run on the CPU lane by lane."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence
from ctypes import c_char_p, c_float, c_int, c_int32, c_int64, c_void_p
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bevstack._ops_sources import build_openvino, build_tensorrt
from bevstack.ops.plugin_library import plugin_library
from ops import build as builder
from tests.ops import test_dcnv3, test_ms_deform_attn
from tests.ops.calls import TOLERANCE

ROOT = Path(__file__).resolve().parent.parent.parent
TYPES = {torch.float32: 0, torch.float16: 1, torch.int32: 3, torch.int64: 8}
# The 2^-11 of half a float16's last digit, and sums in another order.
HALF = 2e-3
DCNV3_PAIRS = ("kernel_size", "stride", "padding", "dilation")
TOLERANCE_OF_FLOAT = {"rtol": TOLERANCE[torch.float32], "atol": TOLERANCE[torch.float32]}


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Compile the plugins with launches that run on the CPU."""
    nvcc = builder.find_nvcc()
    if nvcc is None or shutil.which("g++") is None:
        pytest.skip("no CUDA toolkit or g++ to compile the plugins of TensorRT")
    try:
        headers = build_tensorrt.find_headers()
    except build_openvino.BuildError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("plugins")
    built = folder / "plugins.so"
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    includes = ["-isystem", str(headers), "-isystem", str(nvcc.parent.parent / "include")]
    own = [str(ROOT / "ops" / source) for source in build_tensorrt.sources()]
    harness = str(ROOT / "tests" / "ops" / "tensorrt_plugin.cpp")
    command = ["g++", *flags, f"-I{ROOT / 'ops'}", *includes, *own, harness, "-o", str(built)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(built))


def run(
    library: ctypes.CDLL,
    name: str,
    attributes: dict[str, Sequence[int]],
    scale: float | None,
    tensors: Sequence[Tensor],
    shape: Sequence[int],
) -> tuple[int, Tensor]:
    """Return the harness's code and the output."""
    output = torch.full(shape, torch.nan, dtype=tensors[0].dtype)
    every = [*(t.contiguous() for t in tensors), output]
    names = (c_char_p * len(attributes))(*(text.encode() for text in attributes))
    lengths = (c_int * len(attributes))(*map(len, attributes.values()))
    flat = [number for numbers in attributes.values() for number in numbers]
    dims = [side for t in every for side in (*t.shape, *[0] * (8 - t.dim()))]
    code = library.run_plugin(
        name.encode(),
        len(attributes),
        names,
        lengths,
        (c_int32 * len(flat))(*flat),
        None if scale is None else ctypes.byref(c_float(scale)),
        len(tensors),
        (c_int * len(every))(*(t.dim() for t in every)),
        (c_int64 * len(dims))(*dims),
        (c_int * len(every))(*(TYPES[t.dtype] for t in every)),
        (c_void_p * len(tensors))(*(t.data_ptr() for t in every[:-1])),
        c_void_p(output.data_ptr()),
    )
    return code, output


def dcnv3_attributes(case: test_dcnv3.Case) -> dict[str, Sequence[int]]:
    options = case.options
    pairs = {name: options[name] for name in DCNV3_PAIRS}
    flags = {name: [int(options.get(name, False))] for name in ("remove_center", "softmax")}
    return {**pairs, "groups": [options["groups"]], **flags}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("name", test_dcnv3.AWKWARD)
def test_the_plugin_dcnv3_equals_plain_loops(
    plugins: ctypes.CDLL, name: str, dtype: torch.dtype
) -> None:
    case = test_dcnv3.AWKWARD[name]
    *tensors, grad_output = case.to(torch.float32)
    scale = case.options.get("offset_scale", 1.0)
    given = [t.to(dtype) for t in tensors]
    attributes = dcnv3_attributes(case)
    code, output = run(plugins, "Dcnv3", attributes, scale, given, grad_output.shape)
    depth = tensors[0].shape[-1] // case.options["groups"]
    if dtype == torch.float16 and depth not in (16, 32):
        assert code == 2  # there is no kernel: TensorRT is not offered this type
        return
    assert code == 0
    wanted = torch.from_numpy(case.wanted()[0]).float()
    if dtype == torch.float32:
        torch.testing.assert_close(output, wanted, **TOLERANCE_OF_FLOAT)
    else:
        wanted = run(plugins, "Dcnv3", attributes, scale, [t.float() for t in given], wanted.shape)[
            1
        ]
        torch.testing.assert_close(output.float(), wanted, rtol=HALF, atol=HALF)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("index", [None, [2, 0, 0, 1, 2]], ids=["queries", "packed"])
@pytest.mark.parametrize("depth", [5, 16])
def test_the_plugin_ms_deform_attn_equals_plain_loops(
    plugins: ctypes.CDLL, depth: int, index: list[int] | None, dtype: torch.dtype
) -> None:
    case = test_ms_deform_attn.make_case(batch=3, depth=depth, index=index)
    value, locations, weights, grad_output = case.to(torch.float32)
    tensors = [value.to(dtype), locations, weights]
    if index is not None:
        tensors.append(case.options()["value_index"])
    shapes = [side for pair in case.spatial_shapes for side in pair]
    attributes = {"spatial_shapes": shapes}
    code, output = run(plugins, "MsDeformAttn", attributes, None, tensors, grad_output.shape)
    if dtype == torch.float16 and depth == 5:
        assert code == 2
        return
    assert code == 0
    wanted = torch.from_numpy(case.wanted()[0]).float()
    if dtype == torch.float32:
        torch.testing.assert_close(output, wanted, **TOLERANCE_OF_FLOAT)
    else:
        torch.testing.assert_close(output.float(), wanted, rtol=HALF, atol=4 * HALF)


def test_arguments_that_do_not_fit_are_refused(plugins: ctypes.CDLL) -> None:
    case = test_dcnv3.make_case(depth=16)
    *tensors, grad_output = case.to(torch.float32)
    attributes = dcnv3_attributes(case)
    shape = grad_output.shape

    def code(changed: dict[str, Sequence[int]], given: Sequence[Tensor]) -> int:
        return run(plugins, "Dcnv3", {**attributes, **changed}, 1.0, given, shape)[0]

    assert code({}, tensors) == 0
    assert code({"kernel_size": [0, 3]}, tensors) == 1
    assert code({"stride": [1]}, tensors) == 1
    assert code({"stride": [2, 2]}, tensors) == 3  # offsets are of another size
    assert code({"groups": [7]}, tensors) == 3
    assert code({}, tensors[:2]) == 2
    assert code({}, [tensors[0], tensors[1].half(), tensors[2]]) == 2
    missing = {name: numbers for name, numbers in attributes.items() if name != "groups"}
    assert run(plugins, "Dcnv3", missing, 1.0, tensors, shape)[0] == 1
    assert run(plugins, "Dcnv3", attributes, None, tensors, shape)[0] == 1
    assert run(plugins, "DeformableAttention", {}, None, tensors, shape)[0] == 1
    attention = test_ms_deform_attn.make_case(depth=16)
    *given, grad_output = attention.to(torch.float32)
    shapes = [side for pair in attention.spatial_shapes for side in pair]
    for wrong, expected in ((shapes[:-1], 1), ([], 1), ([*shapes, 3, 3], 3), ([1] * 66, 1)):
        found = run(
            plugins, "MsDeformAttn", {"spatial_shapes": wrong}, None, given, grad_output.shape
        )
        assert found[0] == expected, wrong


def test_the_extension_of_torch_has_none_of_these_sources() -> None:
    own = {Path(source).name for source in build_tensorrt.sources()}
    assert own == {"library.cpp", "dcnv3_tensorrt.cpp", "ms_deform_attn_tensorrt.cpp"}
    every = {Path(s).name for kind in builder.SOURCE_KINDS for s in builder.native_sources(kind)}
    assert not own & every and "plugin.h" not in every


@pytest.fixture
def headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make headers of TensorRT 11 that no compiler can read."""
    folder = tmp_path / "include"
    folder.mkdir()
    (folder / build_tensorrt.HEADER).write_text("#error unreadable\n", "utf-8")
    version = "#define TRT_MAJOR_ENTERPRISE 11\n#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE\n"
    (folder / "NvInferVersion.h").write_text(version, "utf-8")
    monkeypatch.setenv("TENSORRT_INCLUDE", str(folder))
    return folder


def make_nvcc(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = folder / "toolkit" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text("#!/bin/sh\nexit 1\n", "utf-8")
    nvcc.chmod(0o755)
    monkeypatch.setattr(build_tensorrt.builder, "find_nvcc", lambda: nvcc)


def test_a_build_that_lacks_something_names_it(
    headers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(build_tensorrt.builder, "find_nvcc", lambda: None)
    with pytest.raises(ValueError, match=r"must be buildable; got: no CUDA compiler \(nvcc\)"):
        plugin_library("11.1.0", "90", cache=cache)
    make_nvcc(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=r"are of TensorRT 11, the installed package is 10\.13"):
        plugin_library("10.13.2", "90", cache=cache)
    with pytest.raises(ValueError, match=r"the compiler reports: .*#error unreadable"):
        plugin_library("11.1.0", "90", cache=cache)
    (headers / "NvInferVersion.h").write_text("\n", "utf-8")
    with pytest.raises(ValueError, match="does not name a version"):
        plugin_library("11.1.0", "90", cache=cache)
    (headers / build_tensorrt.HEADER).unlink()
    with pytest.raises(ValueError, match=r"is not in .*: apt-get install libnvinfer-headers-dev"):
        plugin_library("11.1.0", "90", cache=cache)
    assert not list(tmp_path.rglob("*.so"))


def test_each_version_and_kind_of_gpu_has_its_own_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def build_fake(into: Path, work: Path, *, version: str, architecture: str) -> None:
        built.append((version, architecture))
        into.write_bytes(os.urandom(8))

    monkeypatch.setattr(build_tensorrt, "build", build_fake)
    first = plugin_library("11.1.0", "90", cache=tmp_path)
    assert plugin_library("11.1.0", "90", cache=tmp_path) == first
    assert plugin_library("11.1.0", "89", cache=tmp_path) != first
    assert plugin_library("10.13.2", "90", cache=tmp_path) != first
    assert built == [("11.1.0", "90"), ("11.1.0", "89"), ("10.13.2", "90")]
