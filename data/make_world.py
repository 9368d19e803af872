"""The command `bevstack make-world`, which writes a synthetic dataset in nuScenes' format.

Examples:
    python data/make_world.py data/synthetic
    python data/make_world.py data/synthetic --preset benchmark
    python data/make_world.py --profile      # measure the CPU time of a sample
    python data/make_world.py --check 5      # make 5 validation scenes of the benchmark and
                                             # compare them with the stored fingerprints
    python data/make_world.py --freeze       # store the fingerprints again, after a change of
                                             # the generator
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from bevstack.cli.main import main

FROZEN = Path(__file__).with_name("benchmark_val.json")
PROFILE_SCENES = 4
PROFILE_SAMPLES = 40  # of a scene, like in nuScenes


def profile() -> int:
    """Measure the CPU time of a sample: scene, pictures, JPEG, sweep and rows, without compiling.

    The files go to a temporary folder.
    """
    from bevstack.synthetic.recording.labels import fixed_rows
    from bevstack.synthetic.recording.recording import record_scene
    from bevstack.synthetic.spec import WorldSpec
    from bevstack.tables.writer import write_tables

    spec = WorldSpec(train_scenes=PROFILE_SCENES + 1, samples_per_scene=PROFILE_SAMPLES)
    names = spec.split_scenes["train"]
    with tempfile.TemporaryDirectory() as folder:
        record_scene(spec, names[-1], Path(folder))  # compiles, or loads the compiled functions
        started = time.process_time()
        tables = fixed_rows()
        for name in names[:PROFILE_SCENES]:
            for table, rows in record_scene(spec, name, Path(folder)).rows.items():
                tables[table] += rows
        write_tables(Path(folder) / spec.version, tables)
        used = time.process_time() - started
    height, width = spec.image_size
    per_sample = 1e3 * used / (PROFILE_SCENES * PROFILE_SAMPLES)
    print(f"{per_sample:.1f} ms of CPU time for a sample of six {width}x{height} pictures")
    return 0


def freeze() -> int:
    """Write the fingerprints of the benchmark's validation scenes."""
    from bevstack.synthetic import preset
    from bevstack.synthetic.reproducibility import fingerprint_scene, write_fingerprints

    spec = preset("benchmark")
    scenes = {name: fingerprint_scene(spec, name) for name in spec.split_scenes["val"]}
    write_fingerprints(FROZEN, spec, scenes)
    print(FROZEN)
    return 0


def check(count: int) -> int:
    """Make the first validation scenes of the benchmark and compare their fingerprints."""
    from bevstack.synthetic import preset
    from bevstack.synthetic.reproducibility import check_scenes, overall_digest, read_fingerprints

    spec = preset("benchmark")
    _, frozen = read_fingerprints(FROZEN)
    differing = check_scenes(spec, frozen, spec.split_scenes["val"][:count])
    for name, differences in differing.items():
        print(f"{name} differs: {'; '.join(differences)}")
    print(f"{count - len(differing)} of {count} scenes agree with {overall_digest(frozen)}")
    return 1 if differing else 0


def run(arguments: list[str]) -> int:
    """Run the task of the given option, or the command make-world."""
    if "--profile" in arguments:
        return profile()
    if "--freeze" in arguments:
        return freeze()
    if "--check" in arguments:
        return check(int(arguments[arguments.index("--check") + 1]))
    return main(["make-world", *arguments])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
