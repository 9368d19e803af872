"""The same as `bevstack make-world`: writes a synthetic data set in nuScenes' format.

Examples:
    python data/make_world.py data/synthetic
    python data/make_world.py data/synthetic --preset benchmark
    python data/make_world.py --profile      # CPU time a sample, written to a temporary folder
    python data/make_world.py --check 5      # makes 5 validation scenes of the benchmark and
                                             # compares them with what was frozen
    python data/make_world.py --freeze       # freezes all anew, after a change of the generator
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from bevstack.cli.main import main

FROZEN = Path(__file__).with_name("benchmark_val.json")
PROFILE_SCENES = 4
PROFILE_SAMPLES = 40  # a real scene's


def profile() -> int:
    """Measures the CPU time of one sample: scene, pictures, JPEG, sweep, rows; compiled before."""
    from bevstack.synthetic.recording.labels import fixed_rows
    from bevstack.synthetic.recording.recording import record_scene
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


def freeze() -> int:
    """Writes the fingerprints of the benchmark's validation scenes."""
    from bevstack.synthetic import preset
    from bevstack.synthetic.reproducibility import fingerprint_scene, write_fingerprints

    spec = preset("benchmark")
    scenes = {name: fingerprint_scene(spec, name) for name in spec.families["val"]}
    write_fingerprints(FROZEN, spec, scenes)
    print(FROZEN)
    return 0


def check(count: int) -> int:
    """Compares the first validation scenes of the benchmark, made here, with the frozen ones."""
    from bevstack.synthetic import preset
    from bevstack.synthetic.reproducibility import check_scenes, overall_digest, read_fingerprints

    spec = preset("benchmark")
    _, frozen = read_fingerprints(FROZEN)
    found = check_scenes(spec, frozen, spec.families["val"][:count])
    for name, differences in found.items():
        print(f"{name} differs: {'; '.join(differences)}")
    print(f"{count - len(found)} of {count} scenes agree with {overall_digest(frozen)}")
    return 1 if found else 0


def run(arguments: list[str]) -> int:
    """Chooses what the program does."""
    if "--profile" in arguments:
        return profile()
    if "--freeze" in arguments:
        return freeze()
    if "--check" in arguments:
        return check(int(arguments[arguments.index("--check") + 1]))
    return main(["make-world", *arguments])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
