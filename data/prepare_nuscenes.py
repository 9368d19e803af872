"""Says whether a data set in nuScenes' format is ready for use, and how to mend what is not.

Example: `python data/prepare_nuscenes.py data/nuscenes --version v1.0-mini`.

Ends with exit code 0 if all is there, 1 if something that matters is missing, 2 if the tables
cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bevstack.datasets.inspection import inspect_root


def main(argv: list[str] | None = None) -> int:
    """Prints what a root holds and what it lacks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="the folder that holds samples/ and the tables")
    parser.add_argument("--version", required=True, help="folder of the tables, e.g. v1.0-mini")
    parser.add_argument("--read", action="store_true", help="also decode every image")
    args = parser.parse_args(argv)
    try:
        report = inspect_root(args.root, args.version, read_images=args.read)
    except (ValueError, OSError) as error:
        print(f"prepare_nuscenes: error: {error}", file=sys.stderr)
        return 2
    print(f"{report.scenes} scenes, {report.samples} samples, {report.annotations} annotations")
    print(f"{report.samples_with_images} of {report.samples} samples have all their images")
    for split, scenes in report.splits:
        print(f"split {split}: {scenes} scenes")
    for finding in report.findings:
        print(f"{'MISSING' if finding.matters else 'note'}: {finding.sentence}")
    print("ready" if report.ready else "not ready: see above")
    return 0 if report.ready else 1


if __name__ == "__main__":
    sys.exit(main())
