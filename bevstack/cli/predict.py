r"""Predict boxes, lights and signs in scenes of a data set, or in your own images.

  bevstack predict --config C --weights W --nuscenes ROOT --version v1.0-mini --scene scene-0103 \
      --out results.json
  bevstack predict --weights W --rig rig.json --images DIR --out results.json
  bevstack predict --weights W --rig rig.json --frames DIR --track --out results.json
  bevstack predict --weights W --images DIR --out elements.json
  bevstack predict --weights mask_rcnn.safetensors --images DIR --out objects.json
  bevstack predict --weights upernet.safetensors --images DIR --out labels
  bevstack predict --classifier internimage_t --weights FILE.pth --images DIR --out classes.json

A weights file holds its configuration, so --weights needs no --config. --config without --weights
predicts with random weights, as a test of the installation. KEY=VALUE changes a field of the
configuration; with --weights alone, a field that keeps the shapes of the weights, such as
decoder.max_detections=50. Scenes are streamed: the model keeps a memory of past frames. Under
`torchrun` the processes share the scenes of a split, and a killed run continues with the unfinished
scenes.

With weights that have the task "traffic", a second file beside the results holds traffic lights,
signs and the advice that follows from them. Pictures without calibration (--images alone) give
lights and signs only; with weights of a 2D detector objects with masks, in COCO's format; with
weights that label pixels a folder of label maps; with --classifier the five most probable classes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.classify_tasks import add_classifier, run_classify
from bevstack.cli.exported_options import add_model, check_model, open_model
from bevstack.cli.label_data import add_ratios
from bevstack.cli.label_tasks import predicts_labels, run_predict_labels
from bevstack.cli.options import (
    add_allow_outside,
    add_config,
    add_device,
    add_no_verify,
    add_overrides,
    add_precision,
    add_scenes,
    add_strict_rig,
)
from bevstack.cli.own_images import add_drive, add_own_images, check_drive, check_own_images
from bevstack.cli.picture_tasks import predicts_objects, run_predict
from bevstack.cli.predict_inputs import (
    open_frames,
    open_tables,
    run_frames,
    run_nuscenes,
    run_pictures,
    run_rig,
)
from bevstack.cli.track_options import add_track, check_tracks
from bevstack.cli.traffic_options import (
    add_traffic,
    check_pictures,
    check_traffic,
    cue_options,
    is_pictures,
)

if TYPE_CHECKING:
    from rich.console import Console

    from bevstack.runtime.detector import Detector
    from bevstack.runtime.stream_protocol import FrameDetector


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack predict``."""
    model = parser.add_argument_group("model")
    add_config(model)
    add_overrides(parser)
    model.add_argument(
        "--weights", type=Path, metavar="FILE", help="weights file, or name of packaged weights"
    )
    add_model(model)
    add_no_verify(model)
    add_device(model)
    add_precision(model)
    model.add_argument(
        "--mirror",
        action="store_true",
        help="predict also the mirror image of each frame and average both; takes twice the time",
    )
    add_ratios(model)
    add_classifier(parser)
    add_track(model)
    add_strict_rig(parser)
    nuscenes = parser.add_argument_group("images of a data set in nuScenes' format")
    nuscenes.add_argument("--nuscenes", type=Path, metavar="ROOT", help="folder of the data set")
    nuscenes.add_argument("--version", help="folder of the tables, e.g. v1.0-mini")
    add_scenes(nuscenes, required=False, purpose="predict")
    nuscenes.add_argument(
        "--skip-missing",
        action="store_true",
        help="skip samples whose images are missing, and print each of them; with --frames, a "
        "camera whose listed image is missing counts as lost",
    )
    add_own_images(parser)
    add_drive(parser)
    add_traffic(parser)
    add_allow_outside(parser)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="results file to write (JSON), or folder of label maps",
    )


def run(args: argparse.Namespace) -> int:
    """Predict the boxes and print the path of the results.

    Raises:
        FileNotFoundError: the weights, the data set, an image or the rig file does not exist.
        ValueError: options that do not fit, or a damaged or unsuitable file.
        OSError: the results cannot be written.
    """
    from bevstack.runtime.predict import check_writable
    from bevstack.training.progress_bar import make_console

    if args.classifier is not None:
        return run_classify(args, make_console())
    if args.class_map is not None:
        raise ValueError("--classifier must be given with --class-map; got none")
    _check_input(args)
    if is_pictures(args) and predicts_labels(args):
        return run_predict_labels(args, make_console())
    if args.ratios:
        raise ValueError("--ratios must be given with weights that label pixels; got other ones")
    check_writable(args.out)
    if is_pictures(args):
        objects = predicts_objects(args)
        return (run_predict if objects else run_pictures)(args, make_console())
    tables = None if args.nuscenes is None else open_tables(args)
    source = None if args.frames is None else open_frames(args)
    console = make_console()
    detector: FrameDetector = _make_detector(args, console)
    if args.mirror:
        from bevstack.runtime.mirrored import MirroredDetector

        detector = MirroredDetector(detector)
    if args.track:
        from bevstack.runtime.tracked import TrackedDetector

        detector = TrackedDetector(detector)
    cues = cue_options(args, detector)
    if source is not None:
        result = run_frames(args, source, detector, console, cues)
    elif tables is None:
        result = run_rig(args, detector, console, cues)
    else:
        result = run_nuscenes(args, tables, detector, console, cues)
    if cues is not None:
        console.print(f"lights, signs and cues: {cues.out}")
    return result


def _check_input(args: argparse.Namespace) -> None:
    is_exported = check_model(args, left_out=("weights", "config", "mirror", "overrides"))
    if not is_exported and args.config is None and args.weights is None:
        raise ValueError("--config, --weights or --model must be given; got none")
    check_traffic(args)
    if is_pictures(args):
        if not predicts_objects(args) and not predicts_labels(args):
            check_pictures(args)
        return
    if (args.nuscenes is None) == (args.rig is None):
        raise ValueError(
            "either --nuscenes ROOT or --rig FILE must be given; "
            f"got {'neither' if args.rig is None else 'both'}"
        )
    if args.nuscenes is not None and args.version is None:
        raise ValueError("--version must be given with --nuscenes, e.g. v1.0-mini; got none")
    if args.nuscenes is not None and args.scene is None and args.split is None:
        raise ValueError("--scene or --split must be given with --nuscenes; got neither")
    if args.track and args.images is not None:
        raise ValueError(
            "--nuscenes or --frames must be given with --track, which needs successive frames; got "
            "--images, which gives one frame"
        )
    check_own_images(args)
    check_drive(args)
    check_tracks(args)


def _make_detector(args: argparse.Namespace, console: Console) -> FrameDetector:
    return _make_own(args, console) if args.model is None else open_model(args)


def _make_own(args: argparse.Namespace, console: Console) -> Detector:
    from bevstack.config import load_config, with_overrides
    from bevstack.runtime.detector import build, with_config
    from bevstack.runtime.devices import choose_device
    from bevstack.runtime.loading import load

    device = choose_device(args.device)
    expected = None if args.config is None else load_config(args.config, args.overrides)
    if args.weights is None:
        assert expected is not None  # checked by _check_input
        console.print("note: without --weights, weights are random and boxes have no meaning")
        return build(expected, device, precision=args.precision)
    detector = load(
        args.weights,
        device,
        expected=expected,
        verify=args.verify,
        precision=args.precision,
    )
    if expected is None and args.overrides:
        return with_config(detector, with_overrides(detector.config, args.overrides))
    return detector
