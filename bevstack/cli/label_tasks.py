"""Parts of verbs that work on labels of pixels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from bevstack.runtime.pixel_labeller import PixelLabeller
    from bevstack.tasks.segmentation import Segmentation

# Options of ``predict`` without effect on labels of pixels
_NOT_FOR_LABELS = (
    *("track", "lost", "frames", "cues", "no_cues", "manoeuvre", "manoeuvres", "interval"),
    *("no_history", "skip_missing", "strict_rig", "model"),
)
_OTHER_DATA = ("nuscenes", "scene", "held_out_scene", "classes", "pictures", "coco")


def make_label_task(args: argparse.Namespace, console: Console) -> Segmentation:
    """Open the pictures, print their number, and build the task of ``bevstack train``.

    Raises:
        FileNotFoundError: there is no such configuration, split or folder.
        ValueError: options that do not fit, or a damaged file.
    """
    from bevstack.cli.label_data import label_data_option, open_label_data
    from bevstack.config.segmenters import load_segmenter
    from bevstack.tasks.segmentation import Segmentation

    option = f"--{label_data_option(args)}"
    refuse_options(args, [*_OTHER_DATA, "dry_run"], option)
    if args.split is None:
        raise ValueError(f"--split must be given with {option}; got none")
    config = load_segmenter(args.config, args.overrides)
    recipe = config.training
    if args.steps is not None:
        recipe = recipe.with_num_steps(args.steps)
    if args.held_out is None:
        recipe = replace(recipe, evaluate_every=0)
    names = config.class_names
    dataset = open_label_data(args, args.split).with_classes(names)
    held_out = args.held_out and open_label_data(args, args.held_out).with_classes(names)
    apart = f", {len(held_out)} of {args.held_out} kept apart" if held_out else ""
    console.print(f"{args.split}: {len(dataset)} pictures with labelled pixels{apart}")
    return Segmentation(replace(config, training=recipe), dataset, held_out=held_out or None)


def predicts_labels(args: argparse.Namespace) -> bool:
    """Return True if the weights or the configuration of ``predict`` label pixels."""
    from bevstack.config.segmentation import SEGMENTATION
    from bevstack.config.segmenters import find_segmenter
    from bevstack.models.build import list_tasks
    from bevstack.models.weights import read_metadata
    from bevstack.runtime.shipped import weights_path

    if args.weights is not None:
        path = weights_path(args.weights)
        return path.is_file() and SEGMENTATION in list_tasks(path, read_metadata(path))
    return args.config is not None and find_segmenter(args.config) is not None


def run_predict_labels(args: argparse.Namespace, console: Console) -> int:
    """Label the pixels of ``--images``, and write label maps into the folder ``--out``.

    Raises:
        FileNotFoundError: the weights or the pictures do not exist.
        ValueError: options or files that do not fit.
        OSError: the label maps cannot be written.
    """
    from rich.progress import Progress

    from bevstack.runtime.predict_labels import predict_labels

    refuse_options(args, _NOT_FOR_LABELS, "weights that label pixels")
    if args.precision != "float32":
        raise ValueError(f"--precision must be float32 for labels of pixels; got {args.precision}")
    if args.out.is_file():
        raise ValueError(f"--out must be a folder for label maps; got the file {args.out}")
    labeller = _labeller(args, console)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("predicting", total=None)
        pictures = predict_labels(
            labeller,
            args.images,
            args.out,
            ratios=args.ratios or (1.0,),
            mirror=args.mirror,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(f"labels of {pictures} pictures: {args.out}")
    return 0


def _labeller(args: argparse.Namespace, console: Console) -> PixelLabeller:
    """Build the model of ``--weights``, or a random one of ``--config``."""
    import torch

    from bevstack.config.overrides import with_overrides
    from bevstack.config.segmenters import find_segmenter
    from bevstack.models.build_segmentation import read_segmenter, segmenter_with
    from bevstack.models.segmentation.build import build_segmenter
    from bevstack.runtime.devices import choose_device
    from bevstack.runtime.pixel_labeller import PixelLabeller
    from bevstack.runtime.shipped import weights_path

    device = torch.device(choose_device(args.device))
    config = None
    if args.config is not None:
        config = find_segmenter(args.config, args.overrides)
        if config is None:
            raise ValueError(f"--config must label pixels, as the weights do; got {args.config}")
    if args.weights is None:
        assert config is not None  # predicts_labels
        console.print("note: without --weights, weights are random and labels have no meaning")
        return PixelLabeller(build_segmenter(config).to(device).eval(), config)
    weights, stored = read_segmenter(weights_path(args.weights), verify=args.verify)
    config = config or with_overrides(stored, args.overrides)
    return PixelLabeller(segmenter_with(weights, config, device), config)


def refuse_options(args: argparse.Namespace, names: Sequence[str], option: str) -> None:
    """Refuse options that have no effect beside one of labelled pixels.

    Raises:
        ValueError: one is given.
    """
    given = [name for name in names if getattr(args, name, None)]
    if given:
        raise ValueError(f"--{given[0].replace('_', '-')} must be left out with {option}; got both")
