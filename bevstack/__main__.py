"""``python -m bevstack``, and what ``torchrun -m bevstack train`` starts."""

import sys

from bevstack.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
