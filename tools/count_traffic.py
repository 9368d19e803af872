"""Print how many lights and signs the front camera sees in each split of a world.

python tools/count_traffic.py ROOT [VERSION]

The world must have the traffic of the preset `lights`.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

from bevstack.synthetic.traffic_counts import TrafficCounts, count_traffic


def main() -> None:
    """Print a table with one row a count and one column a split."""
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    counts = count_traffic(Path(sys.argv[1]), (*sys.argv[2:], "v1.0-synth")[0])
    print(f"{'':16}", *(f"{split:>12}" for split in counts))
    for field in fields(TrafficCounts):
        values = (getattr(count, field.name) for count in counts.values())
        print(f"{field.name:16}", *(f"{value:12d}" for value in values))


if __name__ == "__main__":
    main()
