"""Running a model with bounds of its sizes that are learned from the frames."""

from __future__ import annotations

from bevstack.models.bevformer import BEVFormerOutput, BEVFormerV2
from bevstack.models.layers.sizes import NO_BOUNDS, Bounds
from bevstack.types import Batch, BEVMemory


class BoundedModel:
    """Model whose forward pass does not wait for the device, except to learn its bounds.

    The first frame runs without bounds, which measures its counts. If a later frame exceeds the
    bounds, it runs a second time without them, and the bounds grow. So every output is complete.

    Args:
        model: the model, in evaluation mode.
    """

    def __init__(self, model: BEVFormerV2) -> None:
        self.model = model
        self.bounds: Bounds | None = None  # None before the first frame

    def __call__(self, batch: Batch, memory: BEVMemory | None = None) -> BEVFormerOutput:
        """Run the model like its ``forward``."""
        if self.bounds is not None:
            output: BEVFormerOutput = self.model(batch, memory, bounds=self.bounds)
            if self.bounds.holds(_counts(output)):
                return output
        exact: BEVFormerOutput = self.model(batch, memory)
        self.bounds = (self.bounds or NO_BOUNDS).widened(_counts(exact))
        return exact


def _counts(output: BEVFormerOutput) -> Bounds:
    assert output.counts is not None  # set by forward
    return Bounds(*output.counts.tolist())
