"""The same as `bevstack make-world`: writes a synthetic data set in nuScenes' format.

Examples:
    python data/make_world.py data/synthetic
    python data/make_world.py --profile      # CPU time a sample, written to a temporary folder
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from bevstack.cli.main import main

PROFILE_SCENES = 4
PROFILE_SAMPLES = 40  # a real scene's


def profile() -> int:
    """Measures the CPU time of one sample: scene, pictures, JPEG, sweep, rows; compiled before."""
    from bevstack.synthetic.labels import fixed_rows
    from bevstack.synthetic.recording import record_scene
    from bevstack.synthetic.spec import WorldSpec
    from bevstack.tables.writer import write_tables

    spec = WorldSpec(train_scenes=PROFILE_SCENES + 1, samples_per_scene=PROFILE_SAMPLES)
    names = spec.families["train"]
    with tempfile.TemporaryDirectory() as folder:
        record_scene(spec, names[-1], Path(folder))  # compiles, or loads what was compiled
        started = time.process_time()
        tables = fixed_rows()
        for name in names[:PROFILE_SCENES]:
            for table, rows in record_scene(spec, name, Path(folder)).rows.items():
                tables[table] += rows
        write_tables(Path(folder) / spec.version, tables)
        used = time.process_time() - started
    height, width = spec.image_size
    per_sample = 1e3 * used / (PROFILE_SCENES * PROFILE_SAMPLES)
    print(f"{per_sample:.1f} ms CPU a sample of six {width}x{height} pictures, all included")
    return 0


if __name__ == "__main__":
    sys.exit(profile() if "--profile" in sys.argv else main(["make-world", *sys.argv[1:]]))
