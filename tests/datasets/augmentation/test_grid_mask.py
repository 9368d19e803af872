from __future__ import annotations

import numpy as np
import pytest
import torch

from bevstack.datasets.augmentation.grid_mask import GridMask, draw_grid_mask
from tests.models.bevformer_oracle import read_case


@pytest.mark.oracle("grid_mask")
def test_masks_match_the_published_ones() -> None:
    case = read_case("grid_mask")
    masks = case.outputs["masks"]
    height, width = masks.shape[1:]
    kinds = set()
    for k, wanted in enumerate(masks):
        # the generator the stored masks were drawn from, in its order
        rng = np.random.RandomState(int(case.inputs["seed0"]) + k)
        if rng.rand() > 0.7:
            got = torch.ones(height, width)
            kinds.add("none")
        else:
            period = rng.randint(2, height)
            mask = GridMask(
                period=period, offset_y=rng.randint(period), offset_x=rng.randint(period)
            )
            got = mask.apply(torch.ones(height, width))
            kinds.add("masked")
        assert torch.equal(got, wanted), k
    assert kinds == {"none", "masked"}


def kept_by_loops(mask: GridMask, height: int, width: int) -> np.ndarray:
    """Draw the mask as section 3.5 describes it: zeros on a canvas of ones, cropped, inverted."""
    rows, columns = int(1.5 * height), int(1.5 * width)
    canvas = np.ones((rows, columns))
    length = min(max(int(mask.period / 2 + 0.5), 1), mask.period - 1)
    for i in range(rows // mask.period):
        start = mask.period * i + mask.offset_y
        canvas[start : start + length] = 0
    for i in range(columns // mask.period):
        start = mask.period * i + mask.offset_x
        canvas[:, start : start + length] = 0
    top, left = (rows - height) // 2, (columns - width) // 2
    return canvas[top : top + height, left : left + width] == 0


@pytest.mark.parametrize(
    ("height", "width", "period", "offset_y", "offset_x"),
    [
        (7, 11, 2, 0, 1),
        (8, 13, 3, 2, 0),
        (13, 9, 5, 1, 4),
        (9, 20, 8, 7, 3),
        (12, 31, 11, 10, 10),
        (31, 5, 30, 29, 2),
        (3, 3, 2, 1, 1),
        (5, 4, 50, 3, 1),  # no period fits: everything is blanked
    ],
)
def test_mask_equals_loops_over_stripes(
    height: int, width: int, period: int, offset_y: int, offset_x: int
) -> None:
    mask = GridMask(period=period, offset_y=offset_y, offset_x=offset_x)
    assert np.array_equal(mask.kept((height, width)), kept_by_loops(mask, height, width))


@pytest.mark.parametrize("cameras", [1, 2, 3])
def test_all_cameras_are_blanked_alike_and_the_input_is_unchanged(cameras: int) -> None:
    images = torch.randn(cameras, 3, 9, 14)
    before = images.clone()
    mask = GridMask(period=4, offset_y=1, offset_x=3)
    got = mask.apply(images)
    kept = torch.from_numpy(kept_by_loops(mask, 9, 14))
    assert torch.equal(images, before)
    assert (got[..., ~kept] == 0).all()
    assert torch.equal(got[..., kept], images[..., kept])
    assert 0 < kept.sum() < kept.numel()
    assert mask.blank_(images) is images
    assert torch.equal(images, got)


def test_draws_cover_every_period_and_offset_with_the_right_probability() -> None:
    drawn = [draw_grid_mask(np.random.default_rng((2, n)), (6, 40)) for n in range(1000)]
    masks = [mask for mask in drawn if mask is not None]
    assert 627 < len(masks) < 773  # 700 +- 5 standard deviations of 14.5
    assert {m.period for m in masks} == {2, 3, 4, 5}
    for name in ("offset_y", "offset_x"):
        assert {getattr(m, name) for m in masks if m.period == 5} == {0, 1, 2, 3, 4}
    assert all(draw_grid_mask(np.random.default_rng(n), (9, 9), 0.0) is None for n in range(20))
    first, again = (draw_grid_mask(np.random.default_rng(5), (64, 96), 1.0) for _ in range(2))
    assert first == again


def test_impossible_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="period must be at least 2 pixels; got 1"):
        GridMask(period=1)
    with pytest.raises(ValueError, match=r"offset_x must lie in 0\.\.3; got 4"):
        GridMask(period=4, offset_x=4)
    with pytest.raises(ValueError, match="size must hold at least 3 rows; got 2"):
        draw_grid_mask(np.random.default_rng(0), (2, 50))
