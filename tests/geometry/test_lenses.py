"""Undistortion: a known point returns to the pixel of an ideal pinhole camera."""

import numpy as np
import pytest
import torch

from bevstack.geometry.lenses import Lens

SIZE = (120, 200)  # (H, W)
MATRIX = torch.tensor([[150.0, 0, 97], [0, 155, 62], [0, 0, 1]], dtype=torch.float64)
LENSES = [
    Lens("plumb_bob", (-0.2, 0.05, 0.001, -0.002)),
    Lens("plumb_bob", (-0.2, 0.05, 0.001, -0.002, 0.01)),
    Lens("rational_polynomial", (-0.2, 0.05, 0.001, 0.0, 0.01, 0.02, 0.01, 0.0)),
    Lens("equidistant", (0.02, -0.01, 0.003, 0.0)),
]


def brown_pixel(lens, ray):
    """Return the pixel of a ray (x/z, y/z) by the lens models' formulas."""
    x, y = ray
    k = list(lens.coefficients)
    if lens.model == "equidistant":
        radius = np.hypot(x, y)
        angle = np.arctan(radius)
        powers = [angle**n for n in (3, 5, 7, 9)]
        factor = (angle + np.dot(k, powers)) / radius
        x, y = x * factor, y * factor
    else:
        k += [0.0] * (8 - len(k))
        r2 = x * x + y * y
        radial = (1 + k[0] * r2 + k[1] * r2**2 + k[4] * r2**3) / (
            1 + k[5] * r2 + k[6] * r2**2 + k[7] * r2**3
        )
        dx = 2 * k[2] * x * y + k[3] * (r2 + 2 * x * x)
        dy = k[2] * (r2 + 2 * y * y) + 2 * k[3] * x * y
        x, y = x * radial + dx, y * radial + dy
    m = MATRIX.numpy()
    return m[0, 0] * x + m[0, 2], m[1, 1] * y + m[1, 2]


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: f"{lens.model}{len(lens.coefficients)}")
def test_an_undistorted_spot_lies_where_the_new_intrinsics_project_it(lens):
    for ray in ((0.2, -0.15), (-0.35, 0.1), (0.1, 0.2)):
        u, v = brown_pixel(lens, ray)
        image = np.zeros((*SIZE, 3), np.float32)
        ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
        image += 255 * np.exp(-((xs - u) ** 2 + (ys - v) ** 2) / 8)[..., None]
        undone, matrix = lens.undistort(image.astype(np.uint8), MATRIX, SIZE)
        weights = undone[..., 0].astype(float)
        centroid = (weights * xs).sum() / weights.sum(), (weights * ys).sum() / weights.sum()
        want = matrix.numpy() @ np.array([*ray, 1.0])
        # half a pixel: the spot is spread over a few pixels and resampled
        np.testing.assert_allclose(centroid, want[:2], atol=0.5)


def test_no_distortion_changes_nothing():
    image = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    same, matrix = Lens("plumb_bob", (0.0,) * 5).undistort(image, MATRIX, SIZE)
    assert np.array_equal(same, image)
    assert torch.equal(matrix, MATRIX)


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: f"{lens.model}{len(lens.coefficients)}")
@pytest.mark.parametrize("reduction", [2, 4])
def test_a_reduced_image_is_undistorted_as_the_full_one_is(lens, reduction):
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
    smooth = 127 + 60 * np.sin(xs / 17) + 60 * np.cos(ys / 13)
    image = np.repeat(smooth[..., None], 3, -1).astype(np.uint8)

    def shrink(pixels):
        blocks = pixels.reshape(SIZE[0] // reduction, reduction, SIZE[1] // reduction, reduction, 3)
        return blocks.mean((1, 3))

    full, full_matrix = lens.undistort(image, MATRIX, SIZE)
    small = np.round(shrink(image)).astype(np.uint8)
    found, matrix = lens.undistort(small, MATRIX, SIZE, reduction)
    scale = torch.tensor([reduction, reduction, 1.0], dtype=torch.float64)
    assert torch.equal(matrix * scale[:, None], full_matrix)
    # levels; a shift by half a small pixel would change the inner part by up to 14
    inner = np.s_[4:-4, 4:-4]
    assert np.abs(found[inner] - shrink(full)[inner]).max() < 5


def test_the_size_of_a_fisheye_image_must_be_known():
    with pytest.raises(ValueError, match=r"width and height must be known .*; got 0x120"):
        LENSES[3].undistort(None, MATRIX, (120, 0))


def test_an_undistorted_fisheye_image_has_no_empty_pixels():
    image = np.full((*SIZE, 3), 200, np.uint8)
    undone, _ = LENSES[3].undistort(image, MATRIX, SIZE)
    assert (undone > 0).all()


def test_a_lost_camera_still_gets_new_intrinsics():
    image, matrix = LENSES[3].undistort(None, MATRIX, SIZE)
    assert image is None
    assert not torch.equal(matrix, MATRIX)


@pytest.mark.parametrize(
    ("model", "coefficients", "message"),
    [
        ("omnidirectional", (0.0,) * 4, "lens model must be one of plumb_bob"),
        ("plumb_bob", (0.0,) * 3, "plumb_bob must have 4 or 5 coefficients; got 3"),
        ("equidistant", (0.0, 0.0, 0.0, float("nan")), "coefficients must be finite"),
    ],
)
def test_an_unknown_lens_is_refused(model, coefficients, message):
    with pytest.raises(ValueError, match=message):
        Lens(model, coefficients)
