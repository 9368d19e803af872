"""Cells of the tables of ``substitution`` and ``reach``, for the command line and the report."""

from __future__ import annotations

from bevstack.evaluation.analysis.reach import Reach
from bevstack.evaluation.analysis.substitution import Substitution

SUBSTITUTION_TITLES = ("put in", "NDS", "gain", "mAP", "gain")
REACH_TITLES = (
    "true boxes",
    "number",
    "seen",
    "range error m",
    "lateral error m",
    "within 0.5 m",
    "1 m",
    "2 m",
    "4 m",
)


def substitution_cells(row: Substitution) -> list[str]:
    """Return name, scores and gains as text."""
    return [
        row.name,
        f"{row.nds:.3f}",
        f"{row.nds_gain:+.3f}",
        f"{row.mean_average_precision:.3f}",
        f"{row.mean_average_precision_gain:+.3f}",
    ]


def reach_cells(row: Reach) -> list[str]:
    """Return name and figures as text; a dash for NaN."""
    name = row.name if row.family == "all" else f"{row.family}: {row.name}"
    numbers = (row.seen, row.range_error_m, row.lateral_error_m, *row.within)
    return [name, str(row.objects), *("-" if x != x else f"{x:.2f}" for x in numbers)]
