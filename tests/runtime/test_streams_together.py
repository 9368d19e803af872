"""Streams stepped together: boxes of equal score keep the order of single streams."""

import pytest
import torch

from bevstack.runtime.detector import build
from bevstack.runtime.streaming import step_together
from tests.runtime.test_streaming import temporal
from tests.small_world import dataset, small_world


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Return frames of two scenes."""
    data = dataset(small_world(tmp_path_factory), "synth_val")
    return [data.frame(index) for index in (0, 3, 1)]


def test_boxes_of_equal_score_keep_their_order_in_streams_stepped_together(frames):
    tied = build(temporal())
    last = tied.model.decoder.head.class_branches[-1][-1]
    with torch.no_grad():
        last.weight.zero_()  # all queries of a class have equal scores, and several classes too
        last.bias.copy_(torch.arange(10) % 3 - 2.0)
    alone = [tied.stream().step(frame) for frame in frames]
    for at_once in (None, True):
        together = step_together([tied.stream() for _ in frames], frames, at_once=at_once)
        for got, wanted in zip(together, alone, strict=True):
            assert len(wanted) > 100 and len(wanted.scores.unique()) <= 3
            assert torch.equal(got.scores, wanted.scores)
            assert torch.equal(got.labels, wanted.labels)
            # In a batch, the same numbers are summed in another order.
            centers, tolerance = (got.boxes.center, wanted.boxes.center), 1e-3 if at_once else 0
            torch.testing.assert_close(*centers, rtol=0, atol=tolerance)
