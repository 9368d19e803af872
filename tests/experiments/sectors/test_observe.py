"""Objects in sectors of streamed drives: counted as by a loop, and fitted by the program."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import sectors as benchmark
from bevstack.calibration_file import calibration_path
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.experiments.sectors.faults import FIT_FAULTS, TEST_FAULTS
from bevstack.experiments.sectors.observe import observe_split
from bevstack.models.build import save_model
from bevstack.runtime.detector import Detector, build
from bevstack.runtime.loading import load
from bevstack.types import Boxes3D, Detections, Frame
from bevstack.uncertainty.sectors import BLIND, KINDS, read_sector_model, sector_indices
from bevstack.vocabulary import DETECTION_CLASSES
from tests.runtime.test_streaming import temporal
from tests.small_world import small_world
from tools import calibrate_sectors

RANGES_M = {"pedestrian": 40, "motorcycle": 40, "bicycle": 40, "traffic_cone": 30, "barrier": 30}
VERSION, SPLIT = "v1.0-synth", "synth_val"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> NuScenesDataset:
    return NuScenesDataset(small_world(tmp_path_factory), VERSION, split=SPLIT)


class TruthDetector(Detector):
    """Detector that finds every second object, exactly; for streams alone."""

    def run(self, batch, frames, memory=None):
        _, output = super().run(batch, frames, memory)
        return [half_of(frame) for frame in frames], output


def half_of(frame: Frame) -> Detections:
    annotations = frame.annotations
    assert annotations is not None
    found = annotations[::2]
    return Detections(found.boxes, torch.full((len(found),), 0.7), found.labels, DETECTION_CLASSES)


def objects_by_hand(dataset: NuScenesDataset) -> list[tuple[int, int, int, bool]]:
    """Return sample, bearing, ring, and True for found, of the objects that the metric counts."""
    rows = []
    for index in range(len(dataset)):
        annotations = dataset.frame(index, load_images=False).annotations
        assert annotations is not None
        bearing, ring = sector_indices(annotations.boxes.center[:, :2].numpy())
        for row, (center, label) in enumerate(
            zip(annotations.boxes.center, annotations.labels.tolist(), strict=True)
        ):
            distance = float(center[:2].norm())
            inside = distance < RANGES_M.get(DETECTION_CLASSES[label], 50)
            if inside and int(annotations.num_points[row]) != 0 and ring[row] >= 0:
                rows.append((index, int(bearing[row]), int(ring[row]), row % 2 == 0))
    return rows


def test_objects_and_hits_equal_those_of_a_loop(dataset: NuScenesDataset) -> None:
    plain = build(temporal())
    detector = TruthDetector(plain.model, plain.config)
    found = observe_split(detector, dataset, None, seed=0)
    wanted = objects_by_hand(dataset)
    assert 20 < len(found) == len(wanted)
    ours = zip(found.sample, found.bearing, found.ring, found.score > 0, strict=True)
    assert sorted((int(a), int(b), int(c), bool(d)) for a, b, c, d in ours) == sorted(wanted)
    assert set(found.score.round(6).tolist()) == {-1.0, 0.7}
    assert set(found.label.tolist()) == {"none"} and (found.kind < BLIND).mean() > 0.9


@pytest.mark.filterwarnings("ignore::bevstack.times.StaleCameraWarning")
def test_faults_change_the_views_and_the_same_seed_gives_the_same(dataset: NuScenesDataset) -> None:
    detector = build(temporal())
    clean = observe_split(detector, dataset, None, seed=0)
    faulty, again = (observe_split(detector, dataset, {"missing": (0, 0)}, seed=2) for _ in "ab")
    assert (faulty.kind == BLIND).sum() > (clean.kind == BLIND).sum()
    assert np.array_equal(faulty.kind, again.kind) and np.array_equal(faulty.score, again.score)
    assert set(faulty.label.tolist()) == {"missing"}


def test_a_detector_without_boxes_finds_nothing(dataset: NuScenesDataset) -> None:
    class Silent(Detector):
        def run(self, batch, frames, memory=None):
            _, output = super().run(batch, frames, memory)
            none = torch.zeros(0, dtype=torch.int64)
            return [Detections(Boxes3D.empty(), torch.zeros(0), none) for _ in frames], output

    plain = build(temporal())
    found = observe_split(Silent(plain.model, plain.config), dataset, None, seed=0)
    assert len(found) > 20 and (found.score == -1).all() and len(found.box_score) == 0


@pytest.mark.filterwarnings("ignore::bevstack.times.StaleCameraWarning")
def test_the_program_writes_what_the_benchmark_measures(
    dataset: NuScenesDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = build(temporal())
    weights = tmp_path / "w.safetensors"
    save_model(weights, plain.model, plain.config)
    options = ["--weights", weights, "--nuscenes", dataset.root]
    options += ["--version", VERSION, "--split", SPLIT]
    found = SimpleNamespace(
        weights=weights,
        nuscenes=dataset.root,
        version=VERSION,
        split=SPLIT,
        repeats=1,
    )
    with pytest.raises(ValueError, match=r"got none in .* fit it with tools/calibrate_sectors"):
        benchmark.run(found)  # type: ignore[arg-type]
    # Weights that are not trained find no object: every second true one stands in for them.

    def truthful(*words: object, **named: bool) -> Detector:
        loaded = load(weights, calibrated=named.get("calibrated", True))
        return TruthDetector(loaded.model, loaded.config, sector_model=loaded.sector_model)

    for module in (calibrate_sectors, benchmark):
        monkeypatch.setattr(module, "load", truthful)
    command = ["calibrate_sectors.py", *map(str, options), "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", command)
    calibrate_sectors.main()
    model = read_sector_model(weights)
    assert model is not None and calibration_path(weights).is_file()
    assert model.fitted_on["faults"].keys() == FIT_FAULTS.keys() and model.memory_s == 1.25
    figures = benchmark.run(found)  # type: ignore[arg-type]
    assert figures["all"]["objects"] > 20 and figures["faults"].keys() == TEST_FAULTS.keys()
    assert figures["all"]["recall"] == pytest.approx(0.5, abs=0.12)
    parts = [sum(row["objects"] for row in figures[name].values()) for name in PARTS]
    assert set(parts) == {figures["all"]["objects"]}
    assert sum(figures["share_of_views"].values()) == pytest.approx(1, abs=1e-3)
    assert len(figures["share_of_views"]) == len(KINDS)


PARTS = ("by_fault", "by_range_m", "by_bearing", "by_share_seen")
