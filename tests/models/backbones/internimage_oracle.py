"""Reading of the stored InternImage cases: configurations, rule weights, inputs."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bevstack.config.internimage import InternImageConfig
from bevstack.interop.internimage_names import official_to_ours, ours_to_official
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.classification.internimage_heads import InternImageClassifier
from tests.conftest import shared_dir

TINY_CASES = (
    "tiny_base_prenorm",
    "tiny_layerscale_prenorm",
    "tiny_xl_like_ch16",
    "tiny_postnorm_no_layerscale",
    "tiny_respostnorm",
    "tiny_center_feature_scale",
    "tiny_dw5",
    "tiny_level2_post_norm",
    "tiny_h_like_ch16",
    "tiny_remove_center",
    "tiny_odd_input",
    "tiny_postnorm_cfs_prenorm_norm_kept",
)
FULL_CASES = ("full_T_cls_rule_weights", "full_T_det_rule_weights", "full_XL_rule_weights")
MODULE_CASES = ("module_dcnv3_basic", "module_dcnv3_dw5_cfs", "module_dcnv3_remove_center")


def folder() -> Path:
    shared = shared_dir()
    assert shared is not None
    return shared / "oracle" / "internimage"


def case_of(name: str) -> dict[str, Any]:
    """Return the description of a case, from the list that its name starts with."""
    prefix = name.split("_", 1)[0]
    listing = {"tiny": "tiny_models", "full": "full_models", "module": "modules"}[prefix]
    cases = json.loads((folder() / f"{listing}.json").read_text(encoding="utf-8"))
    return next(case for case in cases if case["name"] == name)


def arrays_of(name: str) -> dict[str, np.ndarray]:
    with np.load(folder() / f"{name}.npz") as stored:
        return {key: stored[key] for key in stored.files}


def config_of(flags: Mapping[str, Any]) -> InternImageConfig:
    """Return our configuration for a released one's keywords."""
    ours = {key: tuple(v) if isinstance(v, list) else v for key, v in flags.items()}
    if not ours.pop("level2_post_norm", False):
        ours.pop("level2_post_norm_block_ids", None)
    if ours.get("dw_kernel_size", 3) is None:
        del ours["dw_kernel_size"]
    return InternImageConfig(**ours)


def rule_weight(salt: str, key: str, shape: Iterable[int], *, gain: float = 1.0) -> Tensor:
    """Return the pseudo-random weight of a released name, by the rule beside the cases.

    ``gain`` multiplies it before it is rounded to float32.
    """
    shape = tuple(shape)
    random = np.random.RandomState(zlib.crc32(f"{salt}:{key}".encode()))
    v = np.asarray(random.standard_normal(shape))
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0, dtype=torch.int64)
    if key.endswith("running_var"):
        v = 1 + 0.2 * np.abs(v)
    elif key.endswith("running_mean"):
        v = 0.1 * v
    elif key.endswith(("gamma1", "gamma2")):
        v = 0.5 + 0.1 * v
    elif len(shape) == 1 and key.endswith("weight"):
        v = 1 + 0.1 * v
    elif key.endswith("offset.bias"):
        v = 0.5 * v
    elif len(shape) <= 1:
        v = 0.1 * v
    else:
        v = v / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(gain * v, dtype=np.float32))


def rule_input(case: Mapping[str, Any]) -> Tensor:
    random = np.random.RandomState(case["seed"])
    return torch.from_numpy(random.standard_normal(case["input_shape"]).astype(np.float32))


def rule_state(model: nn.Module, salt: str) -> dict[str, Tensor]:
    """Return rule weights for every entry of a classifier's state dict, under our names."""
    state = {}
    for ours, tensor in model.state_dict().items():
        official = ours_to_official(ours)
        assert official is not None, ours
        state[ours] = rule_weight(salt, official, tensor.shape)
    return state


def translated(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a released state dict under our names; no key may be left over."""
    names = {key: official_to_ours(key) for key in official}
    assert None not in names.values()
    assert len(set(names.values())) == len(names)
    return {names[key]: tensor for key, tensor in official.items()}


def backbone_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix("backbone."): tensor
        for key, tensor in state.items()
        if key.startswith("backbone.")
    }


def build(
    flags: Mapping[str, Any], num_classes: int, state: Mapping[str, Tensor] | None, salt: str
) -> tuple[InternImage, InternImageClassifier]:
    """Build a backbone with all stages and a classifier with the same weights, to evaluate."""
    config = config_of(flags)
    with torch.device("meta"):
        classifier = InternImageClassifier(config, num_classes)
        backbone = InternImage(config)
    state = dict(state if state is not None else rule_state(classifier, salt))
    classifier.load_state_dict(state, strict=True, assign=True)
    backbone.load_state_dict(backbone_state(state), strict=True, assign=True)
    return backbone.eval(), classifier.eval()
