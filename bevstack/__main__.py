"""Entry point of ``python -m bevstack`` and ``torchrun -m bevstack train``."""

import sys

from bevstack.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
