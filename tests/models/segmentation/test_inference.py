"""Labels of large pictures: the same from strips of rows as from whole maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bevstack.models.segmentation import inference
from bevstack.models.segmentation.heads import resize_map
from bevstack.models.segmentation.inference import (
    View,
    label_probabilities,
    label_views,
    resize_rows,
)


@pytest.mark.parametrize("size", [(13, 5), (4, 30), (7, 9), (1, 3)])
@pytest.mark.parametrize("step", [1, 3, 100])
def test_rows_equal_those_of_the_whole_map(size: tuple[int, int], step: int) -> None:
    maps = torch.randn(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    wanted = resize_map(maps, size)
    for start in range(0, size[0], step):
        rows = range(start, min(start + step, size[0]))
        got = resize_rows(maps, size, rows)
        torch.testing.assert_close(got, wanted[:, :, rows.start : rows.stop], rtol=0, atol=1e-5)


def predict(images: Tensor) -> Tensor:
    """Return five outputs that depend on colour and place."""
    ramp = torch.linspace(-1, 1, images.shape[-1]).expand(len(images), 1, *images.shape[-2:])
    return torch.cat((2 * images, ramp, -ramp), 1)


@pytest.mark.parametrize("chosen", [None, 0, 1])
def test_labels_are_those_of_the_best_probability(
    chosen: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.randn(2, 3, 20, 31, generator=torch.Generator().manual_seed(1))
    several = [View(images), View(images, mirrored=True), View(resize_map(images, (30, 40)))]
    views = several if chosen is None else [several[chosen]]
    wanted = label_probabilities(predict, views, (57, 43))
    monkeypatch.setattr(inference, "_STRIP_VALUES", 2 * 5 * 43 * 4)  # four rows at a time
    got = label_views(predict, views, (57, 43))
    assert got.dtype == torch.uint8 and got.shape == (2, 57, 43)
    best = wanted.gather(1, got[:, None].long())[:, 0]
    # Rounding may choose another label only where two are equally probable
    torch.testing.assert_close(best, wanted.amax(1), rtol=0, atol=1e-6)
    assert (got == wanted.argmax(1)).float().mean() > 0.999
    with pytest.raises(ValueError, match="at least one view"):
        label_views(predict, [], (5, 5))
