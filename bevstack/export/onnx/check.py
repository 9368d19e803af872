"""Comparison of an exported detector with ours, output by output.

Letters: B batch, N cameras.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch

from bevstack.export.onnx.arrays import (
    Arrays,
    camera_arrays,
    counts_from,
    detections_from_arrays,
    memory_from,
    stream_arrays,
)
from bevstack.export.onnx.graph import MEMORY, NEXT, RESETS
from bevstack.export.runtimes import Session
from bevstack.geometry import CameraRig
from bevstack.types import Batch, BEVMemory, Detections

CHECK_FORMAT = "bevstack-onnx-check-2"
# The tolerance of each tensor of the memory; the rest must be equal.
_KINDS = {
    "features": "memory",
    "intrinsics": "pixel",
    "world_from_bev": "pose",
    "bev_from_cam": "pose",
}


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """Largest differences that count as equal.

    They are at least twice the differences measured of the packaged weights, 0.4 mm, 0.0009 rad and
    6e-6 of a score: sums in another order, and GridSample's rounding of coordinates to 1e-5 pixels.
    """

    center_m: float = 5e-3
    size_m: float = 2e-3
    yaw_rad: float = 2e-3
    velocity_mps: float = 2e-3
    score: float = 2e-4
    # Feature maps of the memory, relative to their largest value: a thousandth of a map's range.
    memory: float = 1e-3
    # Poses and calibration that the memory keeps: float32 where a runtime has no float64. Measured
    # in OpenVINO are 1.5e-5 pixels and 3e-6 m.
    pixel: float = 1e-3
    pose: float = 1e-4


class Case(NamedTuple):
    """Input of the check: single frames, or the next step of the streams."""

    name: str
    batch: Batch
    restart: bool = False  # streams start here


@dataclass(frozen=True)
class CaseReport:
    """Differences of one case."""

    name: str
    boxes: int  # of ours
    unmatched: int  # boxes of either side without a partner, apart from ties at the end
    largest: dict[str, float]  # differences of matched boxes, and of the memory
    faults: tuple[str, ...]  # one sentence each; none: equal


@dataclass(frozen=True)
class CheckReport:
    """Result of a check."""

    backend: str
    reference: str
    tolerances: Tolerances
    cases: tuple[CaseReport, ...]

    @property
    def passed(self) -> bool:
        """Return True if every case is equal and at least one has boxes."""
        return not self.faults

    @property
    def faults(self) -> list[str]:
        """Return what differs, one sentence each."""
        faults = [f"{case.name}: {fault}" for case in self.cases for fault in case.faults]
        if not any(case.boxes for case in self.cases):
            faults.append("no case has a box, so that nothing was compared")
        return faults

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and texts."""
        return {
            "passed": self.passed,
            "backend": self.backend,
            "reference": self.reference,
            "tolerances": asdict(self.tolerances),
            "cases": [asdict(case) for case in self.cases],
        }


def reports_to_dict(reports: Sequence[CheckReport]) -> dict[str, Any]:
    """Return the reports of all backends as plain numbers and texts: a file's FILE.check.json."""
    return {
        "format": CHECK_FORMAT,
        "passed": bool(reports) and all(report.passed for report in reports),
        "reports": [report.to_dict() for report in reports],
    }


def check(
    session: Session,
    reference: Session,
    cases: Sequence[Case],
    tolerances: Tolerances | None = None,
) -> CheckReport:
    """Run both sessions on every case and compare all outputs; streams carry their own memory.

    Raises:
        ValueError: a case does not fit the sessions.
    """
    limits = tolerances or Tolerances()
    memories: list[BEVMemory | None] = [None, None]
    reports = []
    for case in cases:
        if case.restart:
            memories = [None, None]
        outputs = []
        for index, each in enumerate((session, reference)):
            found = each.run(case_arrays(case.batch, memories[index], each))
            outputs.append(found)
            if each.info.stream:
                memories[index] = memory_from(found, each.shapes, each.info)
        reports.append(_compare(case.name, outputs[0], outputs[1], session, limits))
    return CheckReport(session.backend, reference.backend, limits, tuple(reports))


def case_arrays(batch: Batch, memory: BEVMemory | None, session: Session) -> Arrays:
    """Return all inputs of a session for a batch."""
    arrays = camera_arrays(batch, session.info)
    if session.info.stream:
        arrays |= stream_arrays(batch, memory, session.shapes)
    return arrays


