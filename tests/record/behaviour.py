"""Record of the installed package's behaviour as one JSON file, and comparison of two records.

    python -m tests.record.behaviour --to tests/record/behaviour.json
    python -m tests.record.behaviour --compare tests/record/behaviour.json

A record has two parts. ``everywhere`` must be equal on every machine: state-dict keys,
configurations, exit codes, fingerprints of scenes. ``on_this_machine`` holds digests of
floating-point results, which are equal bit for bit between two trees on one kind of processor with
the same versions of the libraries. ``figures`` are a few numbers of the same results, which are
compared with a tolerance if the machines differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numba
import numpy as np
import torch

from bevstack.ops.loading import native_problem
from tests.record import programs, results, structure

PATH = Path(__file__).with_suffix(".json")
# Two machines differ in the last bits of a convolution, which can swap two boxes of nearly equal
# score. This changes the NDS of ten samples by a few thousandths, and a loss by less.
FIGURE_TOLERANCE = 0.01

# Name of a part: function that makes it in a working folder.
PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "structure": structure.record,
    "exit_codes": programs.exit_codes,
    "worlds": programs.worlds,
    "demo": programs.demo,
    "predictions": results.predictions,
    "training": results.training,
}


def machine() -> dict[str, str]:
    """Return the processor and library versions, on which the bits of a result depend."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "numba": numba.__version__,
        "opencv": cv2.__version__,
        "kernels": _kernels(),
    }


def _kernels() -> str:
    return "compiled" if native_problem() is None else "reference"


def record(folder: Path, parts: tuple[str, ...] = tuple(PARTS)) -> dict[str, Any]:
    """Return the record of the installed package; ``folder`` is an empty folder to work in."""
    made: dict[str, Any] = {"machine": machine(), "parts": {}}
    for name in parts:
        part = folder / name
        part.mkdir()
        made["parts"][name] = PARTS[name](part)
    return json.loads(json.dumps(made))  # makes tuples lists, as in a file


def differences(current: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    """Return one line for each entry in which two records differ."""
    same_machine = current["machine"] == recorded["machine"]
    lines = []
    for name, part in current["parts"].items():
        stored = recorded["parts"][name]
        entries, stored_entries = (
            structure.in_present_format(p["everywhere"]) for p in (part, stored)
        )
        lines += _unequal(f"{name}.everywhere", entries, stored_entries)
        if same_machine:
            exact = "on_this_machine"
            lines += _unequal(f"{name}.{exact}", part.get(exact), stored.get(exact))
        else:
            lines += _unequal_figures(name, part.get("figures", {}), stored.get("figures", {}))
    return lines


def _unequal(path: str, current: Any, recorded: Any) -> list[str]:
    if isinstance(current, dict) and isinstance(recorded, dict):
        lines = []
        for key in sorted(current.keys() | recorded.keys()):
            lines += _unequal(f"{path}.{key}", current.get(key), recorded.get(key))
        return lines
    return [] if current == recorded else [f"{path}: {_short(current)}, was {_short(recorded)}"]


def _unequal_figures(path: str, current: dict[str, float], recorded: dict[str, float]) -> list[str]:
    if current.keys() != recorded.keys():
        return [f"{path}.figures: {sorted(current)}, were {sorted(recorded)}"]
    return [
        f"{path}.figures.{key}: {value}, was {recorded[key]}"
        for key, value in current.items()
        if not math.isclose(
            value, recorded[key], rel_tol=FIGURE_TOLERANCE, abs_tol=FIGURE_TOLERANCE
        )
    ]


def _short(value: Any) -> str:
    text = json.dumps(value)
    if len(text) <= 200:
        return text
    return f"{text[:120]}... (SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:12]})"


def main() -> int:
    """Write a record, or compare a new record with a stored one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--to", type=Path, metavar="FILE", help="write the record to this file")
    action.add_argument("--compare", type=Path, metavar="FILE", help="compare with this record")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = record(Path(folder), tuple(args.only))
    if args.to is not None:
        args.to.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    recorded = json.loads(args.compare.read_text(encoding="utf-8"))
    lines = differences(made, recorded)
    same = made["machine"] == recorded["machine"]
    print("\n".join(lines) or f"equal ({'bit for bit' if same else 'figures only: other machine'})")
    return 1 if lines else 0


if __name__ == "__main__":
    raise SystemExit(main())
