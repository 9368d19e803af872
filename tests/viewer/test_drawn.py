"""Primitives of a moment: edges, dashes, arrows, colours and picks."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from bevstack.render.colors import CLASS_COLORS
from bevstack.types.sectors import SectorTrust
from bevstack.viewer import wires
from bevstack.viewer.coloring import ERROR_COLORS, score_colors
from bevstack.viewer.drawn import draw
from bevstack.viewer.drawn_boxes import MAX_EDGED
from bevstack.viewer.moment import ErrorKind, Moment
from bevstack.viewer.panels import counts_html, details_html, legend_html
from bevstack.viewer.picking import pick
from bevstack.viewer.primitives import Lines
from bevstack.viewer.strip import projected_edges, strip_html
from bevstack.viewer.view_state import Picked, ViewState
from tests.viewer.moments import STATE, boxes, camera, moment

CAR = 3


def lines_of(shown: Moment, state: ViewState) -> dict[str, Lines]:
    return {lines.name: lines for lines in draw(shown, state).lines}


def test_dashes_cover_five_ninths_of_each_edge_and_both_of_its_ends() -> None:
    edges = wires.box_edges(boxes((10, 2, 0.3), (-4, 0, 2.0)))
    dashes = wires.dashed(edges)
    assert dashes.shape == (2, 60, 2, 3)
    lengths = np.linalg.norm(edges[..., 1, :] - edges[..., 0, :], axis=-1).sum(1)
    drawn = np.linalg.norm(dashes[..., 1, :] - dashes[..., 0, :], axis=-1).sum(1)
    assert drawn == pytest.approx(5 / 9 * lengths)
    for box in range(2):
        ends = dashes[box].reshape(-1, 3)
        for corner in edges[box].reshape(-1, 3):
            assert np.abs(ends - corner).sum(1).min() < 1e-9


def test_arrows_end_where_a_box_is_after_a_second_and_standing_boxes_have_none() -> None:
    found = boxes((0, 0, math.pi / 2), (5, 5, 0), (9, 9, 0))
    speeds = np.array([(0.0, 3.0), (0.1, 0.0), (np.nan, np.nan)])
    segments, owners = wires.velocity_arrows(replace(found, velocity_mps=speeds))
    assert owners.tolist() == [0, 0, 0]
    assert segments[0, 0] == pytest.approx((0, 2, 0)) and segments[0, 1] == pytest.approx((0, 5, 0))


def test_true_boxes_are_dashed_beside_predicted_ones_and_whole_alone() -> None:
    true, predicted = boxes((10, 0, 0), (20, 0, 0)), boxes((10, 1, 0))
    beside = lines_of(moment(predicted, true), STATE)
    assert len(beside["true"].segments_m) == 2 * 60
    assert len(beside["predicted_0"].segments_m) == 13  # twelve edges and the heading
    alone = draw(moment(None, true), STATE)
    assert {lines.name for lines in alone.lines} >= {"true", "grid", "rings"}
    assert [s.name for s in alone.solids] == ["ego", "true"]
    (lines,) = (lines for lines in alone.lines if lines.name == "true")
    assert len(lines.segments_m) == 2 * 13
    assert (lines.color == CLASS_COLORS["car"]).all()


def test_very_many_boxes_are_opaque_without_edges_and_true_ones_lie_on_the_ground() -> None:
    many = boxes(*[(x, y, 0.0) for x in range(100) for y in range(100)])
    moving = replace(many, velocity_mps=np.tile((3.0, 0.0), (len(many), 1)))
    drawing = draw(moment(moving, many), STATE)
    (solids,) = (s for s in drawing.solids if s.name == "predicted_0")
    assert (len(solids.center_m), solids.opacity) == (10_000, 1.0)
    lines = {lines.name: lines.segments_m for lines in drawing.lines}
    assert "predicted_0" not in lines and len(lines["true"]) == 40_000
    assert np.ptp(lines["true"][..., 2]) == 0
    length = np.linalg.norm(lines["arrows_0"][:, 1] - lines["arrows_0"][:, 0], axis=1)
    assert len(length) == 10_000 and length == pytest.approx(3.0)  # the shafts, without heads
    without_faces = replace(STATE, layers=STATE.layers - {"faces"})
    assert len(lines_of(moment(many), without_faces)["predicted_0"].segments_m) == 40_000


@pytest.mark.parametrize(("count", "edged"), [(MAX_EDGED, True), (MAX_EDGED + 1, False)])
def test_boxes_have_edges_up_to_a_number(count: int, edged: bool) -> None:
    drawing = draw(moment(None, boxes(*[(x, 0.0, 0.0) for x in range(count)])), STATE)
    assert any(lines.name == "true" for lines in drawing.lines) == edged
    (solids,) = (s for s in drawing.solids if s.name == "true")
    assert (solids.opacity < 1) == edged


def test_scores_classes_and_layers_hide_boxes() -> None:
    shown = moment(boxes((10, 0, 0), (20, 0, 0)), boxes((10, 0, 0)), score=0.5)
    assert "predicted_0" in lines_of(shown, replace(STATE, min_score=0.5))
    assert "predicted_0" not in lines_of(shown, replace(STATE, min_score=0.51))
    without_cars = replace(STATE, labels=STATE.labels - {CAR})
    assert not {"predicted_0", "true"} & lines_of(shown, without_cars).keys()
    hidden = lines_of(shown, replace(STATE, layers=frozenset({"grid"})))
    assert set(hidden) == {"grid", "rings"}
    nothing = draw(moment(), replace(STATE, layers=frozenset()))
    assert [s.name for s in nothing.solids] == ["ego"] and nothing.lines == ()


def test_boxes_have_the_colours_of_their_errors_identities_and_scores() -> None:
    predicted = boxes((10, 0, 0), (20, 0, 0))
    true = boxes((10, 1, 0))
    shown = moment(predicted, true)
    by_error = replace(STATE, color_by="error")
    colors = lines_of(shown, by_error)["predicted_0"].color.reshape(2, 13, 3)
    assert tuple(colors[0, 0]) == ERROR_COLORS[ErrorKind.TRUE_POSITIVE]
    assert tuple(colors[1, 0]) == ERROR_COLORS[ErrorKind.FALSE_POSITIVE]
    missed = lines_of(shown, replace(by_error, min_score=0.6))["true"].color
    assert (missed == ERROR_COLORS[ErrorKind.MISSED]).all()
    colors = lines_of(shown, replace(STATE, color_by="identity"))["predicted_0"].color
    assert len(np.unique(colors, axis=0)) == 2
    luma = score_colors(np.array([0.0, 0.5, 1.0])) @ (0.299, 0.587, 0.114)
    assert (np.diff(luma) > 50).all()  # the order is seen in greyscale too


def test_sectors_are_arcs_at_their_outer_edges_in_the_colour_of_their_trust() -> None:
    trust = np.zeros((4, 2))
    trust[1, 0] = 1.0  # to the left, near
    shown = replace(moment(), sectors=SectorTrust(trust, (0.0, 10.0, 30.0)))
    lines = lines_of(shown, STATE)["sectors"]
    middle = lines.segments_m.mean(1)
    radius = np.hypot(middle[:, 0], middle[:, 1])
    assert set(np.rint(radius + 0.6).astype(int)) == {10, 30}
    green = (lines.color == (60, 205, 160)).all(1)
    assert green.sum() == len(green) / 8
    assert (middle[green, 1] > np.abs(middle[green, 0])).all() and (radius[green] < 10).all()
    assert (lines.color[~green] == (255, 84, 84)).all()


def test_a_ray_picks_the_first_box_that_it_meets() -> None:
    shown = moment(boxes((20, 0, 0.4), (10, 0, 0.4), (10, 9, 0)), boxes((30, 0, 0)))
    eye = np.array((0.0, 0.0, 0.75))

    def row(direction: tuple[float, float, float], state: ViewState = STATE) -> object:
        found = pick(shown, state, eye, np.array(direction))
        return None if found is None else (found.model, found.row)

    assert row((1, 0, 0)) == (0, 1)
    assert row((10, 9, 0)) == (0, 2)
    assert row((-1, 0, 0)) is None and row((1, 0, 0.5)) is None
    assert row((1, 0, 0), replace(STATE, layers=frozenset({"true"}))) == (None, 0)
    assert row((1, 0, 0), replace(STATE, min_score=0.9)) == (None, 0)


def test_details_state_the_class_the_size_and_the_errors_of_the_picked_box() -> None:
    shown = moment(boxes((10, 0, 0), (20, 0, 0)), boxes((10, 1, 0)))
    chosen = Picked(model=0, row=0, identity=0, scene=STATE.scene, index=0)
    text = re.sub(r"<[^>]*>", " ", details_html(shown, replace(STATE, picked=chosen)))
    assert "car" in text and "4.00 x 2.00 x 1.50 m" in text and "10.0 m" in text
    assert "true positive at 2 m" in text and "0.25 m/s" in text and "unknown" in text
    assert "14.32 deg" in text  # 0.25 rad
    assert "not in this frame" in details_html(
        replace(shown, index=4), replace(STATE, picked=replace(chosen, identity=7))
    )
    assert "2 of 2 boxes; 1 true, 1 false positives, 0 missed" in counts_html(shown, STATE)
    assert "0 of 2 boxes; 0 true, 0 false positives, 1 missed" in counts_html(
        shown, replace(STATE, min_score=0.9)
    )
    assert "no boxes" in counts_html(moment(), STATE)
    assert "false positive" in legend_html(shown, replace(STATE, color_by="error"))


def test_boxes_lie_in_the_pictures_where_opencv_projects_them() -> None:
    view = camera()
    found = boxes((12, 1, 0.5))
    segments, owner = projected_edges(found.corners(), view)
    assert len(segments) == 12 and (owner == 0).all()
    cam_from_ego = np.linalg.inv(view.ego_from_cam)
    rotation = cv2.Rodrigues(cam_from_ego[:3, :3])[0]
    corners = found.corners()[0]
    expected, _ = cv2.projectPoints(
        corners, rotation, cam_from_ego[:3, 3], view.intrinsics, np.zeros(4)
    )
    ends = segments.reshape(-1, 2)
    for corner in expected[:, 0]:
        assert np.abs(ends - corner).max(1).min() < 1e-6
    behind, _ = projected_edges(boxes((-12, 1, 0.5)).corners(), view)
    assert len(behind) == 0
    around, _ = projected_edges(boxes((2, 0, 0.0)).corners(), view)
    assert len(around) and np.abs(around).max() < 400  # cut in front of the camera


def test_a_missing_picture_is_a_tile_with_the_escaped_name_of_its_file() -> None:
    text = strip_html(moment(boxes((12, 1, 0))), STATE)
    assert "missing: &lt;b&gt;lost&lt;/b&gt;.jpg" in text and "<img" not in text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"color_by": "mood"}, "color_by must be one of"),
        ({"layers": frozenset({"sky"})}, "layers must be among .*; got sky"),
        ({"min_score": math.nan}, "min_score must be a number"),
    ],
)
def test_unknown_states_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(STATE, **fields)