def far_rig(batch: Batch) -> Batch:
    """Return the batch with a rig far from any in training, and its first camera lost.

    Cameras are 0.7 m higher, turned by 40 degrees to the left, have 1.4 times the focal length, and
    stand in the opposite order.
    """
    rig = batch.rig
    turn = torch.eye(4, dtype=torch.float64)
    angle = torch.tensor(40.0, dtype=torch.float64).deg2rad()
    turn[:2, :2] = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos())).view(2, 2)
    turn[2, 3] = 0.7
    scale = torch.tensor((1.4, 1.4, 1.0), dtype=torch.float64)[:, None]
    intrinsics = rig.intrinsics.clone()
    intrinsics[..., :2, :2] = (scale * intrinsics)[..., :2, :2]
    mask = rig.camera_mask.flip(-1).clone()
    mask[..., 0] = False
    turned = CameraRig(
        intrinsics.flip(-3), (turn @ rig.bev_from_cam).flip(-3), rig.image_size.flip(-2), mask
    )
    return replace(batch, rig=turned, images=batch.images.flip(2))


def without_camera(batch: Batch, camera: int) -> Batch:
    """Return the batch with a lost camera."""
    mask = batch.rig.camera_mask.clone()
    mask[..., camera] = False
    return replace(batch, rig=replace(batch.rig, camera_mask=mask))


def _compare(
    name: str, outputs: Arrays, wanted: Arrays, session: Session, limits: Tolerances
) -> CaseReport:
    counts, bounds = counts_from(wanted), session.info.bounds
    faults = []
    if not bounds.holds(counts):
        faults.append(f"counts must not exceed the bounds {bounds}; got {counts}")
    names = session.info.config.class_names
    largest: dict[str, float] = {}
    unmatched = boxes = 0
    for ours, theirs in zip(
        detections_from_arrays(wanted, names), detections_from_arrays(outputs, names), strict=True
    ):
        boxes += len(ours)
        missing = count_unmatched(ours, theirs, limits, largest)
        unmatched += missing
    if unmatched:
        faults.append(f"{unmatched} boxes have no equal among the other's")
    if session.info.stream:
        faults += _compare_memory(outputs, wanted, limits, largest)
    return CaseReport(name, boxes, unmatched, largest, tuple(faults))


def count_unmatched(
    ours: Detections, theirs: Detections, limits: Tolerances, largest: dict[str, float]
) -> int:
    """Return the number of boxes without a partner, and note the differences of the rest.

    Boxes of scores that differ by less than the tolerance may come in another order. At the end of
    a full list such a box may be left out.
    """
    free = set(range(len(theirs)))
    missing = []
    for row in range(len(ours)):
        found = None
        for other in sorted(free):
            differences = _differences(ours, theirs, row, other)
            if differences is not None and all(
                value <= getattr(limits, field) for field, value in differences.items()
            ):
                found = other
                for field, value in differences.items():
                    largest[field] = max(largest.get(field, 0.0), value)
                break
        if found is None:
            missing.append(float(ours.scores[row]))
        else:
            free.remove(found)
    missing += [float(theirs.scores[other]) for other in free]
    lasts = [float(side.scores[-1]) for side in (ours, theirs) if len(side)]
    end = max(lasts, default=0.0) + limits.score
    return sum(score > end for score in missing) if len(ours) == len(theirs) else len(missing)


def _differences(
    ours: Detections, theirs: Detections, row: int, other: int
) -> dict[str, float] | None:
    """Return the largest differences of two boxes by kind; None: of different classes."""
    if int(ours.labels[row]) != int(theirs.labels[other]):
        return None
    first, second = ours.boxes[row], theirs.boxes[other]
    turn = first.yaw - second.yaw
    return {
        "center_m": float((first.center - second.center).abs().max()),
        "size_m": float((first.size - second.size).abs().max()),
        "yaw_rad": float(torch.atan2(turn.sin(), turn.cos()).abs()),
        "velocity_mps": float((first.velocity - second.velocity).abs().max()),
        "score": abs(float(ours.scores[row] - theirs.scores[other])),
    }


def _compare_memory(
    outputs: Arrays, wanted: Arrays, limits: Tolerances, largest: dict[str, float]
) -> list[str]:
    """Compare resets and the memory for the next step; slots without a frame do not matter."""
    faults = []
    if not (outputs[RESETS] == wanted[RESETS]).all():
        faults.append(f"resets must be {wanted[RESETS].tolist()}; got {outputs[RESETS].tolist()}")
    valid = wanted[NEXT + MEMORY + "valid"]
    for name, array in wanted.items():
        if not name.startswith(NEXT + MEMORY):
            continue
        other, per_row = outputs[name], array.ndim == 1
        ours, theirs = (x if per_row or x is valid else x[valid] for x in (array, other))
        if name.endswith("valid"):
            ours, theirs = array, other
        difference = float(abs(ours.astype("float64") - theirs.astype("float64")).max(initial=0.0))
        kind = _KINDS.get(name.removeprefix(NEXT + MEMORY).rstrip("_0123456789"))
        limit = 0.0 if kind is None else getattr(limits, kind)
        if kind == "memory":
            difference /= float(abs(ours).max(initial=1e-6))
        if kind is not None:
            largest[kind] = max(largest.get(kind, 0.0), difference)
        if not difference <= limit:
            faults.append(f"{name} differs by {difference:.3g}, more than {limit:g}")
    return faults
