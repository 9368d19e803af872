"""The part of ``bevstack export`` that quantises exported models to INT8."""

from __future__ import annotations

import argparse
from pathlib import Path

CALIBRATION_FRAMES = 20
CHECKED_FRAMES = 6
CHECKED_SHARE = 4  # every fourth scene is for the check alone


def add_int8_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the arguments of a quantisation."""
    group.add_argument(
        "--int8",
        type=Path,
        metavar="FILE",
        help="write the exported --model in INT8, with ranges from frames of --split",
    )
    group.add_argument("--model", type=Path, metavar="FILE", help="exported model for --int8")
    group.add_argument("--split", metavar="SPLIT", help="scenes for --int8, e.g. synth_train")
    group.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help=f"frames that show the ranges (default: {CALIBRATION_FRAMES})",
    )


def check_int8(args: argparse.Namespace) -> None:
    """Check the options of a quantisation.

    Raises:
        ValueError: one is missing, or one does not fit.
    """
    for option in ("model", "nuscenes", "version", "split"):
        if getattr(args, option) is None:
            raise ValueError(f"--{option} must be given with --int8; got none")
    for option in (
        "weights",
        "stream",
        "opset",
        "cameras",
        "custom_ops",
        "config",
        "classifier",
        "size",
        "batch",
    ):
        if getattr(args, option):
            raise ValueError(f"--{option.replace('_', '-')} must be given with --onnx; got --int8")
    if args.int8 == args.model:
        raise ValueError(f"--int8 must name a file other than --model; got {args.int8}")
    if args.frames is not None and args.frames < 1:
        raise ValueError(f"--frames must be at least 1; got {args.frames}")


def run_int8(args: argparse.Namespace) -> int:
    """Quantise a model and print its report.

    Raises:
        FileNotFoundError: the model or the data set does not exist.
        OSError: a file cannot be written.
        ValueError: a split of too few scenes, or boxes that differ too much.
    """
    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.export.onnx.quantize import quantise
    from bevstack.export.onnx.recorded_inputs import recorded_inputs
    from bevstack.export.runtimes import ONNXRUNTIME, open_session
    from bevstack.runtime.predict import check_writable
    from bevstack.tables.reader import Tables
    from bevstack.tables.splits import scenes_of_split

    check_writable(args.int8)
    backend = args.backend or ONNXRUNTIME
    session = open_session(args.model, backend)
    config = session.info.config
    tables = Tables(args.nuscenes, args.version, allow_outside=args.allow_outside)
    dataset = NuScenesDataset(tables, bev_frame=config.grid.frame, class_names=config.class_names)
    scenes = list(scenes_of_split(tables, args.split))
    checked = scenes[::CHECKED_SHARE]
    shown = [scene for scene in scenes if scene not in set(checked)]
    if not shown:
        raise ValueError(
            f"--split must hold at least two scenes, one of them for the check; got {len(scenes)}"
        )
    report = quantise(
        args.model,
        args.int8,
        calibration=recorded_inputs(session, dataset, shown, args.frames or CALIBRATION_FRAMES),
        checks=recorded_inputs(session, dataset, checked, CHECKED_FRAMES),
        backend=backend,
    )
    size = args.int8.stat().st_size / 1e6
    print(f"{args.int8}: {size:.1f} MB, {report.layers} layers in eight bits")
    for name, drift in sorted(report.groups.items(), key=lambda item: -item[1]):
        print(f"  {drift:6.3f}  {name}{'  (stays float32)' if name in report.kept else ''}")
    print(f"drift of boxes {report.drift:.3f} in {report.backend}")
    print(f"report: {args.int8.name}.check.json beside it")
    return 0
