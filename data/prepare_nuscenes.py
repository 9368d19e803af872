"""Preparation of nuScenes: unpack its archives and check that a dataset is ready for use.

Examples:
    python data/prepare_nuscenes.py data/nuscenes --from-archives ~/Downloads
    python data/prepare_nuscenes.py data/nuscenes --version v1.0-mini            # is it complete
    python data/prepare_nuscenes.py data/nuscenes --version v1.0-mini --check    # is it valid

The exit code is 0 if the dataset is ready, 1 if something important is missing or wrong, and 2 if
the archives or the tables cannot be read. After a stop, the same command continues.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from bevstack.datasets.readiness.archives import find_archives, unpack_archives
from bevstack.datasets.readiness.file_checks import check_versions
from bevstack.datasets.readiness.findings import Finding
from bevstack.datasets.readiness.inspection import RootReport, check_root, inspect_root


def main(argv: list[str] | None = None) -> int:
    """Unpack archives and inspect the dataset, as the options require, and print a report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="folder that holds samples/ and the tables")
    parser.add_argument("--version", help="folder of the tables, e.g. v1.0-mini")
    parser.add_argument("--read", action="store_true", help="also decode every image")
    parser.add_argument(
        "--check", action="store_true", help="check every file, pose, calibration and timestamp"
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        help="with --check: JSON of {file: [SHA-256, size]} of the official files "
        "(default: official_sha256_size.json in the root, if it exists)",
    )
    parser.add_argument(
        "--from-archives", type=Path, metavar="DIR", help="first unpack the archives in this folder"
    )
    args = parser.parse_args(argv)
    if not args.version and not args.from_archives:
        parser.error("--version or --from-archives must be given")
    try:
        if args.from_archives:
            unpack_archives(find_archives(args.from_archives), args.root, print)
        if not args.version:
            return show_findings(check_versions(args.root))
        if args.check:
            report = check_root(args.root, args.version, args.manifest)
        else:
            report = inspect_root(args.root, args.version, read_images=args.read)
    except (ValueError, OSError) as error:
        print(f"prepare_nuscenes: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("prepare_nuscenes: stopped; the same command continues from here", file=sys.stderr)
        return 130
    show(report)
    return 0 if report.ready else 1


def show(report: RootReport) -> None:
    """Print the report: counts, splits, findings and the verdict."""
    print(f"{report.scenes} scenes, {report.samples} samples, {report.annotations} annotations")
    print(f"{report.samples_with_images} of {report.samples} samples have all their images")
    for split, scenes in report.splits:
        print(f"split {split}: {scenes} scenes")
    show_findings(report.findings)
    print("ready" if report.ready else "not ready: see above")


def show_findings(findings: Sequence[Finding]) -> int:
    """Print findings; return 1 if one matters, else 0."""
    for finding in findings:
        mark = "MATTERS" if finding.matters else "note"
        print(textwrap.fill(f"{mark}: {finding.sentence}", 100, subsequent_indent="    "))
    return int(any(finding.matters for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
