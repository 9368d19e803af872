"""Trust in sectors: the model's recall, places and sectors, and its form in a file."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bevstack.calibration_file import write_calibration
from bevstack.types.sectors import RANGE_EDGES_M, SectorTrust
from bevstack.uncertainty.sectors import (
    BLIND,
    KINDS,
    SEEN,
    SectorModel,
    read_sector_model,
    sector_indices,
    sector_places,
)
from tests.uncertainty.rigs import odd_sector_model


def test_trust_is_the_mean_recall_of_a_sectors_places() -> None:
    model = odd_sector_model()
    places = sector_places()
    kind = np.random.default_rng(0).integers(0, len(KINDS), places.shape[:-1])
    trust = model.trust(kind).trust
    for bearing in range(8):
        for ring in range(3):
            recalls = []
            for place in range(places.shape[2]):
                x, y, _ = places[bearing, ring, place]
                k = kind[bearing, ring, place]
                value = model.offset[k] + model.slope[k] * (math.sqrt(x * x + y * y) / 20 - 1)
                recalls.append(1 / (1 + math.exp(-value)))
            assert trust[bearing, ring] == pytest.approx(sum(recalls) / len(recalls), abs=1e-12)


def test_places_lie_in_their_sector_and_stand_for_equal_areas() -> None:
    places = sector_places(5, (2.0, 9.0, 31.0), steps=7)
    assert places.shape == (5, 2, 49, 3)
    bearing, ring = sector_indices(places.reshape(-1, 3)[:, :2], 5, (2.0, 9.0, 31.0))
    assert np.array_equal(bearing.reshape(5, 2, 49)[:, 0, 0], np.arange(5))
    assert (bearing.reshape(5, 2, 49) == np.arange(5)[:, None, None]).all()
    assert (ring.reshape(5, 2, 49) == np.arange(2)[:, None]).all()
    # A share of the places nearer than d is the share of the sector's area nearer than d.
    radius = np.linalg.norm(places[0, 1, :, :2], axis=-1)
    nearer = (20.0**2 - 9**2) / (31**2 - 9**2)
    assert (radius < 20).mean() == pytest.approx(nearer, abs=1 / 7)


def test_sectors_of_points_are_those_that_the_trust_is_read_at() -> None:
    trust = SectorTrust(np.arange(1, 25).reshape(8, 3) / 25)
    points = np.random.default_rng(1).uniform(-60, 60, (300, 2))
    bearing, ring = sector_indices(points)
    outside = 0
    for point, b, r in zip(points, bearing, ring, strict=True):
        outside += r < 0
        assert trust.at(*point) == (trust.trust[b, r] if r >= 0 else 0.0)
    assert 0 < outside < 300
    assert sector_indices(np.zeros((0, 2)))[0].shape == (0,)


def test_trust_falls_with_the_distance_and_is_least_where_the_rig_is_blind() -> None:
    model = odd_sector_model()
    shape = sector_places().shape[:-1]
    seen = model.trust(np.full(shape, SEEN)).trust
    assert (np.diff(seen, axis=1) < 0).all() and np.allclose(seen, seen[0])
    assert (model.trust(np.full(shape, BLIND)).trust < seen).all()


def test_a_model_is_read_as_it_was_written(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"weights")
    assert read_sector_model(weights) is None
    write_calibration(weights, "sectors", odd_sector_model().to_entry())
    found = read_sector_model(weights)
    assert found is not None and found.to_entry() == odd_sector_model().to_entry()
    assert found.range_edges_m == RANGE_EDGES_M and found.memory_s == 1.75
    weights.write_bytes(b"another file")
    with pytest.raises(ValueError, match="weights_sha256"):
        read_sector_model(weights)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kinds", ["seen"], "kinds of f must be seen, late"),
        ("offset", [1.0, 2.0], "offset of f"),
        ("offset", [1.0, 2.0, "3", 4, 5], "offset of f"),
        ("min_score", 1.5, "min_score must be from 0 to 1; got 1.5"),
        ("memory_s", -1.0, "memory_s must be 0 or more; got -1"),
        ("num_bearings", 2.5, "num_bearings of f must be 1 or more; got 2.5"),
        ("range_edges_m", [0.0, 9.0, 9.0], "range_edges_m must ascend"),
        ("slope", None, "slope of f must"),
    ],
)
def test_wrong_fields_are_named(field: str, value: object, message: str) -> None:
    entry = json.loads(json.dumps(odd_sector_model().to_entry()))
    assert SectorModel.from_entry("f", entry).to_entry() == entry
    with pytest.raises(ValueError, match=message):
        SectorModel.from_entry("f", entry | {field: value})


def test_a_model_must_have_finite_numbers() -> None:
    with pytest.raises(ValueError, match="slope must be 5 finite numbers"):
        replace(odd_sector_model(), slope=np.array([1.0, np.nan, 0, 0, 0]))


def test_trust_is_read_as_it_was_written_and_wrong_trust_is_named() -> None:
    trust = SectorTrust(np.arange(12).reshape(4, 3) / 12, (0.0, 5.0, 10.0, 20.0))
    entry = json.loads(json.dumps(trust.to_entry()))
    found = SectorTrust.from_entry("f", entry)
    assert np.array_equal(found.trust, trust.trust) and found.range_edges_m == trust.range_edges_m
    for wrong in ([[0.5, 0.5], [0.5]], [], [[2.0, 0.0, 0.0]], "x"):
        with pytest.raises(ValueError, match="must"):
            SectorTrust.from_entry("f", entry | {"trust": wrong})
