"""Trains variants of a detector on equal budgets and compares them; `--help` explains.

Example: `python tools/study.py --config tiny_cpu_t4 --nuscenes data/synthetic \
    --version v1.0-synth --split synth_train --held-out synth_test --out out/study`
"""

from __future__ import annotations

import sys

from bevstack.experiments.study.study import main

if __name__ == "__main__":
    sys.exit(main())
