"""Calibration of probabilities: one temperature a factor, fitted on held-out elements.

Temperature scaling is that of Guo et al. (arXiv 1706.04599, section 4.2); scores also have an
offset, as focal losses shift them (Platt scaling). Letters: R regions, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.types.traffic_batch import BOX_KINDS

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
    labels: Tensor,  # (R,) int64
) -> float:
    """Return the temperature of the highest likelihood; 1 without labels."""
    if not len(labels):
        return 1.0
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=_STEPS, line_search_fn="strong_wolfe")
    values = logits.detach().double()

    def closure() -> Tensor:
        optimizer.zero_grad()
        scaled = values / log_temperature.exp()
        if values.dim() == 2:
            loss = functional.cross_entropy(scaled, labels)
        else:
            loss = functional.binary_cross_entropy_with_logits(scaled, labels.double())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    fitted = float(log_temperature.detach().exp())
    return min(max(fitted, _WEAKEST_TEMPERATURE), _STRONGEST_TEMPERATURE)


def fit_platt(
    logits: Tensor,  # (R,)
    labels: Tensor,  # (R,) bool
) -> tuple[float, float]:
    """Return scale and offset of the highest likelihood; (1, 0) unless both labels occur."""
    if not bool(labels.any()) or bool(labels.all()):
        return 1.0, 0.0
    parameters = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=_STEPS, line_search_fn="strong_wolfe")
    values, wanted = logits.detach().double(), labels.double()

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
