"""What the rows must show. All thresholds are here, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bevstack.experiments.judge.figures import Figures

# Noise of a score between samples of 60 scenes, and what boxes at likely places score by chance: a
# model that sees nothing may score what the prior scores, and no more.
NEGATIVE_MARGIN_NDS = 0.02
# At 25 m, 2 degrees are 0.9 m: at 0.5 and 1 m, half of the distances that AP is averaged over,
# hardly a far box is found. A model that reads its calibration loses far more than a twentieth.
TURNED_KEEPS_MAP = 0.95
# The pictures are other ones, and the turn adds to the degree of jitter that was trained with: not
# all can be expected back. Half of what was lost is no chance.
TOLD_REGAINS = 0.5
# Neighbours see up to a fifth of a lost camera's sector (images overlap by 5 to 10 degrees of
# about 55), and boxes that were seen there before may be remembered; not much more than that.
LOST_KEEPS_MAP = 0.6
# The edges of the other sectors were seen by the lost camera too, and suppression joins boxes of
# both; a hundredth is what a few boxes of a rare class do to a mean over the classes.
OTHERS_KEEP_MAP = 0.85
OTHERS_LOSE_AT_MOST = 0.01

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
READINGS = ("model", "tracked", "mirrored", "mirrored_tracked")  # of one model's weights
SINGLE_FRAME = ("single_frame", "single_frame_weights")
LOST = "lost_"

Rows = Mapping[str, Figures]


class Check(NamedTuple):
    """One thing that rows show, or fail to."""

    name: str
    holds: bool
    says: str  # the figures


def controls(rows: Rows, official: Rows | None = None) -> list[Check]:
    """Whether the controls behave, as far as their rows are there.

    Args:
        rows: our figures, by the row's name.
        official: those of nuscenes-devkit, of the rows that it was asked about.
    """
    return [*_negative(rows), *_turned(rows), *_lost(rows), *_official(rows, official or {})]


def goals(rows: Rows) -> list[Check]:
    """Whether the model is better than what it is compared with; decides nothing.

    However it is read: as it is, tracked, in a mirror too.
    """
    found = []
    for reading in (n for n in READINGS if n in rows):
        model, begin = rows[reading], "" if reading == "model" else f"{reading} "
        for name in (n for n in BASELINES if n in rows):
            says = f"NDS {model['NDS']:.4f} against {rows[name]['NDS']:.4f}"
            found.append(Check(f"{begin}above {name}", model["NDS"] > rows[name]["NDS"], says))
    for name in (n for n in SINGLE_FRAME if n in rows and "model" in rows):
        model = rows["model"]
        says = f"mAVE {model['mAVE']:.4f} against {rows[name]['mAVE']:.4f}"
        holds = model["mAVE"] < rows[name]["mAVE"]
        found.append(Check(f"velocity better than {name}", holds, says))
    return found


def _negative(rows: Rows) -> Iterator[Check]:
    if "prior" not in rows:
        return
    bar = rows["prior"]["NDS"] + NEGATIVE_MARGIN_NDS
    for name in (n for n in NEGATIVE_CONTROLS if n in rows):
        nds = rows[name]["NDS"]
        says = f"NDS {nds:.4f}, at most {bar:.4f} (prior + {NEGATIVE_MARGIN_NDS})"
        yield Check(f"{name} falls to the prior", nds <= bar, says)


def _turned(rows: Rows) -> Iterator[Check]:
    if not {"model", "turned_untold"} <= rows.keys():
        return
    normal, untold = rows["model"]["mAP"], rows["turned_untold"]["mAP"]
    bar = TURNED_KEEPS_MAP * normal
    yield Check("turned_untold falls", untold < bar, f"mAP {untold:.4f}, below {bar:.4f}")
    if "turned_told" in rows:
        told, bar = rows["turned_told"]["mAP"], untold + TOLD_REGAINS * (normal - untold)
        holds = normal > untold and told >= bar
        yield Check("turned_told recovers", holds, f"mAP {told:.4f}, at least {bar:.4f}")


def _lost(rows: Rows) -> Iterator[Check]:
    if "model" not in rows:
        return
    normal = _sectors(rows["model"])
    for name in (n for n in rows if n.startswith(LOST)):
        lost, now = name.removeprefix(LOST), _sectors(rows[name])
        if lost in normal:
            bar = LOST_KEEPS_MAP * normal[lost]
            says = f"its mAP {now[lost]:.4f}, below {bar:.4f}"
            yield Check(f"{name} loses its sector", now[lost] < bar, says)
        fallen = [
            f"{camera} {normal[camera]:.4f} to {now[camera]:.4f}"
            for camera in normal
            if camera != lost
            and now[camera]
            < min(OTHERS_KEEP_MAP * normal[camera], normal[camera] - OTHERS_LOSE_AT_MOST)
        ]
        yield Check(f"{name} keeps the others", not fallen, "; ".join(fallen) or "none falls")


def _official(rows: Rows, official: Rows) -> Iterator[Check]:
    for row, theirs in official.items():
        ours = rows[row]
        holds = all(ours[name] == theirs[name] for name in ("NDS", "mAP"))
        says = ", ".join(f"{n} {ours[n]!r} and {theirs[n]!r}" for n in ("NDS", "mAP"))
        yield Check(f"nuscenes-devkit says the same of {row}", holds, says)


def _sectors(row: Figures) -> dict[str, float]:
    """The mAP of every camera sector with true boxes."""
    groups: Mapping[str, Any] = row["groups"]
    return {
        name.removeprefix("camera/"): figures["mAP"]
        for name, figures in groups.items()
        if name.startswith("camera/") and figures["mAP"] is not None
    }
