"""The YOLO reader on real pictures, against their counts and a separate conversion."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bevstack.datasets.traffic import read
from bevstack.vocabulary import TRAFFIC_ELEMENT_ATTRIBUTES
from tests.conftest import shared_dir

# Objects by OpenLane-V2's attribute, as the data's description counts them.
COUNTS = {
    "kr": {"green": 84, "red": 50, "turn_left": 47, "yellow": 5},
    "cinta": {"red": 155, "green": 92, "yellow": 25},
}
CONVENTIONS = {"kr": "lamp", "cinta": "housing"}
# The stored conversion has two decimals, so that it differs by at most 0.005 px.
ROUNDED_PX = 0.005 + 1e-9


@pytest.fixture
def lights_dir() -> Path:
    shared = shared_dir()
    if shared is None or not (shared / "data" / "traffic_lights").is_dir():
        pytest.skip("no real pictures of traffic lights: neither ../shared nor $BEVSTACK_SHARED")
    return shared / "data" / "traffic_lights"


@pytest.mark.oracle("data_traffic_lights")
@pytest.mark.parametrize("name", ["kr", "cinta"])
def test_real_labels_have_the_published_counts_and_the_boxes_of_a_conversion(
    lights_dir: Path, name: str
) -> None:
    convention = CONVENTIONS[name]
    found = read(lights_dir / name, "yolo", box_convention=convention)
    stored = read(
        lights_dir / f"{name}_openlanev2_style.json", "elements", box_convention=convention
    )
    counts = Counter(
        TRAFFIC_ELEMENT_ATTRIBUTES[element.attribute]
        for image in found.images
        for element in image.elements
    )
    assert counts == COUNTS[name] and not found.dropped and not found.mended
    by_path = {image.path: image for image in stored.images}
    assert set(by_path) == {f"{name}/{image.path}" for image in found.images}
    for image in found.images:
        other = by_path[f"{name}/{image.path}"]
        assert other.size == image.size
        assert [(e.category, e.attribute) for e in other.elements] == [
            (e.category, e.attribute) for e in image.elements
        ]
        for first, second in zip(image.elements, other.elements, strict=True):
            assert first.box_px == pytest.approx(second.box_px, rel=0, abs=ROUNDED_PX)
            assert first.box_convention == second.box_convention == convention
