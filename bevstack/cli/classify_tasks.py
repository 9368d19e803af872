"""Parts of ``predict`` and ``evaluate`` that classify whole pictures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.label_tasks import refuse_options

if TYPE_CHECKING:
    from rich.console import Console

    from bevstack.runtime.picture_classifier import PictureClassifier

# Options without effect on classes of pictures
_NOT_FOR_PREDICT = (
    *("config", "overrides", "track", "mirror", "ratios", "lost", "frames", "cues", "no_cues"),
    *("manoeuvre", "manoeuvres", "interval", "no_history", "skip_missing", "strict_rig", "model"),
    *("nuscenes", "version", "scene", "split", "rig"),
)
_NOT_FOR_EVALUATE = (
    *("nuscenes", "version", "scene", "tracking", "openlane", "traffic", "pictures", "elements"),
    *("coco", "ade20k", "cityscapes", "dense", "corruptions", "against", "truth", "groups"),
    *("report", "only_predicted", "classes", "mirror", "ratios", "track", "health", "per_class"),
    *("results", "file"),
)


def add_classifier(parser: argparse._ActionsContainer) -> None:
    """Declare ``--classifier`` and ``--class-map``."""
    group = parser.add_argument_group("classes of whole pictures, with --weights")
    group.add_argument(
        "--classifier",
        metavar="NAME",
        help="size of the InternImage classifier whose published file --weights is: internimage_t, "
        "_s, _b, _l, _xl, _h or _g",
    )
    group.add_argument(
        "--class-map",
        type=Path,
        metavar="FILE",
        help="index of each class among the outputs of the model, one a line, such as the one from "
        "ImageNet-22K to ImageNet-1K",
    )


def add_imagenet(parser: argparse._ActionsContainer) -> None:
    """Declare ``--imagenet``."""
    parser.add_argument(
        "--imagenet",
        type=Path,
        metavar="ROOT",
        help="folder of ImageNet to score a --classifier on, with --split: pictures in "
        "ROOT/SPLIT/CLASS, or ROOT/SPLIT with the list ROOT/meta/SPLIT.txt",
    )


def run_classify(args: argparse.Namespace, console: Console) -> int:
    """Write the five most probable classes of each picture of ``--images`` as JSON.

    Raises:
        FileNotFoundError: the weights or the pictures do not exist.
        ValueError: options or files that do not fit.
        OSError: the results cannot be written.
    """
    from rich.progress import Progress

    from bevstack.datasets.images import read_image
    from bevstack.files import write_text_atomically
    from bevstack.runtime.predict import check_writable
    from bevstack.runtime.predict_pictures import named_pictures

    refuse_options(args, _NOT_FOR_PREDICT, "--classifier")
    if args.images is None:
        raise ValueError("--images must be given with --classifier; got none")
    check_writable(args.out)
    pictures = named_pictures(args.images)
    classifier = _load(args)
    rows = []
    with Progress(console=console, disable=not console.is_terminal) as bar:
        for name, path in bar.track(pictures.items(), description="predicting"):
            (best,) = classifier.classify([read_image(path)])
            rows.append({"file_name": name, "classes": [own._asdict() for own in best]})
    write_text_atomically(args.out, json.dumps({"pictures": rows}, indent=1))
    console.print(f"classes of {len(rows)} pictures: {args.out}")
    return 0


def run_imagenet(args: argparse.Namespace) -> int:
    """Score ``--classifier`` by the share of pictures whose class is first, or among five.

    Raises:
        FileNotFoundError: the data set or the weights do not exist.
        ValueError: options or files that do not fit.
        OSError: the metrics cannot be written.
    """
    from rich.progress import Progress

    from bevstack.datasets.classification.classified_pictures import read_imagenet
    from bevstack.evaluation.classification.accuracy import AccuracyCounts
    from bevstack.files import write_text_atomically
    from bevstack.training.progress_bar import make_console

    refuse_options(args, _NOT_FOR_EVALUATE, "--imagenet")
    for option in ("split", "classifier", "out"):
        if getattr(args, option) is None:
            raise ValueError(f"--{option} must be given with --imagenet; got none")
    data = read_imagenet(args.imagenet, args.split)
    classifier = _load(args)
    if len(data.class_names) > classifier.num_classes:
        raise ValueError(
            f"--classifier must have the {len(data.class_names)} classes of {data.source}; got "
            f"{classifier.num_classes}"
        )
    counts, console = AccuracyCounts(), make_console()
    with Progress(console=console, disable=args.json or not console.is_terminal) as bar:
        for index in bar.track(range(len(data)), description="predicting"):
            counts.add(classifier.logits(data.picture(index)), data.labels[index])
    figures = {**counts.figures(), "pictures": counts.total, "split": args.split}
    path = args.out / "class_metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(figures, indent=2))
    if args.json:
        print(json.dumps(figures))
        return 0
    print(f"top-1 {figures['top1']:.4f}, top-5 {figures['top5']:.4f}, {counts.total} pictures")
    print(f"metrics: {path}")
    return 0


def _load(args: argparse.Namespace) -> PictureClassifier:
    """Build the classifier of the published file ``--weights``."""
    from bevstack.costs.backbone import PUBLISHED_SIZE_PX
    from bevstack.datasets.classification.classified_pictures import read_class_map
    from bevstack.interop.classifiers import classifier_from_public
    from bevstack.interop.published_files import read_published_file
    from bevstack.runtime.devices import choose_device
    from bevstack.runtime.picture_classifier import PictureClassifier

    if args.classifier not in PUBLISHED_SIZE_PX:
        known = ", ".join(PUBLISHED_SIZE_PX)
        raise ValueError(f"--classifier must be one of {known}; got {args.classifier!r}")
    if args.weights is None:
        raise ValueError("--weights must be given with --classifier: its published file; got none")
    outputs = () if args.class_map is None else read_class_map(args.class_map)
    model = classifier_from_public(read_published_file(args.weights), args.classifier)
    model = model.to(choose_device(args.device))
    return PictureClassifier(model, PUBLISHED_SIZE_PX[args.classifier], outputs)
