"""Standard operators in place of ours: equal on odd sizes, in torch and in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bevstack.export.onnx import formulations
from bevstack.ops import dcnv3, ms_deform_attn

# Coordinates are scaled to [-1, 1] and back, which rounds them by 1e-5 pixels here.
CLOSE = {"rtol": 1e-4, "atol": 5e-5}
DCN = {
    "kernel_size": (3, 5),
    "stride": (2, 1),
    "padding": (1, 2),
    "dilation": (1, 2),
    "groups": 3,
    "offset_scale": 1.7,
}
SHAPES = [(5, 7), (3, 4)]


def dcn_inputs(remove_center: bool) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    height, width, points = 9, 7, 15 - int(remove_center)
    rows, columns = (height + 2 - 3) // 2 + 1, width + 4 - 9 + 1
    value = torch.randn(2, height, width, 3 * 4, generator=generator)
    offset = 3 * torch.randn(2, rows, columns, 3 * points * 2, generator=generator)
    return value, offset, torch.randn(2, rows, columns, 3 * points, generator=generator)


def attention_inputs(*, packed: bool) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    pixels = sum(height * width for height, width in SHAPES)
    value = torch.randn(3, pixels, 2, 4, generator=generator)
    leading = (11,) if packed else (3, 11)
    # from far outside on one side to far outside on the other, and exactly on the border
    locations = 3 * torch.rand(*leading, 2, len(SHAPES), 5, 2, generator=generator) - 1
    locations.view(-1)[:8] = torch.tensor((0.0, 1.0, -0.1, 1.1, 0.5, 0.5, -9.0, 40.0))
    weights = torch.rand(*leading, 2, len(SHAPES), 5, generator=generator)
    index = torch.randint(0, 3, (11,), generator=generator)
    return (value, locations, weights, index) if packed else (value, locations, weights)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("remove_center", [False, True])
def test_dcnv3_equals_the_operator(softmax: bool, remove_center: bool) -> None:
    inputs = dcn_inputs(remove_center)
    options = {**DCN, "softmax": softmax, "remove_center": remove_center}
    wanted = dcnv3(*inputs, **options)
    torch.testing.assert_close(formulations.dcnv3(*inputs, **options), wanted, **CLOSE)


@pytest.mark.parametrize("packed", [False, True])
def test_attention_equals_the_operator(packed: bool) -> None:
    value, locations, weights, *index = attention_inputs(packed=packed)
    options = {"value_index": index[0]} if packed else {}
    wanted = ms_deform_attn(value, SHAPES, locations, weights, **options)
    flat = [side for shape in SHAPES for side in shape]
    got = formulations.ms_deform_attn(value, locations, weights, *index, spatial_shapes=flat)
    torch.testing.assert_close(got, wanted, **CLOSE)


class DeformableLayers(nn.Module):
    """Both operators alone."""

    def forward(
        self, value: Tensor, offset: Tensor, mask: Tensor, *attention: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        packed = attention[3:]
        return (
            dcnv3(value, offset, mask, **DCN),
            ms_deform_attn(attention[0], SHAPES, *attention[1:3]),
            ms_deform_attn(packed[0], SHAPES, *packed[1:3], value_index=packed[3]),
        )


def run_file(path: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def write(path: Path, module: nn.Module, tensors: tuple[Tensor, ...], outputs: int) -> list:
    pytest.importorskip("onnxscript")
    from bevstack.export.onnx.write import write_onnx

    inputs = {f"in_{index}": tensor.numpy() for index, tensor in enumerate(tensors)}
    names = tuple(f"out_{index}" for index in range(outputs))
    write_onnx(path, module, inputs, output_names=names, metadata={})
    return run_file(path, inputs)


def test_layers_in_a_file_equal_the_operators(tmp_path: Path) -> None:
    inputs = (
        *dcn_inputs(False),
        *attention_inputs(packed=False),
        *attention_inputs(packed=True),
    )
    module = DeformableLayers()
    found = write(tmp_path / "layers.onnx", module, inputs, 3)
    for got, wanted in zip(found, module(*inputs), strict=True):
        np.testing.assert_allclose(got, wanted.numpy(), **CLOSE)
    text = (tmp_path / "layers.onnx").read_bytes()
    assert b"bevstack::" not in text
    assert b"site-packages" not in text  # no paths of this machine


class Reordering(nn.Module):
    """Orders, extremes, booleans and inverses: everything else without an equal in ONNX."""

    def forward(self, x: Tensor, chosen: Tensor, matrix: Tensor) -> tuple[Tensor, ...]:
        return (
            x.argsort(dim=1, descending=True, stable=True),
            chosen.to(torch.uint8).argsort(dim=1, stable=True),
            x.cummin(1).values,
            x.cummax(1).values,
            torch.nonzero_static(chosen, size=4, fill_value=-1),
            torch.nonzero_static(chosen, size=20, fill_value=-1),
            torch.where(chosen, x > 1, x < 1),
            torch.linalg.inv_ex(matrix).inverse,
            torch.atan2(matrix[..., 0], matrix[..., 1]),
        )


def test_other_operators_in_a_file_equal_torch_also_for_equal_values(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    inputs = (
        torch.randint(0, 4, (3, 9), generator=generator),
        torch.rand(3, 9, generator=generator) < 0.4,
        torch.rand(2, 3, 3, generator=generator, dtype=torch.float64),
    )
    assert 4 < int(inputs[1].sum()) < 20
    module = Reordering()
    found = write(tmp_path / "orders.onnx", module, inputs, 9)
    for got, wanted in zip(found, module(*inputs), strict=True):
        np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [3, 40])
def test_nonzero_keeps_the_first_and_fills_the_rest(size: int) -> None:
    chosen = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(3)) < 0.5
    wanted = torch.nonzero_static(chosen, size=size, fill_value=-7)
    got = formulations.nonzero_static(chosen, size=size, fill_value=-7)
    assert torch.equal(got, wanted)


def test_every_decomposition_is_one_of_a_real_operator() -> None:
    table: dict[object, Callable[..., object]] = dict(formulations.decompositions())
    assert all(isinstance(operator, torch._ops.OpOverload) for operator in table)
