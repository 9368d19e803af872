"""Judges a trained detector on held-out scenes; `python tools/judge.py --help` explains.

Example: `python tools/judge.py weights/tiny_cpu_t4.safetensors --nuscenes data/synthetic \
    --version v1.0-synth --split synth_test --out out/judge`
"""

from __future__ import annotations

import sys

from bevstack.experiments.judge.judge import main

if __name__ == "__main__":
    sys.exit(main())
