"""The same as `bevstack make-world`: writes a synthetic data set in nuScenes' format.

Example: `python data/make_world.py data/synthetic`
"""

from __future__ import annotations

import sys

from bevstack.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["make-world", *sys.argv[1:]]))
