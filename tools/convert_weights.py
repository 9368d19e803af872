"""The command `bevstack convert-weights` as a file that debuggers can start.

Example: `python tools/convert_weights.py --help`
"""

from __future__ import annotations

import sys

from bevstack.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert-weights", *sys.argv[1:]]))
