"""The command `bevstack predict` as a file that `torchrun` and debuggers can start.

Example: `torchrun --nproc-per-node 2 tools/predict.py --help`
"""

from __future__ import annotations

import sys

from bevstack.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
