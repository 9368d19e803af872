"""The same as `bevstack train`, as a file that `torchrun` and debuggers can start.

Example: `torchrun --nproc-per-node 2 tools/train.py --help`
"""

from __future__ import annotations

import sys

from bevstack.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
