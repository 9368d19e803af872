"""Copy of the stored reference numbers of the operators, to take to a machine with a GPU.

    python tools/pack_oracles.py                # into build/shared, which git ignores; about 13 MB
    BEVSTACK_SHARED=build/shared python -m pytest tests/ops    # on a GPU; needs torch, numpy, nvcc

The program copies only the files that the operator tests read. They keep their folders
`oracle/internimage` and `oracle/bevformer_v2`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATTERNS = (
    "internimage/README.md",
    "internimage/dcnv[34]_*.json",
    "internimage/dcnv[34]_*.npz",
    "bevformer_v2/msda_core_*.safetensors",
)


def pack(shared: Path, out: Path) -> list[Path]:
    """Copy the operators' cases of ``shared`` to ``out`` and return the copies.

    Raises:
        FileNotFoundError: ``shared`` has no file of one of the patterns.
    """
    copies = []
    for pattern in PATTERNS:
        sources = sorted((shared / "oracle").glob(pattern))
        if not sources:
            raise FileNotFoundError(f"{shared / 'oracle'} must hold {pattern}; got none")
        for source in sources:
            copy = out / source.relative_to(shared)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            copies.append(copy)
    return copies


def main() -> int:
    """Copy the files and print their number and size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ.get("BEVSTACK_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=default, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "shared")
    arguments = parser.parse_args()
    try:
        copies = pack(arguments.shared, arguments.out)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    size = sum(copy.stat().st_size for copy in copies)
    print(f"{len(copies)} files, {size / 1e6:.1f} MB in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
