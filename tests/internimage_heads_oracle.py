"""Reading of the stored cases of InternImage's 2D tasks: manifest, arrays, weights, gradients.

The folder's ``manifest.json`` lists the cases. Tests find them by their kind, so that further cases
of the same form run as well when ``$BEVSTACK_SHARED`` names another folder.
"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.conftest import shared_dir
from tests.models.backbones.internimage_oracle import rule_weight

FOLDER = "internimage_heads"
# ImageNet's mean and deviation, with which the stored images are normalised.
MEAN = np.array([123.675, 116.28, 103.53], dtype=np.float32)
STD = np.array([58.395, 57.12, 57.375], dtype=np.float32)


def folder() -> Path:
    shared = shared_dir()
    assert shared is not None
    return shared / "oracle" / FOLDER


@functools.cache
def manifest() -> dict[str, dict[str, Any]]:
    """Return the description of every case by its name."""
    text = (folder() / "manifest.json").read_text(encoding="utf-8")
    cases: dict[str, dict[str, Any]] = json.loads(text)
    return cases


def cases(*kinds: str, name: str | None = None, aspect: str = "") -> list[Any]:
    """Return a parameter for each case of the kinds, with the mark that records its run.

    The marks are "heads_<case>", as in ``oracle_cases.txt``.

    Args:
        kinds: kinds of the manifest.
        name: start of the names to keep; single operations share the kind "op".
        aspect: a suffix of the marks, for a test that covers a part of the case.
    """
    if shared_dir() is None or not folder().is_dir():
        return [pytest.param(kinds[0], marks=pytest.mark.skip("no stored reference numbers"))]
    found = [
        key
        for key, case in manifest().items()
        if case["kind"] in kinds and (name is None or key.startswith(name))
    ]
    assert found, f"no case of kind {kinds} in {folder()}"
    return [pytest.param(key, marks=pytest.mark.oracle(f"heads_{key}{aspect}")) for key in found]


def arrays(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a case."""
    with np.load(folder() / manifest()[name]["data"]) as stored:
        return {key: stored[key] for key in stored.files}


def tensors(name: str) -> dict[str, Tensor]:
    """Return the arrays of a case as tensors."""
    return {key: torch.from_numpy(np.asarray(value)) for key, value in arrays(name).items()}


def stored_state(name: str) -> dict[str, Tensor]:
    """Return the stored weights of a case, under the released names."""
    state: dict[str, Tensor] = load_file(folder() / manifest()[name]["state"])
    return state


def key_list(name: str) -> dict[str, Any]:
    """Return the content of a stored list of keys, such as "state_dict_keys_MaskRCNN_T"."""
    lists: dict[str, Any] = json.loads((folder() / f"{name}.json").read_text(encoding="utf-8"))
    return lists


def ruled_state(
    case: Mapping[str, Any],
    shapes: Iterable[tuple[str, Iterable[int]]],  # released names
) -> dict[str, Tensor]:
    """Return the weights by rule of released names, with the gains of the case."""
    gains = case["rule_gains"]
    return {
        key: rule_weight(
            case["rule_salt"],
            key,
            shape,
            gain=float(np.prod([g for suffix, g in gains.items() if key.endswith(suffix)])),
        )
        for key, shape in shapes
    }


def ruled_inputs(case: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Return the feature maps of a full case, all from one generator."""
    random = np.random.RandomState(zlib.crc32(case["rule_salt"].encode()))
    return tuple(
        torch.from_numpy(random.standard_normal(shape).astype(np.float32))
        for shape in case["input_shapes"]
    )


def normalised_images(
    image_u8: np.ndarray,  # (B, H, W, 3) RGB, or (B, 3, H, W)
    image_shapes: Iterable[Iterable[int]] | None = None,  # B x (height, width)
) -> Tensor:  # (B, 3, H, W)
    """Return the network input of stored pictures, zero outside each picture's own size."""
    pixels = image_u8 if image_u8.shape[-1] == 3 else image_u8.transpose(0, 2, 3, 1)
    images = (pixels.astype(np.float32) - MEAN) / STD
    if image_shapes is not None:
        for image, (height, width, *_) in zip(images, image_shapes, strict=True):
            image[height:], image[:, width:] = 0, 0
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def assert_close(name: str, got: Tensor, wanted: np.ndarray | Tensor, atol: float) -> None:
    """Check the shape and the largest difference of a result."""
    reference = torch.as_tensor(wanted).double()
    assert tuple(got.shape) == tuple(reference.shape), (name, got.shape, reference.shape)
    worst = float((got.detach().double() - reference).abs().max()) if got.numel() else 0.0
    assert worst <= atol, f"{name}: off by {worst:.3g}, allowed {atol:.3g}"


def check_losses(got: Mapping[str, Any], wanted: Mapping[str, Any], relative: float) -> None:
    """Check losses by their released names; lists hold one value a level."""
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        ours = torch.as_tensor(got[name]).double().flatten()
        theirs = torch.as_tensor(value).double().flatten()
        assert ours.shape == theirs.shape, name
        bound = relative * theirs.abs().clamp(min=1e-3)
        assert bool(((ours - theirs).abs() <= bound).all()), (name, ours, theirs)


def check_gradients(
    gradients: Mapping[str, Tensor | None],  # by released names
    wanted: Mapping[str, list[float]],  # norm, sum, sum of k * g_k / numel
) -> None:
    """Check the gradients' norms within 1e-3 and their two sums, which see a permutation.

    README beside the cases: relative to the norm, or to 1e-4 of the largest norm where a gradient
    is nearly zero. A sum of n terms is at most sqrt(n) times the norm.
    """
    assert gradients.keys() >= wanted.keys(), wanted.keys() - gradients.keys()
    largest = max(numbers[0] for numbers in wanted.values())
    for key, numbers in wanted.items():
        stored = gradients[key]
        gradient = torch.zeros(1) if stored is None else stored
        flat = gradient.double().flatten()
        index = torch.arange(flat.numel(), dtype=torch.float64)
        got = (flat.norm(), flat.sum(), (flat * index).sum() / flat.numel())
        scale = 1e-3 * max(numbers[0], 1e-4 * largest)
        assert abs(float(got[0]) - numbers[0]) <= scale, (key, got, numbers)
        for ours, theirs in zip(got[1:], numbers[1:], strict=True):
            assert abs(float(ours) - theirs) <= scale * flat.numel() ** 0.5, (key, got, numbers)
