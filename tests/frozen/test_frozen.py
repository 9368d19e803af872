"""Comparison of every case with its frozen numbers, within ``case.TOLERANCE``.

``make_frozen`` describes the checks of the numbers before they were frozen.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

import bevstack.models
from bevstack.models.weights import read_safetensors
from tests.frozen import operator_cases
from tests.frozen.case import TOLERANCE, Case, agree, frozen
from tests.frozen.cases import CASES, FILE, MAX_BYTES
from tests.frozen.kernels import use_kernel
from tests.frozen.make_frozen import write
from tests.ops.calls import KERNELS

# Modules without a frozen case. Tests in tests/models compare them with loops (test_resnet.py,
# test_internimage.py, test_fusion.py, test_head.py, test_hybrid_queries.py). Remove a name from
# this list when the module gets a case.
NOT_YET_FROZEN = {
    "ChannelsLastGroupNorm",
    "ChannelsLastSyncBatchNorm",
    "SyncBatchNorm",
    "LevelTower",
    "PerspectiveHead",
    "Bottleneck",
    "ResNet",
    "FusionBlock",
    # lights and signs, compared with loops in tests/models/traffic and tests/losses
    "Calibration",
    "DenseHead",
    "MapEvidence",
    "NumberReader",
    "RegionHead",
    "RelevanceHead",
    "TrafficModel",
    "TemporalFusion",
    "ProposalQueries",
    # detection in pictures, compared with stored outputs in tests/models/detection2d
    "BoxHead",
    "DetectionPyramid",
    "MaskHead",
    "RegionDetector",
    "RegionProposals",
    "RegionStage",
    "ChannelMapper",
    "CompositeInternImage",
    "DecoderLayer",
    "Dino",
    "EncoderLayer",
    "Feedforward",
    "MultiScaleAttention",
    # labels of pixels, compared with stored outputs in tests/models/segmentation
    "AuxiliaryHead",
    "ConvGroupNorm",
    "ConvNormReLU",
    "DenseAttention",
    "MaskDecoder",
    "MaskDecoderLayer",
    "MaskSegmenter",
    "PixelClassifier",
    "PixelDecoder",
    "SegFormerHead",
    "Segmenter",
    "UperHead",
}

QUICK = ("dcnv3.softmax", "ms_deform_attn.packed", "fpn", "box_code", "losses", "prepared_images")


@functools.cache
def stored() -> dict[str, Tensor]:
    return read_safetensors(FILE)[0]


@functools.cache
def computed(name: str, kernel: str) -> tuple[dict[str, Tensor], set[type]]:
    """Return the numbers to store of a case, and the types of the modules that ran."""
    ran: set[type] = set()
    hook = register_module_forward_hook(lambda module, inputs, output: ran.add(type(module)))
    try:
        with use_kernel(kernel):
            return frozen(name, CASES[name], CASES[name].compute()), ran
    finally:
        hook.remove()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_case_gives_the_frozen_numbers(name: str, kernel: str) -> None:
    numbers, _ = computed(name, kernel)
    wanted = {key: t for key, t in stored().items() if key.startswith(f"{name}/")}
    assert set(numbers) == set(wanted)
    for key, tensor in wanted.items():
        assert numbers[key].dtype == tensor.dtype, key
        tolerance = TOLERANCE.get(tensor.dtype, 0.0)  # integers must be equal
        agree(key, numbers[key], tensor, tolerance, CASES[name].absolute)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", operator_cases.CASES)
def test_operators_give_the_frozen_numbers_in_float32(name: str, kernel: str) -> None:
    operator, setting = name.split(".")
    with use_kernel(kernel):
        found = getattr(operator_cases, operator)(setting, torch.float32)
    for key, tensor in frozen(name, CASES[name], found).items():
        assert tensor.dtype == torch.float32
        agree(key, tensor, stored()[key], TOLERANCE[torch.float32])


def test_file_holds_exactly_the_cases_and_is_small() -> None:
    assert {key.split("/")[0] for key in stored()} == set(CASES)
    assert FILE.stat().st_size < MAX_BYTES


def model_modules() -> Iterator[type]:
    """Yield every module class that ``bevstack.models`` defines."""
    for info in pkgutil.walk_packages(bevstack.models.__path__, "bevstack.models."):
        for value in vars(importlib.import_module(info.name)).values():
            is_module = isinstance(value, type) and issubclass(value, nn.Module)
            if is_module and value.__module__ == info.name:
                yield value


def test_every_module_of_the_models_runs_in_a_case() -> None:
    ran = set[type]().union(*(computed(name, "dispatched")[1] for name in CASES))
    assert {module.__name__ for module in model_modules() if module not in ran} == (NOT_YET_FROZEN)


def test_reference_kernels_run_if_they_are_selected(monkeypatch) -> None:
    calls = []
    module = importlib.import_module("bevstack.ops.dcnv3")
    reference = module.reference
    monkeypatch.setattr(
        module, "reference", lambda *args, **options: calls.append(1) or reference(*args, **options)
    )
    with use_kernel("reference"):
        operator_cases.dcnv3("plain")
    assert calls == [1]


def with_small_error(case: Case) -> Case:
    """Return the case with one number of one tensor changed."""

    def compute() -> dict[str, Tensor]:
        tensors = {key: t.clone() for key, t in case.compute().items()}
        key = next(iter(tensors))
        flat = tensors[key].view(-1)
        flat[len(flat) // 2] += 0.01 * flat.nan_to_num().abs().max() + 2 * case.absolute
        return tensors

    return replace(case, compute=compute)


@pytest.mark.parametrize("name", QUICK)
def test_numbers_that_fail_their_check_are_not_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=f"{name} must pass its checks to be frozen"):
        write(tmp_path / "cases.safetensors", {name: with_small_error(CASES[name])})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", QUICK)
def test_a_single_changed_number_is_detected(name: str) -> None:
    changed = with_small_error(CASES[name])
    numbers = frozen(name, changed, changed.compute())
    with pytest.raises(AssertionError, match="off; "):
        for key, tensor in numbers.items():
            tolerance = TOLERANCE.get(tensor.dtype, 0.0)
            agree(key, tensor, stored()[key], tolerance, changed.absolute)
