"""Checks of the judge's rows: all thresholds, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bevstack.experiments.judge.figures import Figures

# A score varies between sets of 60 scenes, and boxes at likely positions match by chance. A model
# that sees no image may therefore score as much as the prior, but not more.
NEGATIVE_MARGIN_NDS = 0.02
# At 25 m, 2 degrees are 0.9 m: at 0.5 and 1 m, half of the distances that AP averages over, hardly
# any far box matches. A model that uses its calibration loses far more than a twentieth.
TURNED_MAP_RATIO = 0.95
# The images differ, and the turn adds to the degree of jitter used in training, so the model cannot
# regain everything. Regaining half of the loss is not chance.
CORRECTED_RECOVERY = 0.5
# Neighbouring cameras see up to a fifth of a lost camera's sector (images overlap by 5 to 10
# degrees of about 55), and the model may remember boxes that it saw there before, but not much
# more than that.
LOST_SECTOR_MAP_RATIO = 0.6
# The lost camera also saw the edges of the remaining sectors, and suppression merges boxes of both
# cameras. A few boxes of a rare class change a mean over the classes by a hundredth.
REMAINING_SECTORS_MAP_RATIO = 0.85
REMAINING_SECTORS_MAP_LOSS = 0.01

WRONG_CALIBRATION = "turned_untold"  # row: the calibration is turned, the cameras are not
CORRECT_CALIBRATION = "turned_told"  # row: cameras and calibration are turned
NEGATIVE_CONTROLS = ("grey_images", "black_images", "other_samples", "cameras_permuted")
BASELINES = (
    "random",
    "prior",
    "lift_true",
    "lift_true_behind",
    "lift_true_tracked",
    "lift_true_behind_tracked",
    "lift_own",
    "lift_own_behind",
    "perspective_alone",
)
READINGS = ("model", "tracked", "mirrored", "mirrored_tracked")  # modes of inference of one model
SINGLE_FRAME = ("single_frame", "single_frame_weights")
LOST = "lost_"

Rows = Mapping[str, Figures]


class Check(NamedTuple):
    """One statement about the rows, and its result."""

    name: str
    holds: bool
    evidence: str  # the compared figures

    def to_json(self) -> dict[str, Any]:
        """Return the check as ``judge.json`` holds it."""
        return {"name": self.name, "holds": self.holds, "says": self.evidence}


def controls(rows: Rows, official: Rows | None = None) -> list[Check]:
    """Check the controls whose rows exist.

    Args:
        rows: our figures, by the row's name.
        official: figures of nuscenes-devkit, for the rows that it scored.
    """
    return [*_negative(rows), *_turned(rows), *_lost(rows), *_official(rows, official or {})]


def goals(rows: Rows) -> list[Check]:
    """Compare the model with the baselines, in every mode of inference; the judge passes anyway.

    The modes are: as it is, tracked, mirrored, and both.
    """
    checks = []
    for reading in (n for n in READINGS if n in rows):
        model, prefix = rows[reading], "" if reading == "model" else f"{reading} "
        for name in (n for n in BASELINES if n in rows):
            evidence = f"NDS {model['NDS']:.4f} against {rows[name]['NDS']:.4f}"
            above = model["NDS"] > rows[name]["NDS"]
            checks.append(Check(f"{prefix}above {name}", above, evidence))
    for name in (n for n in SINGLE_FRAME if n in rows and "model" in rows):
        model = rows["model"]
        evidence = f"mAVE {model['mAVE']:.4f} against {rows[name]['mAVE']:.4f}"
        holds = model["mAVE"] < rows[name]["mAVE"]
        checks.append(Check(f"velocity better than {name}", holds, evidence))
    return checks


def _negative(rows: Rows) -> Iterator[Check]:
    """Check that NDS without the right images is at most that of the prior, with a margin."""
    if "prior" not in rows:
        return
    limit = rows["prior"]["NDS"] + NEGATIVE_MARGIN_NDS
    for name in (n for n in NEGATIVE_CONTROLS if n in rows):
        nds = rows[name]["NDS"]
        evidence = f"NDS {nds:.4f}, at most {limit:.4f} (prior + {NEGATIVE_MARGIN_NDS})"
        yield Check(f"{name} falls to the prior", nds <= limit, evidence)


def _turned(rows: Rows) -> Iterator[Check]:
    """Check that a wrong calibration costs mAP, and that the correct one restores it."""
    if not {"model", WRONG_CALIBRATION} <= rows.keys():
        return
    normal, wrong = rows["model"]["mAP"], rows[WRONG_CALIBRATION]["mAP"]
    limit = TURNED_MAP_RATIO * normal
    yield Check(f"{WRONG_CALIBRATION} falls", wrong < limit, f"mAP {wrong:.4f}, below {limit:.4f}")
    if CORRECT_CALIBRATION in rows:
        correct = rows[CORRECT_CALIBRATION]["mAP"]
        limit = wrong + CORRECTED_RECOVERY * (normal - wrong)
        holds = normal > wrong and correct >= limit
        evidence = f"mAP {correct:.4f}, at least {limit:.4f}"
        yield Check(f"{CORRECT_CALIBRATION} recovers", holds, evidence)


def _lost(rows: Rows) -> Iterator[Check]:
    """Check that a lost camera costs mAP in its own sector alone."""
    if "model" not in rows:
        return
    normal = _sectors(rows["model"])
    for name in (n for n in rows if n.startswith(LOST)):
        lost, now = name.removeprefix(LOST), _sectors(rows[name])
        if lost in normal:
            limit = LOST_SECTOR_MAP_RATIO * normal[lost]
            evidence = f"its mAP {now[lost]:.4f}, below {limit:.4f}"
            yield Check(f"{name} loses its sector", now[lost] < limit, evidence)
        fallen = [
            f"{camera} {normal[camera]:.4f} to {now[camera]:.4f}"
            for camera in normal
            if camera != lost
            and now[camera]
            < min(
                REMAINING_SECTORS_MAP_RATIO * normal[camera],
                normal[camera] - REMAINING_SECTORS_MAP_LOSS,
            )
        ]
        evidence = "; ".join(fallen) or "none falls"
        yield Check(f"{name} keeps the remaining sectors", not fallen, evidence)


def _official(rows: Rows, official: Rows) -> Iterator[Check]:
    """Check that NDS and mAP equal those of nuscenes-devkit to the last bit."""
    for row, devkit in official.items():
        ours = rows[row]
        holds = all(ours[name] == devkit[name] for name in ("NDS", "mAP"))
        evidence = ", ".join(f"{n} {ours[n]!r} and {devkit[n]!r}" for n in ("NDS", "mAP"))
        yield Check(f"nuscenes-devkit agrees on {row}", holds, evidence)


def _sectors(row: Figures) -> dict[str, float]:
    """Return the mAP of every camera sector that has true boxes."""
    groups: Mapping[str, Any] = row["groups"]
    return {
        name.removeprefix("camera/"): figures["mAP"]
        for name, figures in groups.items()
        if name.startswith("camera/") and figures["mAP"] is not None
    }
