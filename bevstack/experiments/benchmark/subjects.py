"""The function that each case runs, and the parts of it that are timed by themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bevstack import ops
from bevstack.config import load_config
from bevstack.config.internimage import classification_config
from bevstack.experiments.benchmark.cases import (
    BACKBONE,
    DETECTOR,
    EXPORTED,
    KERNEL,
    OPERATOR,
    BenchmarkCase,
)
from bevstack.experiments.benchmark.drive import driving_clip, single_frame
from bevstack.export.onnx import formulations
from bevstack.export.onnx.check import case_arrays
from bevstack.export.runtimes import open_session
from bevstack.models.build import build_model
from bevstack.models.classification.internimage_heads import InternImageClassifier
from bevstack.runtime.precision import cast_weights, computing_in

# (height, width), channels, groups, offset_scale: InternImage-T on an image of 224x224 pixels and
# InternImage-XL on one of 640x1600.
DCNV3_SHAPES = {
    "t_stage1": ((56, 56), 64, 4, 1.0),
    "t_stage2": ((28, 28), 128, 8, 1.0),
    "t_stage3": ((14, 14), 256, 16, 1.0),
    "t_stage4": ((7, 7), 512, 32, 1.0),
    "xl_stage1": ((160, 400), 192, 12, 2.0),
    "xl_stage2": ((80, 200), 384, 24, 2.0),
    "xl_stage3": ((40, 100), 768, 48, 2.0),
    "xl_stage4": ((20, 50), 1536, 96, 2.0),
}
PYRAMID = ((80, 200), (40, 100), (20, 50), (10, 25))  # of images of 640x1600 pixels
IMAGES, QUERIES, HEADS, CHANNELS, POINTS = 6, 8000, 8, 32, 8


class Subject(NamedTuple):
    """Function of a case and the modules inside of it."""

    run: Callable[[], object]
    parts: dict[str, nn.Module]  # timed by themselves as far as they run


def make_subject(case: BenchmarkCase, device: torch.device) -> Subject:
    """Return the function of a case with random weights and inputs, the same in every run.

    Raises:
        ModuleNotFoundError: the backend of an exported file is not installed.
        ValueError: an unknown kind or name, or a file that is no exported detector.
    """
    torch.manual_seed(0)
    if case.kind == EXPORTED:
        return _exported(case)
    if case.kind not in (OPERATOR, BACKBONE, DETECTOR):
        raise ValueError(f"kind must be one that runs in torch; got {case.kind!r}")
    make = {OPERATOR: _operator, BACKBONE: _backbone, DETECTOR: _detector}[case.kind]
    subject = make(case, device)

    def run() -> object:
        with torch.inference_mode(), computing_in(case.precision, device):
            return subject.run()

    return Subject(run, subject.parts)


def _operator(case: BenchmarkCase, device: torch.device) -> Subject:
    shape = case.name.removeprefix("dcnv3_")
    if shape in DCNV3_SHAPES:
        return Subject(_dcnv3(shape, case.how, device), {})
    if case.name != "spatial_cross_attention":
        raise ValueError(
            f"operator must be dcnv3_SHAPE or spatial_cross_attention; got {case.name}"
        )
    pixels = sum(height * width for height, width in PYRAMID)
    value = torch.randn(IMAGES, pixels, HEADS, CHANNELS, device=device)
    where = torch.rand(IMAGES, QUERIES, HEADS, len(PYRAMID), POINTS, 2, device=device)
    weights = torch.rand(where.shape[:-1], device=device)
    flat = [side for shape in PYRAMID for side in shape]

    def run() -> Tensor:
        if case.how == KERNEL:
            return ops.ms_deform_attn(value, list(PYRAMID), where, weights)
        return formulations.ms_deform_attn(value, where, weights, spatial_shapes=flat)

    return Subject(run, {})


def _dcnv3(shape: str, how: str, device: torch.device) -> Callable[[], Tensor]:
    (height, width), channels, groups, scale = DCNV3_SHAPES[shape]
    value = torch.randn(1, height, width, channels, device=device)
    offset = torch.randn(1, height, width, groups * 9 * 2, device=device)
    mask = torch.randn(1, height, width, groups * 9, device=device).softmax(-1)
    compute = ops.dcnv3 if how == KERNEL else formulations.dcnv3

    def run() -> Tensor:
        return compute(
            value,
            offset,
            mask,
            kernel_size=(3, 3),
            stride=(1, 1),
            padding=(1, 1),
            dilation=(1, 1),
            groups=groups,
            offset_scale=scale,
        )

    return run


def _backbone(case: BenchmarkCase, device: torch.device) -> Subject:
    model = InternImageClassifier(classification_config(case.name)).eval().to(device)
    cast_weights(model, case.precision)
    image = torch.randn(1, 3, case.size, case.size, device=device)
    return Subject(lambda: model(image), {})


def _detector(case: BenchmarkCase, device: torch.device) -> Subject:
    config = load_config(case.name)
    model = build_model(config).eval().to(device)
    cast_weights(model, case.precision)
    memory = None
    if model.history is None:
        frame = driving_clip(config, (0,)).to(device)
    else:
        clip = driving_clip(config, range(-model.history.num_slots, 1)).to(device)
        with torch.inference_mode(), computing_in(case.precision, device):
            for slot in range(clip.images.shape[1] - 1):
                memory = model(single_frame(clip, slot), memory).memory
        frame = single_frame(clip, -1)
    names = ("backbone", "neck", "perspective_head", "propose", "encoder", "fusion", "decoder")
    found = {name: getattr(model, name, None) for name in names}
    parts = {name: part for name, part in found.items() if isinstance(part, nn.Module)}
    return Subject(lambda: model(frame, memory), parts)


def _exported(case: BenchmarkCase) -> Subject:
    session = open_session(Path(case.name), case.how, threads=case.threads)
    config = session.info.config
    arrays = case_arrays(driving_clip(config, (0,)), None, session)
    return Subject(lambda: session.run(arrays), {})
