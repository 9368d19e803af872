"""Checks of the labels of a version: classes of its categories, point counts, attributes."""

from __future__ import annotations

import numpy as np

from bevstack.datasets.readiness.findings import Finding, summarise_faults
from bevstack.tables.annotation_checks import points_inside
from bevstack.tables.reader import Tables
from bevstack.vocabulary import ATTRIBUTES


def check_labels(tables: Tables) -> list[Finding]:
    """Check that boxes can be learned and scored; nothing is found in a version without boxes."""
    if not tables.has_annotations or not len(tables.annotations.token):
        return []
    table = tables.annotations
    try:
        class_by_category = tables.class_by_category
    except ValueError as error:
        return [Finding(str(error), matters=True)]
    known = np.isin(table.category.names, list(class_by_category))[table.category.codes]
    rows = np.flatnonzero(known)
    findings = []
    if not len(rows):
        findings.append(
            Finding(
                f"boxes must have a detection class; got none for all {len(table.token)} boxes: "
                "map their categories with --classes FILE",
                matters=True,
            )
        )
    elif not points_inside(tables, rows).any():
        findings.append(
            Finding(
                "boxes must have lidar or radar points to be learned and scored; got 0 for all "
                f"{len(rows)} boxes with a detection class: write num_lidar_pts and num_radar_pts, "
                "or -1 where points were not counted",
                matters=True,
            )
        )
    strange = ~np.isin(table.attribute.names, ["", *ATTRIBUTES])[table.attribute.codes]
    findings += summarise_faults(
        f"attributes must be among {', '.join(ATTRIBUTES)}",
        np.flatnonzero(known & strange),
        lambda row: f"{str(table.attribute[row])!r} at {table.token[row]}",
    )
    return findings + _check_copies(tables)


def _check_copies(tables: Tables) -> list[Finding]:
    """Check that no two objects of a sample have the same box."""
    table = tables.annotations
    columns = (table.sample, table.category.codes, table.translation, table.size, table.rotation)
    keys = np.column_stack(columns)
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    copied_from = first[inverse.reshape(-1)]
    return summarise_faults(
        "objects of a sample must have different boxes",
        np.flatnonzero(copied_from != np.arange(len(keys))),
        lambda row: f"the same at {table.token[copied_from[row]]} and {table.token[row]}",
    )
