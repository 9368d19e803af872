"""The command `bevstack show`, which draws a results file on camera images and from above.

python visualize/show.py --results R.json --nuscenes ROOT --version v1.0-mini --out pictures
"""

from __future__ import annotations

import sys

from bevstack.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["show", *sys.argv[1:]]))
