"""Moments of recorded drives: a data set in nuScenes' format, with results or the truth alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.render.layers import as_array
from bevstack.runtime.surroundings import SceneSurroundings
from bevstack.runtime.traffic_pictures import (
    find_predicted_traffic,
    find_true_traffic,
    traffic_layer,
)
from bevstack.tables.classes import Classes
from bevstack.tables.reader import Tables
from bevstack.viewer.camera_files import camera_views
from bevstack.viewer.lidar import lidar_points
from bevstack.viewer.models import view_model, view_truth
from bevstack.viewer.moment import BoxArrays, Floats, Moment, Predicted, Trail
from bevstack.viewer.results import ViewedResults, check_samples, read_viewed


@dataclass(frozen=True, kw_only=True)
class RecordedSource:
    """Files of a recorded drive.

    Raises:
        ValueError: there are more than two results.
    """

    root: Path  # of a data set in nuScenes' format
    version: str  # folder of its tables
    results: tuple[Path, ...] = ()  # none: the truth alone; two: a comparison
    scenes: tuple[str, ...] | None = None  # None: all
    cues: Path | None = None  # None: beside the first results, if there is one
    manoeuvre: str = ""  # whose advice is shown; "": that of the tables
    classes: Classes | Path | None = None  # of categories that are not nuScenes'
    allow_outside: bool = False  # the tables may name files outside the root

    def __post_init__(self) -> None:
        if len(self.results) > 2:
            raise ValueError(f"results must be those of at most two models; got {self.results}")


class RecordedDrives:
    """Moments of the scenes of a data set; each is read when it is asked for.

    Raises:
        FileNotFoundError: a results file, the root or a table is missing.
        ValueError: a file is damaged, a scene does not exist, or results hold no sample of the
            scenes.
    """

    def __init__(self, source: RecordedSource) -> None:
        self._tables = Tables(
            source.root,
            source.version,
            classes=source.classes,
            allow_outside=source.allow_outside,
        )
        self._manoeuvre = source.manoeuvre
        results = [read_viewed(path) for path in source.results]
        dataset = NuScenesDataset(self._tables, scenes=source.scenes).without_annotations()
        self._dataset = dataset
        self._places = _viewed_places(dataset, results)
        numbers = [place.number for places in self._places.values() for place in places]
        tokens = [dataset.sample_token(number) for number in numbers]
        samples = np.array([self._tables.sample_row(token) for token in tokens], np.int64)
        self._samples = samples
        self._truth = view_truth(self._tables, samples)
        self._models = [view_model(r, self._truth, self._tables, samples) for r in results]
        first = source.results[0] if source.results else None
        self._cues = find_predicted_traffic(first, source.cues)
        self._true_traffic = find_true_traffic(self._tables)
        self._around: dict[str, SceneSurroundings] = {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the classes, which labels index."""
        return self._dataset.class_names

    @property
    def model_names(self) -> tuple[str, ...]:
        """Return the names of the models whose boxes are shown."""
        return tuple(model.name for model in self._models)

    @property
    def distances_m(self) -> tuple[float, ...]:
        """Return the distances at which boxes are matched; none without truth or results."""
        return MetricConfig().distances_m if self._models and self._truth is not None else ()

    @property
    def scenes(self) -> tuple[str, ...]:
        """Return the names of the scenes that have a moment."""
        return tuple(self._places)

    def count(self, scene: str) -> int:
        """Return the number of a scene's moments."""
        return len(self._places[scene])

    def moment(self, scene: str, index: int) -> Moment:
        """Read one moment.

        Raises:
            ValueError: a picture or file of points is damaged.
        """
        place = self._places[scene][index]
        sample = int(self._samples[place.viewed])
        frame = self._dataset.frame(place.number, load_images=False)
        assert frame.world_from_ego is not None  # the tables hold every pose
        pose = as_array(frame.world_from_ego)
        true = self._true_boxes(place.viewed, pose)
        predicted = [m.predicted(place.viewed, pose, self._truth) for m in self._models]
        return Moment(
            scene=scene,
            index=index,
            timestamp_us=frame.timestamp_us,
            class_names=self.class_names,
            sample_token=frame.sample_token,
            world_from_ego=pose,
            predicted=tuple(predicted),
            true=true,
            cameras=camera_views(self._tables, sample, frame),
            lidar_m=lidar_points(self._tables, sample, frame),
            surroundings=self._surroundings(scene).around(frame),
            traffic=traffic_layer(frame, self._cues, self._true_traffic, manoeuvre=self._manoeuvre),
            trails=self._trails(sample, frame.timestamp_us, pose, true, predicted),
        )

    def num_errors(self, model: int, distance_m: float, min_score: float) -> dict[str, list[int]]:
        """Return the errors of each moment by scene: false positives and missed boxes."""
        matches = self._models[model].matches
        assert matches is not None  # ``distances_m`` is not empty
        counts = matches.num_errors(matches.distances_m.index(distance_m), min_score).tolist()
        return {
            scene: [counts[place.viewed] for place in places]
            for scene, places in self._places.items()
        }

    def _true_boxes(self, viewed: int, pose: Floats) -> BoxArrays | None:
        if self._truth is None:
            return None
        matches = self._models[0].matches if self._models else None
        counted = np.zeros(len(self._truth.columns.boxes), np.bool_)
        return self._truth.boxes_in_ego(
            viewed, pose, counted if matches is None else matches.true_counted
        )

    def _trails(
        self,
        sample: int,
        time_us: int,
        pose: Floats,
        true: BoxArrays | None,
        predicted: Sequence[Predicted],
    ) -> tuple[Trail, ...]:
        scene = int(self._tables.samples.scene[sample])
        shown = [(m.paths, p.boxes) for m, p in zip(self._models, predicted, strict=True)]
        if self._truth is not None and true is not None:
            shown.append((self._truth.paths, true))
        return tuple(
            trail
            for paths, boxes in shown
            if paths is not None
            for trail in paths.trails(boxes, scene, time_us, pose)
        )

    def _surroundings(self, scene: str) -> SceneSurroundings:
        if scene not in self._around:  # keep one scene's map in memory
            self._around = {scene: SceneSurroundings(self._dataset, scene)}
        return self._around[scene]


class _Place(NamedTuple):
    """Number of a sample in the data set and among the viewed samples."""

    number: int
    viewed: int


def _viewed_places(
    dataset: NuScenesDataset, results: Sequence[ViewedResults]
) -> dict[str, list[_Place]]:
    """Return the samples that all results hold, by scene; scenes without one are left out.

    Raises:
        ValueError: there is none.
    """
    tokens = [dataset.sample_token(number) for number in range(len(dataset))]
    for found in results:
        check_samples(found, tokens, f"the scenes of {dataset.tables.version}")
    held = [set(found.boxes.sample_tokens.tolist()) for found in results]
    places: dict[str, list[_Place]] = {}
    viewed = 0
    for scene, numbers in dataset.scene_indices().items():
        for number in numbers:
            if all(tokens[number] in samples for samples in held):
                places.setdefault(scene, []).append(_Place(number, viewed))
                viewed += 1
    if not places:
        names = " and ".join(str(found.path) for found in results) or "the data set"
        raise ValueError(f"{names} must have a sample in common; got none")
    return places
