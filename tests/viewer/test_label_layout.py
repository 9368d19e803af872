"""Layout of texts: none over another one, none over a box where there is room beside it."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.render import Canvas
from bevstack.viewer.drawn import draw
from bevstack.viewer.label_layout import Place, anchors, box_obstacles, lay_out
from bevstack.viewer.opencv_view import OpenCVRenderer
from bevstack.viewer.pinhole import Pinhole
from bevstack.viewer.primitives import Drawing, Text
from bevstack.viewer.view_state import Eye
from tests.viewer.moments import STATE, boxes, moment

FRAME = (640, 360)
NOTHING = np.zeros((0, 4))


def overlap(first: Place, second: Place) -> bool:
    across = first.left < second.right and second.left < first.right
    return across and first.top < second.bottom and second.top < first.bottom


def test_no_text_lies_over_another_one_and_all_are_inside_the_picture() -> None:
    rng = np.random.default_rng(3)
    places_px = rng.uniform((200, 100), (440, 260), (40, 2))  # too many for all of them
    sizes = [(float(width), 16.0) for width in rng.uniform(40, 160, 40)]
    placed = lay_out(places_px, sizes, NOTHING, FRAME)
    kept = [place for place in placed if place is not None]
    assert 5 < len(kept) < 40 and placed[0] is not None
    for number, place in enumerate(kept):
        assert 0 <= place.left < place.right <= 640 and 0 <= place.top < place.bottom <= 360
        assert not any(overlap(place, other) for other in kept[:number])


@pytest.mark.parametrize(
    ("box", "anchor"),
    [
        ((0, 0, 10, 10), "bottom-center"),
        ((295, 150, 314, 178), "bottom-left"),
        ((326, 150, 345, 178), "bottom-right"),
        ((200, 100, 440, 168), "center-left"),
        ((200, 0, 440, 360), "bottom-center"),  # no side has room: over the box, where it is best
    ],
)
def test_a_text_evades_a_box_if_a_side_of_its_place_has_room(
    box: tuple[float, float, float, float], anchor: str
) -> None:
    (place,) = lay_out(np.array([[320.0, 180.0]]), [(60.0, 16.0)], np.array([box]), FRAME)
    assert place is not None and place.anchor == anchor


def test_a_text_without_room_covers_as_few_boxes_as_it_can() -> None:
    above = np.tile((200.0, 100.0, 440.0, 182.0), (3, 1))  # three boxes; one of them also below
    obstacles = np.concatenate((above, [(200.0, 100.0, 440.0, 260.0)]))
    (place,) = lay_out(np.array([[320.0, 190.0]]), [(60.0, 16.0)], obstacles, FRAME)
    assert place is not None and place.anchor == "top-left"


def test_a_place_behind_the_camera_has_no_text() -> None:
    pinhole = Pinhole(Eye(position_m=(0, 0, 2), look_at_m=(10, 0, 2)), FRAME)
    found = anchors(np.array([(20.0, 0.0, 2.0), (-20.0, 0.0, 2.0)]), pinhole)
    assert found[0] == pytest.approx((320, 180)) and np.isnan(found[1]).all()
    assert lay_out(found, [(40.0, 16.0)] * 2, NOTHING, FRAME)[1] is None


def test_boxes_are_obstacles_where_they_are_drawn() -> None:
    pinhole = Pinhole(Eye(position_m=(0, 0, 2), look_at_m=(10, 0, 2)), FRAME)
    shown = boxes((20.0, 3.0, 0.4))
    found = box_obstacles(draw(moment(shown), STATE), pinhole)
    corners = pinhole.to_pixels(pinhole.to_camera(shown.corners()[0]))
    assert found[:, :2].min(0) == pytest.approx(corners.min(0))
    assert found[:, 2:].max(0) == pytest.approx(corners.max(0))


def test_two_texts_at_one_place_are_written_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = Canvas.text

    def text(self: Canvas, words: str, *rest: object, **named: object) -> object:
        written.append(words)
        return write(self, words, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Canvas, "text", text)
    texts = [Text(name=name, text=name, place_m=(20.0, 0.0, 3.0)) for name in ("stop", "give way")]
    pinhole = Pinhole(Eye(position_m=(0, 0, 2), look_at_m=(10, 0, 2)), FRAME)
    OpenCVRenderer(FRAME).render(Drawing(texts=tuple(texts)), pinhole)
    assert written == ["stop", "give way"]
