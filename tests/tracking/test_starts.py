"""Start of tracks: beside other boxes of the same class, and at the vehicle."""

from dataclasses import fields, replace

from bevstack.tracking import Tracks
from tests.tracking.test_tracker import ODD, boxes_of, run


def test_a_duplicate_starts_no_track_but_two_objects_that_meet_keep_theirs():
    config = replace(ODD, start_gap_m=1.0)
    apart = boxes_of([[9.0, 0, 0], [9.0, 1.1, 0], [9.0, 0.8, 0]], scores=[0.9, 0.95, 0.8])
    close = boxes_of([[9.0, 0.2, 0], [9.0, 0.8, 0], [9.5, 0.5, 0]], scores=[0.9, 0.8, 1.0])
    other = boxes_of([[9.0, 0.2, 0], [9.0, 0.3, 0]], labels=[0, 1])
    first, second, third = run([apart, close, other], config=config)
    assert sorted(first.tracks.identity.tolist()) == [0, 1]
    assert sorted(second.tracks.identity.tolist()) == [0, 1]
    assert len(third.tracks) == 3  # a box of another class is no duplicate


def test_a_box_at_the_vehicle_and_a_repeated_timestamp_give_finite_tracks():
    here = boxes_of([[0.0, 0, 0]])
    *_, last = run([here, here, here], (0, 0, 500_000))
    assert len(last.tracks) == 1
    values = {field.name: getattr(last.tracks, field.name) for field in fields(Tracks)}
    assert values.pop("uncertainty") is None  # no calibration is given
    assert all(bool(value.isfinite().all()) for value in values.values())
