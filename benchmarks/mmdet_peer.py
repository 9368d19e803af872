"""Mask R-CNN of mmdetection with the released InternImage, built without mmcv's operators."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.official import randomise
from bevstack.config.detection2d import Detection2DConfig
from bevstack.models.layers.nms import suppress_within
from bevstack.ops import roi_align
from bevstack.types.pictures2d import PictureSize

OPERATORS = "mmcv._ext"
STRIDES = (4, 8, 16, 32)  # of the maps that regions use


@contextmanager
def peer_modules(folder: Path) -> Iterator[None]:
    """Make mmdetection and the released backbone importable.

    Raises:
        FileNotFoundError: The folder does not hold the source.
        ModuleNotFoundError: mmdet is not installed.
    """
    backbone = folder / "mmdet_custom" / "models" / "backbones"
    if not (backbone / "intern_image.py").is_file():
        raise FileNotFoundError(
            f"--source must be the folder detection of OpenGVLab/InternImage; got {folder}"
        )
    _replace_operators()
    cnn, utilities = (importlib.import_module(name) for name in ("mmcv.cnn", "mmdet.utils"))
    registry = importlib.import_module("mmdet.registry").MODELS
    engine = importlib.import_module("mmengine.model")
    logger = importlib.import_module("mmengine.logging").MMLogger

    drop_path = {"DropPath": lambda rate: nn.Identity(), "trunc_normal_": nn.init.trunc_normal_}
    # What the released file imports of versions that mmdet 3 no longer has, for training alone.
    stand_ins: dict[str, dict[str, Any]] = {
        "DCNv3": {},
        "mmcv.runner": {"_load_checkpoint": None},
        "mmdet.models.builder": {"BACKBONES": registry},
        "timm": {},
        "timm.models": {},
        "timm.models.layers": drop_path,
    }
    for name, content in stand_ins.items():
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__dict__.update(content)
    for name in ("constant_init", "trunc_normal_init"):
        setattr(cnn, name, getattr(engine, name))
    utilities.__dict__["get_root_logger"] = logger.get_current_instance
    sys.path[:0] = [str(folder), str(backbone)]
    try:
        importlib.import_module("intern_image")
        _accept_new_option(importlib.import_module("ops_dcnv3.modules"))
        yield
    finally:
        del sys.path[:2]


def _accept_new_option(modules: Any) -> None:
    """Let the operator in torch take the option that the released layer passes to every one."""
    released = modules.DCNv3_pytorch

    class OperatorInTorch(released):  # type: ignore[misc,valid-type]
        def __init__(self, *arguments: Any, use_dcn_v4_op: bool = False, **options: Any) -> None:
            assert not use_dcn_v4_op
            super().__init__(*arguments, **options)

    modules.DCNv3_pytorch = OperatorInTorch


def _replace_operators() -> None:
    """Let mmcv call our RoIAlign and our suppression, whether it has its own or not."""

    class Operators(ModuleType):
        def __getattr__(self, name: str) -> Callable[..., Any]:
            if name.startswith("__"):
                raise AttributeError(name)

            def missing(*arguments: Any, **options: Any) -> None:
                raise RuntimeError(f"the benchmark must not need mmcv's {name}; got a call of it")

            return missing

    module = Operators(OPERATORS)
    module.__spec__ = ModuleSpec(OPERATORS, None)  # mmengine looks for it
    module.__dict__.update(nms=_nms, roi_align_forward=_roi_align)
    sys.modules[OPERATORS] = module


def _nms(boxes: Tensor, scores: Tensor, *, iou_threshold: float, offset: int) -> Tensor:
    assert offset == 0
    return suppress_within(boxes, scores, None, iou_threshold)


def _roi_align(
    maps: Tensor,
    rois: Tensor,
    output: Tensor,
    *_: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    assert pool_mode == 1  # the average
    made = roi_align(
        maps,
        rois,
        (aligned_height, aligned_width),
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
        aligned=aligned,
    )
    output.copy_(made)


def peer_config(config: Detection2DConfig) -> dict[str, Any]:
    """Return the configuration of mmdetection for one of our detectors with one stage."""
    backbone, rpn = config.backbone, config.rpn
    return {
        "type": "MaskRCNN",
        "backbone": {
            "type": "InternImage",
            "core_op": "DCNv3_pytorch",
            "channels": backbone.channels,
            "depths": list(backbone.depths),
            "groups": list(backbone.groups),
            "mlp_ratio": backbone.mlp_ratio,
            "norm_layer": "LN",
            "layer_scale": backbone.layer_scale,
            "offset_scale": backbone.offset_scale,
            "post_norm": backbone.post_norm,
            "out_indices": backbone.out_indices,
        },
        "neck": {
            "type": "FPN",
            "in_channels": [backbone.channels * 2**stage for stage in range(4)],
            "out_channels": config.channels,
            "num_outs": 5,
        },
        "rpn_head": {
            "type": "RPNHead",
            "in_channels": config.channels,
            "feat_channels": config.channels,
            "anchor_generator": {
                "type": "AnchorGenerator",
                "scales": [rpn.scale],
                "ratios": list(rpn.ratios),
                "strides": [*STRIDES, 64],
            },
            "bbox_coder": {"type": "DeltaXYWHBBoxCoder"},
        },
        "roi_head": _roi_head(config),
        "train_cfg": None,
        "test_cfg": _test_settings(config),
    }


def _roi_head(config: Detection2DConfig) -> dict[str, Any]:
    roi, channels = config.roi, config.channels

    def extractor(cells: int) -> dict[str, Any]:
        layer = {"type": "RoIAlign", "output_size": cells, "sampling_ratio": 0}
        sizes = {"out_channels": channels, "featmap_strides": list(STRIDES)}
        return {"type": "SingleRoIExtractor", "roi_layer": layer, **sizes}

    return {
        "type": "StandardRoIHead",
        "bbox_roi_extractor": extractor(roi.box_cells),
        "bbox_head": {
            "type": "Shared2FCBBoxHead",
            "in_channels": channels,
            "fc_out_channels": roi.hidden_channels,
            "num_classes": len(config.class_names),
            "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_stds": list(roi.stds[0])},
        },
        "mask_roi_extractor": extractor(roi.mask_cells),
        "mask_head": {
            "type": "FCNMaskHead",
            "num_convs": roi.num_mask_convs,
            "in_channels": channels,
            "conv_out_channels": channels,
            "num_classes": len(config.class_names),
        },
    }


def _test_settings(config: Detection2DConfig) -> dict[str, Any]:
    rpn, roi = config.rpn, config.roi
    return {
        "rpn": {
            "nms_pre": rpn.candidates,
            "max_per_img": rpn.proposals,
            "nms": {"type": "nms", "iou_threshold": rpn.nms_iou},
            "min_bbox_size": 0,
        },
        "rcnn": {
            "score_thr": roi.score_threshold,
            "nms": {"type": "nms", "iou_threshold": roi.nms_iou},
            "max_per_img": roi.detections,
            "mask_thr_binary": roi.mask_threshold,
        },
    }


def build_peer(config: Detection2DConfig) -> nn.Module:
    """Return mmdetection's detector with random weights that find objects."""
    importlib.import_module("mmdet.models")  # registers the parts
    registry = importlib.import_module("mmdet.registry").MODELS
    as_config = importlib.import_module("mmengine.config").ConfigDict
    model: nn.Module = registry.build(as_config(peer_config(config)))
    randomise(model)
    with torch.no_grad():  # scores far apart, so that rounding changes no order
        model.roi_head.bbox_head.fc_cls.weight.mul_(10)  # type: ignore[union-attr,operator]
        model.rpn_head.rpn_cls.weight.mul_(10)  # type: ignore[union-attr,operator]
    return model.eval()


def picture_sample(sizes: PictureSize, batch: tuple[int, int]) -> Any:
    """Return mmdetection's description of a prepared picture."""
    return importlib.import_module("mmdet.structures").DetDataSample(
        metainfo={
            "img_shape": sizes.resized,
            "ori_shape": sizes.original,
            "pad_shape": sizes.padded,
            "batch_input_shape": batch,
            "scale_factor": tuple(float(x) for x in sizes.scale()[:2]),
        }
    )


def peer_version() -> str:
    """Return the version of mmdetection."""
    version: str = importlib.import_module("mmdet").__version__
    return version
