"""Says what is installed, which kernels run, what is missing and how to mend it.

With --config it counts a detector's parameters and operations instead, with --model a backbone's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json

EXIT_BROKEN = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack doctor``."""
    parser.add_argument(
        "--config", metavar="NAME", help="count this configuration's detector, part by part"
    )
    parser.add_argument("--model", metavar="NAME", help="count this backbone: internimage_t to _g")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="image size for --model, px (default: the one the paper counts at)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the report; returns 1 where something that everything needs is missing."""
    if args.config is not None:
        from bevstack.costs.detector import count_config

        detector = count_config(args.config)
        _show(detector, detector.lines(), args.json)
        return 0
    if args.model is not None:
        from bevstack.costs.backbone import count_model

        counts = count_model(args.model, tuple(args.size) if args.size else None)
        _show(counts, counts.lines(), args.json)
        return 0
    from bevstack.cli.diagnosis import diagnose

    diagnosis = diagnose()
    _show(diagnosis, diagnosis.lines(), args.json)
    return EXIT_BROKEN if diagnosis.broken else 0


def _show(report: object, lines: list[str], as_json: bool) -> None:
    assert dataclasses.is_dataclass(report) and not isinstance(report, type)
    text = json.dumps(dataclasses.asdict(report), indent=2) if as_json else "\n".join(lines)
    print(text)
