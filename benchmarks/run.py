"""Benchmarks of bevstack; the help of each part names the baseline.

python -m benchmarks.run PART --json benchmarks/results/PART.json
python -m benchmarks.run PART --help
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks import (
    attention,
    data,
    detection2d,
    evaluate,
    exported,
    forward,
    health,
    losses,
    masking,
    model,
    node,
    official,
    ops,
    regions,
    sectors,
    threads,
    tracking,
    traffic,
    uncertainty,
    viewer,
)

PARTS = {
    "attention": attention,
    "data": data,
    "detection2d": detection2d,
    "evaluate": evaluate,
    "exported": exported,
    "forward": forward,
    "health": health,
    "losses": losses,
    "masking": masking,
    "model": model,
    "node": node,
    "official": official,
    "ops": ops,
    "regions": regions,
    "sectors": sectors,
    "threads": threads,
    "tracking": tracking,
    "traffic": traffic,
    "uncertainty": uncertainty,
    "viewer": viewer,
}


def main() -> None:
    """Run one part, which prints its results, and write them as JSON if --json is given."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    choices = parser.add_subparsers(dest="part", required=True, metavar="PART")
    for name, part in PARTS.items():
        texts = {"help": part.SUMMARY, "description": part.__doc__}
        raw = argparse.RawDescriptionHelpFormatter
        subparser = choices.add_parser(name, formatter_class=raw, **texts)
        part.add_arguments(subparser)
        subparser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    result = PARTS[arguments.part].run(arguments)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
