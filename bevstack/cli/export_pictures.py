"""The part of ``bevstack export`` that writes and verifies models of single pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.export_classifier import camera_pictures

if TYPE_CHECKING:
    from torch import nn

    from bevstack.config.detection2d import Detection2DConfig
    from bevstack.config.picture_detectors import PictureDetectorConfig
    from bevstack.config.segmentation import SegmentationConfig
    from bevstack.config.segmenters import SegmenterConfig
    from bevstack.export.onnx.pictures import PictureNetwork, PictureReport
    from bevstack.export.runtimes import LoadedFile

    PictureModelConfig = Detection2DConfig | SegmentationConfig

DEFAULT_SIZE = (800, 1344)  # of detectors: the published limits, rounded up to multiples of 32
DEFAULT_LABEL_SIZE = (512, 512)


def exports_pictures(args: argparse.Namespace) -> bool:
    """Return True if the configuration or the weights are of a model of single pictures."""
    from bevstack.config.detection2d import DETECTION2D
    from bevstack.config.picture_detectors import find_picture_detector
    from bevstack.config.segmentation import SEGMENTATION
    from bevstack.config.segmenters import find_segmenter
    from bevstack.models.build import list_tasks
    from bevstack.models.weights import read_metadata
    from bevstack.runtime.shipped import weights_path

    if args.weights is not None:
        path = weights_path(args.weights)
        tasks = list_tasks(path, read_metadata(path)) if path.is_file() else ()
        return bool({DETECTION2D, SEGMENTATION} & set(tasks))
    if args.config is None:
        return False
    return find_picture_detector(args.config) is not None or find_segmenter(args.config) is not None


def export_picture_file(args: argparse.Namespace) -> int:
    """Export a model of pictures and print its report.

    Raises:
        FileNotFoundError: the weights or the data set does not exist.
        OSError: a file cannot be written.
        ValueError: options that do not fit, or a file that differs from the model.
    """
    from bevstack.export.onnx.picture_info import PictureInfo
    from bevstack.export.onnx.pictures import check_size, export_pictures, spread_scores
    from bevstack.models.detection2d.model import RegionDetector
    from bevstack.models.segmentation.model import Segmenter
    from bevstack.models.weights import tensors_digest
    from bevstack.runtime.predict import check_writable

    check_writable(args.onnx)
    model, config, kind = _load(args)
    size = args.size or (DEFAULT_LABEL_SIZE if isinstance(model, Segmenter) else DEFAULT_SIZE)
    check_size(model, (size[0], size[1]))
    pictures = camera_pictures(args, (size[0], size[1]))
    if args.weights is None and isinstance(model, RegionDetector):
        spread_scores(model, pictures[0])
    info = PictureInfo(
        name=config.name,
        kind=kind,
        weights=tensors_digest(model.state_dict()),
        image_size=(size[0], size[1]),
        class_names=config.class_names,
        custom_ops=args.custom_ops is not None,
    )
    reports = export_pictures(args.onnx, model, info, pictures)
    print(f"{args.onnx}: {args.onnx.stat().st_size / 1e6:.1f} MB")
    return _print(reports, args.onnx)


def verify_picture_file(args: argparse.Namespace, file: LoadedFile) -> int:
    """Compare an exported model of pictures with its weights and print the report.

    Raises:
        FileNotFoundError: the weights or the data set does not exist.
        ValueError: other weights, or results that differ.
    """
    from bevstack.export.onnx.picture_info import read_picture_info
    from bevstack.export.onnx.pictures import verify_pictures
    from bevstack.models.weights import tensors_digest

    info = read_picture_info(file.metadata, str(args.verify))
    model, _, _ = _load(args)
    digest = tensors_digest(model.state_dict())
    if digest != info.weights:
        raise ValueError(
            f"--weights must be those that {args.verify} was exported from, digest "
            f"{info.weights[:12]}; got {args.weights}, digest {digest[:12]}"
        )
    pictures = camera_pictures(args, info.image_size)
    return _print(verify_pictures([file], model, pictures, args.verify), args.verify)


def _load(args: argparse.Namespace) -> tuple[PictureNetwork, PictureModelConfig, str]:
    """Return the model of --weights, or one with random weights of --config.

    Raises:
        ValueError: the model cannot be exported, or its configuration is not that of --config.
    """
    from bevstack.config.detection2d import DETECTION2D
    from bevstack.config.segmentation import SEGMENTATION
    from bevstack.models.detection2d.model import RegionDetector
    from bevstack.models.segmentation.model import Segmenter

    model: nn.Module
    config: PictureDetectorConfig | SegmenterConfig
    if args.weights is None:
        model, config = _random(args.config)
    else:
        from bevstack.runtime.loading import load_tasks
        from bevstack.runtime.picture_detector import PictureDetector
        from bevstack.runtime.pixel_labeller import PixelLabeller

        found = load_tasks(args.weights)
        loaded = found.get(DETECTION2D) or found.get(SEGMENTATION)
        assert isinstance(loaded, (PictureDetector, PixelLabeller))
        model, config = loaded.model, loaded.config
        if args.config is not None and args.config != config.name:
            raise ValueError(
                f"--weights must be of the configuration {args.config}; got {config.name}"
            )
    if isinstance(model, RegionDetector):
        return model, model.config, DETECTION2D
    if isinstance(model, Segmenter):
        return model, model.config, SEGMENTATION
    raise ValueError(
        f"--onnx must be of Mask R-CNN, Cascade Mask R-CNN, UperNet or SegFormer's head; got "
        f"{config.name}: run it with `bevstack predict`"
    )


def _random(name: str) -> tuple[nn.Module, PictureDetectorConfig | SegmenterConfig]:
    """Build a model of a configuration with random weights."""
    import torch

    from bevstack.config.picture_detectors import find_picture_detector
    from bevstack.config.segmenters import find_segmenter
    from bevstack.models.detection2d.build import build_picture_model
    from bevstack.models.segmentation.build import build_segmenter

    print("note: without --weights, weights are random and results have no meaning")
    torch.manual_seed(0)
    config = find_picture_detector(name)
    if config is None:
        labels = find_segmenter(name)
        assert labels is not None  # exports_pictures
        return build_segmenter(labels).eval(), labels
    model = build_picture_model(config).eval()
    return model, config


def _print(reports: list[PictureReport], path: Path) -> int:
    for report in reports:
        shown = ", ".join(f"{name} {value:.1e}" for name, value in report.largest.items())
        what = "pixels" if "logits" in report.largest else "objects"
        print(
            f"{report.compared} {what} of {report.pictures} pictures equal ours in "
            f"{report.backend}: {shown}"
        )
    print(f"report: {path.name}.check.json beside it")
    return 0
