"""The part of ``bevstack export`` that writes and verifies image classifiers."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bevstack.cli.export_scene import NUM_FRAMES, scene_dataset

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from bevstack.export.onnx.classifier import LogitsReport
    from bevstack.export.runtimes import LoadedFile
    from bevstack.models.classification.internimage_heads import InternImageClassifier

NUM_CLASSES = 1000  # of a classifier without weights


def add_classifier_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the arguments of classifiers."""
    group.add_argument(
        "--classifier",
        metavar="NAME",
        help="with --onnx: export this InternImage classifier, internimage_t, _s, _b, _l, _xl, _h "
        "or _g; --weights names its published file",
    )
    group.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="size of the pictures of --classifier or of a 2D detector or segmenter, pixels "
        "(default: that of the paper's table; 800 1344; 512 512)",
    )
    group.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="samples at a time (default: 1; of --classifier: any number)",
    )


def export_classifier_file(args: argparse.Namespace) -> int:
    """Export a classifier and print its report.

    Raises:
        FileNotFoundError: the weights or the data set does not exist.
        OSError: a file cannot be written.
        ValueError: options that do not fit, or a file that differs from the model.
    """
    from bevstack.costs.backbone import PUBLISHED_SIZE_PX
    from bevstack.export.onnx.classifier import export_classifier
    from bevstack.export.onnx.classifier_info import ClassifierInfo
    from bevstack.runtime.predict import check_writable

    if args.classifier not in PUBLISHED_SIZE_PX:
        known = ", ".join(PUBLISHED_SIZE_PX)
        raise ValueError(f"--classifier must be one of {known}; got {args.classifier!r}")
    if args.size is not None and min(args.size) < 1:
        raise ValueError(f"--size must be two positive numbers of pixels; got {args.size}")
    check_writable(args.onnx)
    model, digest = _load(args.weights, args.classifier)
    height, width = args.size or (PUBLISHED_SIZE_PX[args.classifier],) * 2
    info = ClassifierInfo(
        name=args.classifier,
        weights=digest,
        image_size=(height, width),
        classes=model.head.fc.out_features,
        batch=args.batch,
        custom_ops=args.custom_ops is not None,
    )
    pictures = camera_pictures(args, info.image_size)
    reports = export_classifier(args.onnx, model, info, pictures)
    print(f"{args.onnx}: {args.onnx.stat().st_size / 1e6:.1f} MB")
    return _print(reports, args.onnx)


def verify_classifier_file(args: argparse.Namespace, file: LoadedFile) -> int:
    """Compare an exported classifier with its weights and print the report.

    Raises:
        FileNotFoundError: the weights or the data set does not exist.
        ValueError: other weights, or logits that differ.
    """
    from bevstack.export.onnx.classifier import verify_classifier
    from bevstack.export.onnx.classifier_info import read_classifier_info

    info = read_classifier_info(file.metadata, str(args.verify))
    model, digest = _load(args.weights, info.name)
    if digest != info.weights:
        raise ValueError(
            f"--weights must be those that {args.verify} was exported from, digest "
            f"{info.weights[:12]}; got {args.weights}, digest {digest[:12]}"
        )
    pictures = camera_pictures(args, info.image_size)
    return _print(verify_classifier([file], model, pictures, args.verify), args.verify)


def _load(weights: Path | None, name: str) -> tuple[InternImageClassifier, str]:
    """Return the classifier, and a digest of its weights."""
    import torch

    from bevstack.config.internimage import classification_config
    from bevstack.models.classification.internimage_heads import InternImageClassifier
    from bevstack.models.weights import tensors_digest

    if weights is None:
        print("note: without --weights, weights are random and classes have no meaning")
        torch.manual_seed(0)
        model = InternImageClassifier(classification_config(name), NUM_CLASSES).eval()
    else:
        from bevstack.interop.classifiers import classifier_from_public
        from bevstack.interop.published_files import read_published_file

        model = classifier_from_public(read_published_file(weights), name)
    return model, tensors_digest(model.state_dict())


def camera_pictures(
    args: argparse.Namespace, size: tuple[int, int]
) -> NDArray[np.uint8]:  # (P, H, W, 3) RGB
    """Return the middle of one camera's picture in each of the first frames of a scene."""
    import cv2
    import numpy as np

    height, width = size
    found = []
    with scene_dataset(args, None) as dataset:
        for index in range(min(NUM_FRAMES, len(dataset))):
            images = [image for image in dataset.frame(index).images if image is not None]
            image = images[index % len(images)]  # of another camera each
            rows, columns = image.shape[:2]
            scale = min(rows / height, columns / width)
            kept_rows, kept_columns = int(scale * height), int(scale * width)
            top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
            middle = image[top : top + kept_rows, left : left + kept_columns]
            found.append(cv2.resize(middle, (width, height), interpolation=cv2.INTER_CUBIC))
    return np.stack(found).astype(np.uint8)


def _print(reports: list[LogitsReport], path: Path) -> int:
    for report in reports:
        print(
            f"logits of {report.images} images in batches of "
            f"{', '.join(map(str, report.batches))} equal ours in {report.backend}: "
            f"{report.largest:.1e} of the largest"
        )
    print(f"report: {path.name}.check.json beside it")
    return 0
