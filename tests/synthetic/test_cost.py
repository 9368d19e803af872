"""Processor time of a sample."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from bevstack.synthetic import WorldSpec
from bevstack.synthetic.recording.recording import record_scene

_LIMIT_MS = 120.0


@pytest.mark.slow
def test_a_sample_costs_at_most_120_ms_of_processor_time(tmp_path: Path):
    """Draw, render, encode and write scenes of nuScenes' length at 400x225."""
    spec = WorldSpec(train_scenes=7, samples_per_scene=40, image_size=(225, 400))
    *names, first = spec.split_scenes["train"]
    record_scene(spec, first, tmp_path)  # compiles, or loads from the cache
    costs = []
    for name in names:
        started = time.process_time()
        record_scene(spec, name, tmp_path)
        costs.append(1e3 * (time.process_time() - started) / spec.samples_per_scene)
    assert np.median(costs) < _LIMIT_MS, np.round(costs, 1)
