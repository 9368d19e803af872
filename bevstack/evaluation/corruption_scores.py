"""Robustness to corruptions: mean corruption error (mCE) and mean resilience rate (mRR).

RoboBEV, arXiv 2304.06719, section 3.3, after Hendrycks and Dietterich, arXiv 1903.12261, section 4.
The published reference of mCE is DETR3D on nuScenes; any model on the same samples can be one.
Published tables give both in percent; here they are shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Scores = Mapping[str, Sequence[float]]  # NDS of each level, by corruption


def corruption_errors(scores: Scores, reference: Scores) -> dict[str, float]:
    """Return the corruption error (CE) of each corruption.

    CE = sum over levels of (1 - NDS) / sum over levels of (1 - NDS of the reference). The reference
    itself has 1; smaller is better.

    Raises:
        ValueError: the reference lacks a corruption, or has another number of levels.
    """
    errors = {}
    for name, levels in scores.items():
        if name not in reference or len(reference[name]) != len(levels):
            raise ValueError(
                f"reference must hold {len(levels)} levels of {name}; got "
                f"{len(reference.get(name, ()))}"
            )
        errors[name] = sum(1 - nds for nds in levels) / sum(1 - nds for nds in reference[name])
    return errors


def resilience_rates(scores: Scores, clean: float) -> dict[str, float]:
    """Return the resilience rate (RR) of each corruption; larger is better.

    RR = sum over levels of NDS / (number of levels * NDS without corruption).

    Raises:
        ValueError: NDS without corruption is 0, so that the rate is not defined.
    """
    if clean <= 0:
        raise ValueError(
            f"NDS without corruption must be positive for a resilience rate; got {clean}"
        )
    return {name: sum(levels) / (len(levels) * clean) for name, levels in scores.items()}


def mean_of(values: Mapping[str, float]) -> float:
    """Return the mean over the corruptions: mCE of errors, mRR of rates.

    Raises:
        ValueError: there is no corruption.
    """
    if not values:
        raise ValueError("corruptions must be at least one for a mean; got none")
    return sum(values.values()) / len(values)
