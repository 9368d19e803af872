"""Print how many lights and signs the front camera sees in each split of a world.

The world must have the traffic of the preset `lights`.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from bevstack.synthetic.traffic_counts import TrafficCounts, count_traffic


def main() -> None:
    """Print a table with one row for each count and one column for each split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="root folder of the world")
    parser.add_argument("--version", default="v1.0-synth", help="folder of the tables")
    args = parser.parse_args()
    counts = count_traffic(args.root, args.version)
    print(f"{'':16}", *(f"{split:>12}" for split in counts))
    for field in fields(TrafficCounts):
        values = (getattr(count, field.name) for count in counts.values())
        print(f"{field.name:16}", *(f"{value:12d}" for value in values))


if __name__ == "__main__":
    main()
