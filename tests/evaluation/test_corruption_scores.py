"""Mean corruption error and mean resilience rate, against the published table of RoboBEV."""

from __future__ import annotations

import pytest

from bevstack.evaluation.corruption_scores import corruption_errors, mean_of, resilience_rates

# NDS without corruption, and its mean over the three levels of each corruption.
NAMES = ("crash", "lost", "colours", "motion", "bright", "dark", "fog", "snow")
DETR3D = (0.4224, (0.2859, 0.2604, 0.3177, 0.2661, 0.4002, 0.2786, 0.3912, 0.1913))
BASE = (0.5174, (0.3154, 0.3017, 0.3509, 0.2695, 0.4184, 0.2515, 0.4069, 0.1857))


def levels(means: tuple[float, ...]) -> dict[str, tuple[float, float, float]]:
    """Return three unequal levels with the given means."""
    return {n: (m + 0.05, m - 0.01, m - 0.04) for n, m in zip(NAMES, means, strict=True)}


def test_published_models_have_the_published_means() -> None:
    errors = corruption_errors(levels(BASE[1]), levels(DETR3D[1]))
    # The table gives NDS in four digits and the means in percent with two.
    assert mean_of(errors) == pytest.approx(0.9797, abs=1e-4)
    assert mean_of(resilience_rates(levels(BASE[1]), BASE[0])) == pytest.approx(0.6040, abs=1e-4)
    assert mean_of(resilience_rates(levels(DETR3D[1]), DETR3D[0])) == pytest.approx(
        0.7077, abs=1e-4
    )


def test_reference_has_an_error_of_one_and_levels_weigh_by_their_error() -> None:
    assert set(corruption_errors(levels(BASE[1]), levels(BASE[1])).values()) == {1.0}
    errors = corruption_errors({"fog": [0.5, 0.1]}, {"fog": [0.8, 0.2]})
    assert errors["fog"] == pytest.approx(1.4 / 1.0)


def test_missing_references_and_scores_of_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="reference must hold 2 levels of fog; got 0"):
        corruption_errors({"fog": [0.5, 0.1]}, {"snow": [0.8, 0.2]})
    with pytest.raises(ValueError, match="must be positive for a resilience rate; got 0"):
        resilience_rates({"fog": [0.5]}, 0.0)
    with pytest.raises(ValueError, match="at least one"):
        mean_of({})
