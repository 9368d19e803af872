"""The model of uncertainty, against a loop written from its description; frames and files."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bevstack.types import Boxes3D, Detections
from bevstack.types.uncertainty import BoxUncertainty
from bevstack.uncertainty.calibration import BoxCalibration
from bevstack.uncertainty.model import DETECTION_SPREADS, TRACK_SPREADS
from bevstack.vocabulary import DETECTION_CLASSES
from tests.uncertainty.models import odd_calibration, odd_model

EGO = (100.0, -40.0)


def some_boxes() -> Boxes3D:
    return Boxes3D(
        center=torch.tensor([[112.0, -35.0, 0.5], [80.0, -70.0, 1.5], [100.0, -40.0, 0.2]]),
        size=torch.tensor([[4.0, 2.0, 1.5], [9.0, 2.5, 3.5], [0.6, 0.7, 1.7]]),
        yaw=torch.tensor([0.3, -2.0, 1.0]),
        velocity=torch.tensor([[3.0, -1.0], [math.nan, math.nan], [0.0, 0.0]]),
    ).to(torch.float64)


SCORES, GROUP = torch.tensor([0.7, 0.2, 0.9999]), torch.tensor([0, 1, 3])


def deviations(values: torch.Tensor, row: int) -> float:
    """Return a standard deviation as the description has it."""
    boxes, score = some_boxes(), float(SCORES[row])
    x, y = (boxes.center[row, :2] - torch.tensor(EGO)).tolist()
    logit = max(-6.0, min(6.0, math.log(score / (1 - score))))
    speed = 0.0 if row == 1 else math.hypot(*boxes.velocity[row].tolist())
    features = (math.log(max(math.hypot(x, y), 2.0) / 20.0), logit, math.log(1 + speed))
    log = float(values[GROUP[row]]) + sum(
        w * f for w, f in zip(values[5:].tolist(), features, strict=True)
    )
    return math.exp(log)


def test_detections_have_the_deviations_of_the_description_along_and_across_the_sight() -> None:
    model = odd_model(DETECTION_SPREADS, 1)
    found = model.uncertainty(some_boxes(), SCORES, GROUP, ego_position=torch.tensor(EGO))
    for row in range(3):
        x, y = (some_boxes().center[row, :2] - torch.tensor(EGO)).tolist()
        angle = math.atan2(y, x)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        spread = {name: deviations(values, row) for name, values in model.spreads.items()}
        position = turn @ np.diag((spread["along"] ** 2, spread["across"] ** 2)) @ turn.T
        np.testing.assert_allclose(found.state[row, :2, :2], position, rtol=1e-6)
        speed = 100.0 if row == 1 else spread["velocity"]
        np.testing.assert_allclose(found.state[row, 2:, 2:], speed**2 * np.eye(2), rtol=1e-6)
        assert not found.state[row, :2, 2:].any()
        size = some_boxes().size[row].tolist()
        shares = [spread[name] for name in ("length", "width", "height")]
        wanted = [(share * extent) ** 2 for share, extent in zip(shares, size, strict=True)]
        np.testing.assert_allclose(found.size_m2[row], wanted, rtol=1e-6)
        assert float(found.elevation_m2[row]) == pytest.approx(spread["elevation"] ** 2, rel=1e-6)
        assert float(found.yaw_rad2[row]) == pytest.approx(spread["yaw"] ** 2, rel=1e-6)
        assert float(found.flip[row]) == float(model.flip[GROUP[row]])
        assert torch.equal(found.radii[row], model.radii[GROUP[row]])


def test_tracks_scale_the_deviations_of_the_tracker_and_keep_its_correlations() -> None:
    model = odd_model(TRACK_SPREADS, 2)
    root = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    covariance = root @ root.mT
    seen = torch.tensor([True, False, True])
    found = model.uncertainty(
        some_boxes(),
        SCORES,
        GROUP,
        ego_position=torch.tensor(EGO),
        covariance=covariance,
        seen=seen,
    )
    for row in range(3):
        position = deviations(model.spreads["position"], row)
        velocity = deviations(model.spreads["velocity"], row)
        scale = np.diag((position, position, velocity, velocity))
        np.testing.assert_allclose(
            found.state[row], scale @ covariance[row].numpy() @ scale, rtol=1e-6
        )
        offset, slope = model.existence[0 if seen[row] else 1, GROUP[row]].tolist()
        logit = max(-6.0, min(6.0, math.log(float(SCORES[row]) / (1 - float(SCORES[row])))))
        wanted = 1 / (1 + math.exp(-(offset + slope * logit)))
        assert float(found.existence[row]) == pytest.approx(wanted, rel=1e-6)


def test_a_model_wants_a_trackers_covariance_for_tracks_alone() -> None:
    ego = torch.zeros(2)
    with pytest.raises(ValueError, match="covariance must be given for tracks; got None"):
        odd_model(TRACK_SPREADS, 1).uncertainty(some_boxes(), SCORES, GROUP, ego_position=ego)
    covariance = torch.eye(4).expand(3, 4, 4)
    with pytest.raises(ValueError, match="covariance must be None for detections; got one"):
        odd_model(DETECTION_SPREADS, 1).uncertainty(
            some_boxes(), SCORES, GROUP, ego_position=ego, covariance=covariance
        )


def test_uncertainty_turns_with_the_frame_of_the_boxes() -> None:
    """The ellipse of a turned box equals the one computed in the turned frame."""
    calibration = odd_calibration()
    labels = torch.tensor([0, 1, 5])
    boxes = Detections(some_boxes(), SCORES, labels, DETECTION_CLASSES)
    motion = torch.eye(4, dtype=torch.float64)
    motion[:2, :2] = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    motion[:3, 3] = torch.tensor([5.0, 7.0, 1.0])
    ego = torch.tensor([*EGO], dtype=torch.float64)
    turned = calibration.calibrated(boxes, ego).transformed(motion)
    moved = motion[:2, :2] @ ego + motion[:2, 3]
    wanted = calibration.calibrated(boxes.transformed(motion), moved)
    assert turned.uncertainty is not None and wanted.uncertainty is not None
    # Row 2 lies at the vehicle, where any direction of sight will do.
    for name in ("state", "elevation_m2", "size_m2", "yaw_rad2", "existence"):
        ours, theirs = getattr(turned.uncertainty, name), getattr(wanted.uncertainty, name)
        torch.testing.assert_close(ours[:2], theirs[:2], rtol=1e-9, atol=1e-9)


def test_boxes_keep_their_own_uncertainty_when_they_are_selected() -> None:
    calibration = odd_calibration()
    boxes = Detections(some_boxes(), SCORES, torch.tensor([0, 1, 5]), DETECTION_CLASSES)
    calibrated = calibration.calibrated(boxes, torch.tensor(EGO))
    picked = calibrated[torch.tensor([2, 0])]
    assert picked.uncertainty is not None and calibrated.uncertainty is not None
    assert torch.equal(picked.uncertainty.existence, calibrated.uncertainty.existence[[2, 0]])
    assert boxes[:2].uncertainty is None
    with pytest.raises(ValueError, match=r"uncertainty\.state"):
        replace(boxes, uncertainty=picked.uncertainty)


def test_entries_hold_the_uncertainty_exactly() -> None:
    boxes = Detections(some_boxes(), SCORES, torch.tensor([0, 1, 5]), DETECTION_CLASSES)
    found = odd_calibration().calibrated(boxes, torch.tensor(EGO)).uncertainty
    assert found is not None
    again = BoxUncertainty.from_entries("a file", found.to_entries())
    for name in ("state", "elevation_m2", "size_m2", "yaw_rad2", "flip", "existence", "radii"):
        assert torch.equal(getattr(found, name), getattr(again, name))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("existence_probability", 1.5, "existence_probability of .* must be from 0 to 1; got 1.5"),
        ("flip_probability", "x", "flip_probability of .* must be a number; got 'x'"),
        ("yaw_variance_rad2", 0.0, "yaw_variance_rad2 of .* must be positive; got 0.0"),
        ("state_covariance", [[1.0]], "state_covariance of .* must be 4 lists of 4 numbers"),
        ("ellipse_radii", None, "ellipse_radii of uncertainty of box 0 of a file must be"),
    ],
)
def test_malformed_entries_are_refused_with_their_field(
    field: str, value: object, message: str
) -> None:
    boxes = Detections(some_boxes(), SCORES, torch.tensor([0, 1, 5]), DETECTION_CLASSES)
    found = odd_calibration().calibrated(boxes, torch.tensor(EGO)).uncertainty
    assert found is not None
    entry = found.to_entries()[0] | {field: value}
    with pytest.raises(ValueError, match=message):
        BoxUncertainty.from_entries("a file", [entry])


def test_a_class_without_a_group_is_refused() -> None:
    boxes = Detections(some_boxes(), SCORES, torch.tensor([0, 1, 1]), ("car", "tram"))
    with pytest.raises(ValueError, match="must hold every class; got none with 'tram'"):
        odd_calibration().calibrated(boxes, torch.tensor(EGO))


def test_a_calibration_is_read_as_it_was_written() -> None:
    written = odd_calibration()
    again = BoxCalibration.from_entry("a file", written.to_entry())
    assert again.to_entry() == written.to_entry()
    assert again.tracking == written.tracking and again.groups == written.groups
