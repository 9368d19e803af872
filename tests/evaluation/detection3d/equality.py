"""Comparison of the evaluator with nuscenes-devkit on random cases; also run in subprocesses.

OPENBLAS_CORETYPE=Haswell python -m tests.evaluation.detection3d.equality 0 1000
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable

import numpy as np

from bevstack.evaluation.detection3d.evaluator import evaluate
from tests.evaluation.detection3d.devkit_side import differences, evaluate_by_devkit
from tests.evaluation.detection3d.random_cases import random_case


def compare(seeds: Iterable[int]) -> dict[str, object]:
    """Count the cases that are equal and those that both refuse, and list the differences."""
    counts: dict[str, object] = {"equal": 0, "refused": 0, "different": []}
    for seed in seeds:
        kind, difference = compare_one(seed)
        if difference:
            counts["different"].append(f"seed {seed}: {difference}")
        else:
            counts[kind] += 1
    return counts


def compare_one(seed: int) -> tuple[str, str]:
    """Return "equal" or "refused" for one case, and its differences as text."""
    predictions, truth = random_case(seed)
    devkit_result, refusal = None, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the devkit divides by zero and compares NaN
            devkit_result = evaluate_by_devkit(predictions, truth)
    except Exception as error:  # noqa: BLE001 - the devkit raises AssertionError and Exception
        refusal = repr(error)
    try:
        ours = evaluate(predictions, truth, strict=True)
    except ValueError as error:
        return "refused", "" if devkit_result is None else f"only bevstack refuses: {error}"
    if devkit_result is None:
        return "equal", f"only the devkit refuses: {refusal}"
    different = differences(ours, *devkit_result)
    return "equal", "; ".join(different[:3])


def fuses_multiply_add() -> bool:
    """Return True if BLAS fuses multiplication and addition in the length of a pair."""
    pairs = np.random.default_rng(0).normal(0, 1, (2000, 2))
    plain = np.sqrt(pairs[:, 0] * pairs[:, 0] + pairs[:, 1] * pairs[:, 1])
    return any(np.linalg.norm(pair) != value for pair, value in zip(pairs, plain, strict=True))


if __name__ == "__main__":
    first, last = map(int, sys.argv[1:])
    outcome = compare(range(first, last))
    sys.stdout.write(json.dumps({**outcome, "fused": fuses_multiply_add()}))
