"""Measure the speed and memory of bevstack on this machine.

  bevstack benchmark --quick                  # about a minute
  bevstack benchmark --json speed.json        # a quarter of an hour; continues if interrupted
  bevstack benchmark --model tiny.onnx        # also exported files, in every installed runtime

Operators run as our kernel and as GridSample in torch, the form of the published code without
compiled operators. Backbones run on one image with the classification head, detectors on one frame
of six cameras with the memory of a drive; weights are random. Each row is measured in a process of
its own: "first" is the first run there, "later" the median of the runs that follow, both by the
clock; "processor" is the processor time of a later run, all threads together, which other programs
on the machine disturb less.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.options import add_device
from bevstack.cli.tables import print_table

if TYPE_CHECKING:
    from bevstack.experiments.benchmark.report import Row

SECONDS = 10.0
QUICK_SECONDS = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack benchmark``."""
    parser.add_argument("--quick", action="store_true", help="small models only, fewer runs")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=("operator", "backbone", "detector", "exported"),
        metavar="KIND",
        help="measure these kinds alone: operator, backbone, detector, exported",
    )
    parser.add_argument(
        "--name", nargs="+", metavar="NAME", help="measure these alone, e.g. internimage_t"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        metavar="NAME",
        help="precisions of backbones and detectors (default: float32, and bfloat16 where the "
        "device computes it in hardware)",
    )
    parser.add_argument(
        "--threads", nargs="+", type=int, metavar="N", help="numbers of threads (default: 1)"
    )
    parser.add_argument(
        "--model",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="files of `bevstack export --onnx`",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="also write the figures to this file, after every row",
    )
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="measure nothing: print the figures of a JSON file as Markdown",
    )
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, and return 1 if a row failed.

    Raises:
        FileNotFoundError: a model file does not exist.
        ModuleNotFoundError: no runtime of exported models is installed.
        OSError: the JSON file cannot be written.
        ValueError: an unknown name or precision, or a JSON file of another machine or kind.
    """
    import torch

    from bevstack.experiments.benchmark.cases import standard_cases
    from bevstack.experiments.benchmark.report import (
        markdown_lines,
        part_lines,
        read_benchmark,
        run_cases,
        table_lines,
    )
    from bevstack.runtime.devices import choose_device
    from bevstack.runtime.precision import AUTO, FLOAT32, choose_precision
    from bevstack.training.progress_bar import make_console

    console = make_console()
    if args.markdown is not None:
        for line in markdown_lines(read_benchmark(args.markdown)):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return 0
    device = torch.device(choose_device(args.device))
    wanted = args.precision or (FLOAT32, AUTO)
    precisions = list(dict.fromkeys(choose_precision(name, device) for name in wanted))
    threads = args.threads or [1]
    _check(args, threads)
    cases = standard_cases(
        quick=args.quick,
        precisions=precisions,
        threads=threads,
        exported=_exported(args),
    )
    known = sorted({case.name for case in cases})
    for name in args.name or ():
        if name not in known:
            raise ValueError(f"--name must be one of {', '.join(known)}; got {name}")
    cases = [
        case
        for case in cases
        if (not args.only or case.kind in args.only) and (not args.name or case.name in args.name)
    ]
    if not cases:
        raise ValueError("at least one row must be left to measure; got none: change --only")

    def report(row: Row) -> None:
        console.print("  ".join(table_lines([row])[1]), markup=False, highlight=False)

    rows = run_cases(
        cases,
        device=device,
        seconds=QUICK_SECONDS if args.quick else SECONDS,
        path=args.json,
        report=report,
    )
    titles, *lines = table_lines(rows)
    print_table(console, titles, lines, text_columns=2)
    for line in part_lines(rows):
        console.print(line, markup=False, highlight=False)
    return int(any("failure" in row for row in rows))


def _exported(args: argparse.Namespace) -> list[tuple[Path, str]]:
    """Return the exported files, each with every runtime that can run it here."""
    from bevstack.export.onnx.graph_info import has_custom_ops
    from bevstack.export.runtimes import ONNXRUNTIME, check_backend, checking_backends

    found = []
    for path in args.model:
        backends = checking_backends(custom_ops=has_custom_ops(path))
        if not backends:
            check_backend(ONNXRUNTIME)  # names what to install
        found += [(path, backend) for backend in backends]
    return found


def _check(args: argparse.Namespace, threads: list[int]) -> None:
    cores = os.cpu_count() or 1
    for count in threads:
        if not 1 <= count <= cores:
            raise ValueError(f"--threads must be 1 to {cores}, the cores here; got {count}")
    for path in args.model:
        if not path.is_file():
            raise FileNotFoundError(f"no model file {path}: check the path")
    if args.only and "exported" in args.only and not args.model:
        raise ValueError("--model must be given with --only exported; got none")
