"""Options of verbs that run an exported model in place of weights."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.runtime.exported import ExportedDetector


def add_model(parser: argparse._ActionsContainer) -> None:
    """Declare ``--model`` and ``--backend``."""
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="file of `bevstack export --onnx`, not --weights"
    )
    parser.add_argument(
        "--backend",
        metavar="NAME",
        help="runtime of --model: onnxruntime (default), openvino, tensorrt or tensorrt-fp16",
    )


def check_model(args: argparse.Namespace, *, left_out: Sequence[str]) -> bool:
    """Check the options of an exported model; return True if there is one.

    Args:
        args: the parsed options.
        left_out: options of this verb that an exported model does not take.

    Raises:
        ModuleNotFoundError: the backend is not installed.
        ValueError: an option does not fit.
    """
    if args.model is None:
        if args.backend not in (None, "torch"):
            raise ValueError(f"--model must be given with --backend {args.backend}; got none")
        return False
    from bevstack.export.runtimes import ON_GPU, ONNXRUNTIME, check_backend

    check_backend(args.backend or ONNXRUNTIME)
    device = "cuda" if args.backend in ON_GPU else "cpu"
    for option in left_out:
        if getattr(args, option):
            raise ValueError(
                f"--{option} must be left out with --model, an exported model; got both"
            )
    if not args.verify:
        raise ValueError("--no-verify must be left out with --model, an exported model; got both")
    if args.precision != "float32" or args.device not in ("auto", device):
        raise ValueError(
            f"--model must be given with --device {device} and without --precision; got "
            f"--precision {args.precision}, --device {args.device}"
        )
    return True


def open_model(args: argparse.Namespace) -> ExportedDetector:
    """Load the exported model in its backend.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not fit the backend.
    """
    from bevstack.export.runtimes import ONNXRUNTIME, open_session
    from bevstack.runtime.exported import ExportedDetector

    return ExportedDetector(open_session(args.model, args.backend or ONNXRUNTIME))
