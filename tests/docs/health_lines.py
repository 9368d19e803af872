"""Lines of the pages about camera health that take long, with the tests that run the same."""

from __future__ import annotations

HEALTH = (
    "python -m benchmarks.run health --seed 77 --scenes 180 --pictures drives --json health.json"
)
CORRUPTED = (
    "bevstack evaluate --corruptions all --weights tiny_cpu_t4 --nuscenes world "
    "--version v1.0-synth --split synth_test --as-published {}--out corrupted_{}"
)
HEALTH_LINES = {
    HEALTH: "tests/benchmarks/test_health.py",
    "bevstack make-world world --preset small --train-scenes 0 --val-scenes 6 --test-scenes 0": (
        "tests/cli/test_make_world.py"
    ),
    "python -m benchmarks.run masking --nuscenes world --json masking.json": (
        "tests/benchmarks/test_masking.py"
    ),
    CORRUPTED.format("", "black"): "tests/experiments/corruptions/test_benchmark.py",
    CORRUPTED.format("--health ", "health"): "tests/experiments/corruptions/test_benchmark.py",
}
