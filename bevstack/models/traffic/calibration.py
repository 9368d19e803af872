"""Calibration of probabilities: one temperature a factor, fitted on held-out elements.

Temperature scaling is that of Guo et al. (arXiv 1706.04599, section 4.2); scores also have an
offset, as focal losses shift them (Platt scaling). Letters: R regions, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.types.traffic_batch import BOX_KINDS, HIDDEN

FACTORS = ("color", "shape", "pedestrian", "meaning", "relevance")
_STEPS = 60
_WEAKEST_TEMPERATURE, _STRONGEST_TEMPERATURE = 0.2, 5.0


class Calibration(nn.Module):
    """Buffers that turn logits into calibrated probabilities; neutral until they are fitted."""

    def __init__(self) -> None:
        super().__init__()
        self.score_scale: Tensor
        self.score_offset: Tensor
        self.temperature: Tensor
        self.register_buffer("score_scale", torch.ones(len(BOX_KINDS)))
        self.register_buffer("score_offset", torch.zeros(len(BOX_KINDS)))
        self.register_buffer("temperature", torch.ones(len(FACTORS)))

    def score(
        self,
        logits: Tensor,  # (R,)
        kind: Tensor,  # (R,) of BOX_KINDS
    ) -> Tensor:  # (R,)
        """Return the probability that a region is an element of its kind."""
        return (logits * self.score_scale[kind] + self.score_offset[kind]).sigmoid()

    def scaled(self, factor: str, logits: Tensor) -> Tensor:
        """Return the logits of a factor divided by its temperature."""
        return logits / self.temperature[FACTORS.index(factor)]


def fit_temperature(
    logits: Tensor,  # (R, K), or (R,) of a yes-or-no factor
    labels: Tensor,  # (R,) int64, a class or HIDDEN
) -> float:
    """Return the temperature of the highest likelihood in [0.2, 5]; 1 without labels.

    The negative log-likelihood is convex in the inverse temperature, which is found by bisection.
    """
    if not len(labels):
        return 1.0
    values = logits.detach().double()
    low, high = 1 / _STRONGEST_TEMPERATURE, 1 / _WEAKEST_TEMPERATURE
    for _ in range(_STEPS):
        middle = torch.tensor((low + high) / 2, dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(negative_log_likelihood(values * middle, labels), middle)
        if float(slope) < 0:
            low = float(middle.detach())
        else:
            high = float(middle.detach())
    return 2 / (low + high)


def negative_log_likelihood(
    logits: Tensor,  # (R, K), or (R,) of a yes-or-no factor
    labels: Tensor,  # (R,) int64
) -> Tensor:  # ()
    """Return the mean over the elements; every class of a hidden label has an equal share."""
    if logits.dim() == 2:
        hidden = labels == HIDDEN
        known = functional.cross_entropy(logits[~hidden], labels[~hidden], reduction="sum")
        return (known - logits[hidden].log_softmax(1).mean(1).sum()) / len(labels)
    return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


def fit_platt(
    logits: Tensor,  # (R,)
    labels: Tensor,  # (R,) bool
) -> tuple[float, float]:
    """Return scale and offset of the highest likelihood; (1, 0) unless both labels occur.

    Labels are smoothed as in Platt's "Probabilistic Outputs for Support Vector Machines" (1999),
    section 2.2: otherwise the scale of separable scores would be infinite.
    """
    if not bool(labels.any()) or bool(labels.all()):
        return 1.0, 0.0
    parameters = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=_STEPS, line_search_fn="strong_wolfe")
    values, count = logits.detach().double(), labels.sum().double()
    high, low = (count + 1) / (count + 2), 1 / (len(labels) - count + 2)
    wanted = torch.where(labels, high, low)

    def closure() -> Tensor:
        optimizer.zero_grad()
        scaled = values * parameters[0] + parameters[1]
        loss = functional.binary_cross_entropy_with_logits(scaled, wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    scale, offset = parameters.detach().tolist()
    return float(scale), float(offset)


@torch.no_grad()
def calibrate(
    calibration: Calibration,
    scores: Mapping[int, tuple[Tensor, Tensor]],  # by kind: logits (R,) and labels (R,) bool
    factors: Mapping[str, tuple[Tensor, Tensor]],  # by name of FACTORS: logits and labels
) -> None:
    """Fit the buffers of a model to predictions on held-out samples; missing ones stay."""
    for kind, (logits, labels) in scores.items():
        scale, offset = fit_platt(logits, labels)
        if scale > 0:
            calibration.score_scale[kind], calibration.score_offset[kind] = scale, offset
    for name, (logits, labels) in factors.items():
        calibration.temperature[FACTORS.index(name)] = fit_temperature(logits, labels)
