"""The rows of the table: the model, what it must beat, and what it must not do well on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

from bevstack.config import Config
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.baselines.lifting import ClassPriors, class_priors
from bevstack.evaluation.baselines.priors import Entries, best_bev_prior, random_boxes
from bevstack.evaluation.results.submission import write_submission
from bevstack.experiments.judge import disturbances
from bevstack.experiments.judge.detectors import FrameByFrame, LiftedPerspective, PerspectiveAlone
from bevstack.experiments.judge.lifting import lift_true_boxes
from bevstack.experiments.judge.turned_world import make_turned_scenes, read_manifest
from bevstack.experiments.judge.verdict import LOST
from bevstack.runtime.detector import Detector, load
from bevstack.runtime.mirrored import MirroredDetector
from bevstack.runtime.predict import predict_dataset
from bevstack.runtime.tracked import TrackedDetector

TURN_DEG = 2.0
MODEL, BASELINE, CONTROL = "model", "baseline", "control"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is judged, and on what."""

    weights: Path
    single_frame_weights: Path | None
    dataset: NuScenesDataset  # the scenes to score on
    train: str  # split that priors are learned from
    folder: Path  # for what is made on the way

    @cached_property
    def detector(self) -> Detector:
        """The model, from its file."""
        return load(self.weights)

    @cached_property
    def priors(self) -> ClassPriors:
        """What the training scenes say of each class."""
        return class_priors(self.dataset.tables, self.train)

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names of the scenes to score on."""
        return self.dataset.scene_names


class Row(NamedTuple):
    """A row: how its results file is made."""

    name: str
    kind: str
    about: str
    make: Callable[[Case, Path], None]  # writes the results file


def rows_of(case: Case) -> list[Row]:
    """All rows that there can be of a model and a data set."""
    config = case.detector.config
    rows = [
        Row("model", MODEL, "streamed through each scene", _model),
        *_finer_rows(config),
        Row("random", BASELINE, "boxes anywhere, classes as frequent as in training", _random),
        Row("prior", BASELINE, "where boxes were in training; best of three cell sizes", _prior),
    ]
    behind = {"": "", "_behind": ", whose near edge it is"}
    for end, words in behind.items():
        about = f"true rectangles with 1 px of noise, stood on the ground{words}"
        for last, more, tracked in (("", "", False), ("_tracked", ", and tracked", True)):
            make = partial(_lift_true, bool(words), tracked)
            rows.append(Row(f"lift_true{end}{last}", BASELINE, about + more, make))
    if config.perspective is not None:
        for end, words in behind.items():
            about = f"the perspective head's rectangles, stood on the ground{words}"
            rows.append(Row(f"lift_own{end}", BASELINE, about, partial(_lift_own, bool(words))))
        about = "the perspective head's 3D boxes of all cameras, joined"
        rows.append(Row("perspective_alone", BASELINE, about, _perspective_alone))
    if config.frames != (0,):
        about = "the same weights, every frame the first of a stream"
        rows.append(Row("single_frame", BASELINE, about, _single_frame))
    if case.single_frame_weights is not None:
        about = f"{case.single_frame_weights.name}, streamed"
        rows.append(Row("single_frame_weights", BASELINE, about, _single_frame_weights))
    return rows + _controls(case)


def _finer_rows(config: Config) -> list[Row]:
    twice, tracked = "streamed, every frame seen in a mirror too", "objects tracked"
    streams, symmetric = config.frames[-1] <= 0, config.grid.frame == "ego"
    rows = []
    if streams:
        rows.append(Row("tracked", MODEL, f"streamed, {tracked}", _tracked))
    if symmetric:
        rows.append(Row("mirrored", MODEL, twice, _mirrored))
    if streams and symmetric:
        rows.append(Row("mirrored_tracked", MODEL, f"{twice}, {tracked}", _mirrored_tracked))
    return rows


def _controls(case: Case) -> list[Row]:
    blank, swap = "every image of the mean colour", "images of samples of other scenes"
    rows = [
        Row("grey_images", CONTROL, blank, _changed(_grey)),
        Row("black_images", CONTROL, "every image black", _changed(_black)),
        Row("other_samples", CONTROL, swap, _changed(_of_other_samples)),
        Row(
            "cameras_permuted",
            CONTROL,
            "each camera with the next one's image",
            _changed(_permuted),
        ),
        Row(
            "turned_untold",
            CONTROL,
            f"calibration wrong by {TURN_DEG:g} degrees",
            _changed(_turned),
        ),
    ]
    if read_manifest(case.dataset.root):
        about = f"cameras really turned by {TURN_DEG:g} degrees, and told so"
        rows.append(Row("turned_told", CONTROL, about, _turned_told))
    for camera in case.dataset.frame(0, load_images=False).camera_names:
        lose = _changed(partial(_without, camera))
        rows.append(Row(LOST + camera, CONTROL, f"without the images of {camera}", lose))
    return rows


def chosen(rows: Sequence[Row], only: Sequence[str]) -> list[Row]:
    """The rows of given names, kinds, or beginnings of names that end in "_"; all for none.

    A name that is a row's chooses that row alone, though a kind be called the same.

    Raises:
        ValueError: a name that chooses none.
    """
    names = {row.name for row in rows}

    def chooses(name: str, row: Row) -> bool:
        if name in names:
            return name == row.name
        return name == row.kind or (name.endswith("_") and row.name.startswith(name))

    for name in only:
        if not any(chooses(name, row) for row in rows):
            known = ", ".join(row.name for row in rows)
            raise ValueError(f"--only must name rows, of {known}; got {name!r}")
    return [row for row in rows if not only or any(chooses(name, row) for name in only)]


def whole_scenes(scenes: Mapping[str, Sequence[int]], max_samples: int | None) -> tuple[str, ...]:
    """The first scenes that together have at most so many samples, but one at least."""
    taken, count = [], 0
    for name, indices in scenes.items():
        count += len(indices)
        if taken and max_samples is not None and count > max_samples:
            break
        taken.append(name)
    return tuple(taken)


def _model(case: Case, out: Path) -> None:
    predict_dataset(case.detector, case.dataset, out)


def _mirrored(case: Case, out: Path) -> None:
    predict_dataset(MirroredDetector(case.detector), case.dataset, out)


def _tracked(case: Case, out: Path) -> None:
    predict_dataset(TrackedDetector(case.detector), case.dataset, out)


def _mirrored_tracked(case: Case, out: Path) -> None:
    predict_dataset(TrackedDetector(MirroredDetector(case.detector)), case.dataset, out)


def _random(case: Case, out: Path) -> None:
    write_submission(out, random_boxes(case.dataset.tables, case.train, case.scenes))


def _prior(case: Case, out: Path) -> None:
    write_submission(out, best_bev_prior(case.dataset.tables, case.train, case.scenes).results)


def _lift_true(contact_at_near_edge: bool, tracked: bool, case: Case, out: Path) -> None:
    found: Entries = lift_true_boxes(
        case.dataset, case.priors, contact_at_near_edge=contact_at_near_edge, tracked=tracked
    )
    write_submission(out, found)


def _lift_own(contact_at_near_edge: bool, case: Case, out: Path) -> None:
    lifting = LiftedPerspective(case.detector, priors=case.priors, contact_at_near_edge=contact_at_near_edge)
    predict_dataset(lifting, case.dataset, out)


def _perspective_alone(case: Case, out: Path) -> None:
    predict_dataset(PerspectiveAlone(case.detector), case.dataset, out)


def _single_frame(case: Case, out: Path) -> None:
    predict_dataset(FrameByFrame(case.detector), case.dataset, out)


def _single_frame_weights(case: Case, out: Path) -> None:
    assert case.single_frame_weights is not None  # rows_of
    predict_dataset(load(case.single_frame_weights), case.dataset, out)


def _turned_told(case: Case, out: Path) -> None:
    root = case.folder / "turned"
    make_turned_scenes(case.dataset.root, case.scenes, TURN_DEG, root)
    turned = NuScenesDataset(
        root,
        case.dataset.tables.version,
        scenes=case.scenes,
        bev_frame=case.dataset.bev_frame,
        class_names=case.dataset.class_names,
    )
    predict_dataset(case.detector, turned, out)


def _changed(change: Callable[[Case], NuScenesDataset]) -> Callable[[Case, Path], None]:
    def make(case: Case, out: Path) -> None:
        predict_dataset(case.detector, change(case), out)

    return make


def _grey(case: Case) -> NuScenesDataset:
    images = case.detector.config.images
    mean = images.mean if images.channel_order == "rgb" else images.mean[::-1]
    return disturbances.blanked(case.dataset, mean)


def _black(case: Case) -> NuScenesDataset:
    return disturbances.blanked(case.dataset, (0, 0, 0))


def _of_other_samples(case: Case) -> NuScenesDataset:
    return disturbances.of_other_samples(case.dataset, case.detector.config)


def _permuted(case: Case) -> NuScenesDataset:
    return disturbances.permuted_cameras(case.dataset)


def _turned(case: Case) -> NuScenesDataset:
    return disturbances.turned_calibration(case.dataset, TURN_DEG)


def _without(camera: str, case: Case) -> NuScenesDataset:
    return disturbances.without_camera(case.dataset, camera)
