"""The command `bevstack train` as a file that debuggers can start.

Example: `python tools/train.py --help`
"""

from __future__ import annotations

import sys

from bevstack.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
