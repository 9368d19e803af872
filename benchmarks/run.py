"""Measures what is fast or slow here; each part says what it compares with.

python -m benchmarks.run PART --json benchmarks/results/PART.json
python -m benchmarks.run PART --help
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks import attention, data, evaluate, losses, model, ops, threads

PARTS = {
    "attention": attention,
    "data": data,
    "evaluate": evaluate,
    "losses": losses,
    "model": model,
    "ops": ops,
    "threads": threads,
}


def main() -> None:
    """Measures and prints, and writes JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    choices = parser.add_subparsers(dest="part", required=True, metavar="PART")
    for name, part in PARTS.items():
        described = {"help": part.SUMMARY, "description": part.__doc__}
        raw = argparse.RawDescriptionHelpFormatter
        of_part = choices.add_parser(name, formatter_class=raw, **described)
        part.add_arguments(of_part)
        of_part.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    result = PARTS[arguments.part].run(arguments)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
