"""Record what the installed package does, as one JSON, and compare two such records.

    python -m tests.record.behaviour --to tests/record/behaviour.json
    python -m tests.record.behaviour --compare tests/record/behaviour.json

A record has two parts. ``everywhere`` must be equal on every machine: state-dict keys,
configurations, exit codes, fingerprints of scenes. ``on_this_machine`` holds digests of
floating-point results, which are equal bit for bit between two trees on one kind of processor with
the same versions of the libraries. ``figures`` are the same results as a few rounded numbers, for
the comparison between two machines.
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
# Two machines differ in the last bits of a convolution, which can exchange two boxes of nearly
# equal score: NDS of ten samples moves by a few thousandths, a loss by less.
FIGURE_TOLERANCE = 0.01

# name of a part: what makes it from a working folder
PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "structure": structure.record,
    "exit_codes": programs.exit_codes,
    "worlds": programs.worlds,
    "demo": programs.demo,
    "predictions": results.predictions,
    "training": results.training,
}


def machine() -> dict[str, str]:
    """Return what the bits of a result depend on: processor and versions of libraries."""
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
    """Return the record of the installed package, made in an empty folder."""
    made: dict[str, Any] = {"machine": machine(), "parts": {}}
    for name in parts:
        part = folder / name
        part.mkdir()
        made["parts"][name] = PARTS[name](part)
    return json.loads(json.dumps(made))  # tuples become lists, as in a file


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return a line for every entry of two records that must be equal and is not."""
    same_machine = found["machine"] == wanted["machine"]
    lines = []
    for name, part in found["parts"].items():
        before = wanted["parts"][name]
        here, there = (structure.as_written_now(p["everywhere"]) for p in (part, before))
        lines += _unequal(f"{name}.everywhere", here, there)
        if same_machine:
            exact = "on_this_machine"
            lines += _unequal(f"{name}.{exact}", part.get(exact), before.get(exact))
        else:
            lines += _unlike(name, part.get("figures", {}), before.get("figures", {}))
    return lines


def _unequal(path: str, found: Any, wanted: Any) -> list[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        lines = []
        for key in sorted(found.keys() | wanted.keys()):
            lines += _unequal(f"{path}.{key}", found.get(key), wanted.get(key))
        return lines
    return [] if found == wanted else [f"{path}: {_short(found)}, was {_short(wanted)}"]


def _unlike(path: str, found: dict[str, float], wanted: dict[str, float]) -> list[str]:
    if found.keys() != wanted.keys():
        return [f"{path}.figures: {sorted(found)}, were {sorted(wanted)}"]
    return [
        f"{path}.figures.{key}: {value}, was {wanted[key]}"
        for key, value in found.items()
        if not math.isclose(value, wanted[key], rel_tol=FIGURE_TOLERANCE, abs_tol=FIGURE_TOLERANCE)
    ]


def _short(value: Any) -> str:
    text = json.dumps(value)
    if len(text) <= 200:
        return text
    return f"{text[:120]}... (SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:12]})"


def main() -> int:
    """Write a record, or compare a new one with a written one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    todo = parser.add_mutually_exclusive_group(required=True)
    todo.add_argument("--to", type=Path, metavar="FILE", help="write the record here")
    todo.add_argument("--compare", type=Path, metavar="FILE", help="compare with this record")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = record(Path(folder), tuple(args.only))
    if args.to is not None:
        args.to.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    wanted = json.loads(args.compare.read_text(encoding="utf-8"))
    lines = differences(made, wanted)
    same = made["machine"] == wanted["machine"]
    print("\n".join(lines) or f"equal ({'bit for bit' if same else 'another machine: figures'})")
    return 1 if lines else 0


if __name__ == "__main__":
    raise SystemExit(main())
