"""Indices in value_index that no image has, in the code of the CUDA kernels run on the CPU."""

from __future__ import annotations

import ctypes

import pytest
import torch

from tests.ops import test_ms_deform_attn
from tests.ops.host_device import Runner
from tests.ops.test_host_device import PROCESSORS


@pytest.mark.parametrize("fixed_point", [False, True], ids=["floating", "fixed_point"])
@pytest.mark.parametrize("depth", [5, 16, 32])
@pytest.mark.parametrize(("bad", "code"), [(3, 4), (-1, -1), (10**12, 10**12 + 1), (-(2**40),) * 2])
def test_a_row_of_an_image_that_does_not_exist_is_nan_and_reported(
    library: ctypes.CDLL, bad: int, code: int, depth: int, fixed_point: bool
) -> None:
    case = test_ms_deform_attn.make_case(batch=3, depth=depth, index=[2, 0, 0, 1, 2])
    value, locations, weights, grad_output = case.to(torch.float32)
    options = case.options()
    rows = torch.tensor([0, 1, 3, 4])
    for processors in PROCESSORS:
        runner = Runner(library, processors=processors, fixed_point=fixed_point)
        good = {**options, "value_index": options["value_index"][rows]}
        wanted = runner.ms_deform_attn(
            (value, locations[rows], weights[rows]), grad_output[rows], good
        )
        assert runner.bad_index.item() == 0
        index = options["value_index"].clone()
        index[2] = bad
        given = {**options, "value_index": index}
        got = runner.ms_deform_attn((value, locations, weights), grad_output, given)
        assert runner.bad_index.item() == code
        assert got[0][2].isnan().all()
        assert torch.equal(got[0][rows], wanted[0])
        assert torch.equal(got[1], wanted[1])  # nothing is added to the values
        for gradient, expected in zip(got[2:], wanted[2:], strict=True):
            assert (gradient[2] == 0).all()
            assert torch.equal(gradient[rows], expected)
