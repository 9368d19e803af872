"""The command `bevstack evaluate` as a file that debuggers can start.

Example: `python tools/evaluate.py --help`
"""

from __future__ import annotations

import sys

from bevstack.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
