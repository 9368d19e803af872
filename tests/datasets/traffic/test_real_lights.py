"""Audit of augmented pictures: upside-down and skewed ones, and groups that stay together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from bevstack.datasets.traffic import read
from bevstack.datasets.traffic.real_lights import (
    MAX_SKEW_DEG,
    PictureAudit,
    audit_pictures,
    is_upside_down,
    photo_name,
    skew_deg,
    training_split,
)
from tests.datasets.traffic.test_real_files import lights_dir  # noqa: F401  a fixture

# Photos of `kr` whose picture is upside down, found by looking at all 91.
UPSIDE_DOWN = {
    *("182712484_05", "182712484_22", "182814713_07", "182920383_06", "182920383_09"),
    *("182920383_17", "182920383_21", "183009663_24", "183009663_27", "183009663_29"),
    *("183054598_01", "183054598_05", "183147528", "183337274_09", "183440508_01"),
    *("183440508_03", "200720853_09", "200720853_13", "200907568_02", "200907568_03"),
    *("200907568_05", "200907568_22", "200907568_26"),
}


def street(height: int = 300, width: int = 300) -> np.ndarray:
    """Return a picture with a bright sky above a grey road with texture."""
    draw = np.random.default_rng(3)
    image = np.full((height, width, 3), (140, 180, 230), np.uint8)
    image[height // 2 :] = 90
    return image - draw.integers(0, 40, image.shape, dtype=np.uint8)


def turned(image: np.ndarray, angle_deg: float, shear_deg: float = 0.0) -> np.ndarray:
    """Return a picture rotated about its centre and sheared along x, filled with black."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle_deg, 1.0)
    shear = np.tan(np.radians(shear_deg))
    matrix[0] += shear * matrix[1] - (0, 0, shear * height / 2)
    return cv2.warpAffine(image, matrix, (width, height))


def test_a_picture_is_upside_down_if_its_sky_is_below() -> None:
    image = street()
    assert not is_upside_down(image) and is_upside_down(image[::-1])
    assert not is_upside_down(turned(image, 6)) and is_upside_down(turned(image[::-1], 6))


# A border has 300 px, its lines end on whole pixels: 1 px in 150 is 0.4 degrees.
@pytest.mark.parametrize("angle", [-7.0, -3.0, 0.0, 3.0, 7.0])
def test_the_skew_of_a_rotated_picture_is_its_angle(angle: float) -> None:
    assert skew_deg(turned(street(), angle)) == pytest.approx(abs(angle), abs=0.6)


def test_the_skew_of_a_sheared_picture_is_that_of_its_steepest_side() -> None:
    assert skew_deg(turned(street(), 0.0, 12.0)) == pytest.approx(12.0, abs=0.6)


def test_dark_objects_at_the_border_are_no_wedge() -> None:
    image = street()
    image[200:, :60] = 0
    image[250:, 100:220] = 5
    assert skew_deg(image) == 0.0


def test_the_name_of_a_photo_is_what_stands_before_the_digest() -> None:
    digest = "0123456789abcdef" * 2
    assert photo_name(f"train/images/K_01_jpg.rf.{digest}.jpg") == "K_01"
    assert photo_name(f"a--12-_JPEG.rf.{digest}.jpg") == "a--12-"
    assert photo_name("a/b_jpg.rf.12.jpg") == "b_jpg.rf.12"


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_split_divides_no_group(share: float) -> None:
    sizes = {"a": 4, "b": 3, "c": 2, "d": 1}
    audits = [
        PictureAudit(path=f"{g}{i}", photo=g, group=g, upside_down=False, skew_deg=0.0)
        for g, size in sizes.items()
        for i in range(size)
    ]
    flags = training_split(audits, share)
    parts = [{a.group for a, f in zip(audits, flags, strict=True) if f == side} for side in (0, 1)]
    assert not parts[0] & parts[1]
    assert sum(flags) <= share * 10 + 0.5
    assert training_split(audits[::-1], share) == flags[::-1]


@pytest.fixture
def audits(lights_dir: Path) -> Sequence[PictureAudit]:  # noqa: F811
    images = read(lights_dir / "kr", "yolo", box_convention="lamp").images
    return audit_pictures(lights_dir / "kr", images, streets_by_day=True)


@pytest.mark.oracle("data_traffic_lights")
def test_the_rules_find_the_pictures_that_a_person_finds(audits: Sequence[PictureAudit]) -> None:
    found = {a.photo.removeprefix("KakaoTalk_20240226_") for a in audits if a.upside_down}
    assert found == UPSIDE_DOWN
    train = [audit for audit in audits if audit.path.startswith("train/")]
    valid = [audit for audit in audits if audit.path.startswith("valid/")]
    assert all(audit.usable and audit.skew_deg == 0 for audit in valid)
    assert (len(train), sum(audit.usable for audit in train)) == (66, 42)
    assert sum(audit.skew_deg > MAX_SKEW_DEG for audit in train) == 2
    # One telephone, eleven batches: a place is in one of them.
    assert len({audit.group for audit in audits}) == 11
    flags = training_split(audits, 0.3)
    sides = [{a.group for a, f in zip(audits, flags, strict=True) if f == s} for s in (0, 1)]
    assert not sides[0] & sides[1] and 15 <= sum(flags) <= 27
