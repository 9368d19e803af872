"""Average of models that were fine-tuned from the same weights (arXiv 2203.05482).

Example:
    python tools/average_weights.py out/first/model.safetensors out/second/model.safetensors \
        --out out/model.safetensors
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bevstack.training.model_soup import average_models


def main(arguments: list[str] | None = None) -> int:
    """Write the average model and print the path of the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", type=Path, nargs="+", metavar="MODEL", help="two or more models")
    parser.add_argument(
        "--out", "--to", type=Path, required=True, metavar="FILE", help="file to write"
    )
    args = parser.parse_args(arguments)
    try:
        average_models(args.sources, args.out)
    except (OSError, ValueError) as error:
        print(f"average_weights: error: {error}", file=sys.stderr)
        return 2
    print(f"{args.out}: the mean of {len(args.sources)} models")
    return 0


if __name__ == "__main__":
    sys.exit(main())
