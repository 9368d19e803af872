"""Rows of the judge's table: the model, the baselines that it must beat, and the controls.

A control is an input without the right information, on which the model must score low.
"""

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
from bevstack.experiments.judge.verdict import CORRECT_CALIBRATION, LOST, WRONG_CALIBRATION
from bevstack.runtime.detector import Detector
from bevstack.runtime.loading import load
from bevstack.runtime.mirrored import MirroredDetector
from bevstack.runtime.precision import FLOAT32
from bevstack.runtime.predict import predict_dataset
from bevstack.runtime.tracked import TrackedDetector

TURN_DEG = 2.0
MODEL, BASELINE, CONTROL = "model", "baseline", "control"


@dataclass(frozen=True, kw_only=True)
class Case:
    """The model to judge, and the data."""

    weights: Path
    single_frame_weights: Path | None
    dataset: NuScenesDataset  # the scenes to score on
    train: str  # split for the priors
    folder: Path  # for intermediate files
    verify: bool = True  # compare weights with their checksums
    device: str = "cpu"  # of the models
    precision: str = FLOAT32  # of the models

    @cached_property
    def detector(self) -> Detector:
        """Load the model from its file."""
        return load(self.weights, self.device, verify=self.verify, precision=self.precision)

    @cached_property
    def priors(self) -> ClassPriors:
        """Compute size and heading of each class from the training scenes."""
        return class_priors(self.dataset.tables, self.train)

    @property
    def scenes(self) -> tuple[str, ...]:
        """Return the names of the scenes to score on."""
        return self.dataset.scene_names


class Row(NamedTuple):
    """One row of the table: its name, and the function that makes its results file."""

    name: str
    kind: str
    about: str
    make: Callable[[Case, Path], None]  # writes the results file


def list_rows(case: Case) -> list[Row]:
    """Return all rows that are possible for a model and a dataset."""
    config = case.detector.config
    rows = [
        Row("model", MODEL, "streamed through each scene", _model),
        *_inference_rows(config),
        Row("random", BASELINE, "random boxes with the class frequencies of training", _random),
        Row("prior", BASELINE, "mean boxes of training; the best of three cell sizes", _prior),
    ]
    near_edge = {"": "", "_behind": ", with the ground contact at their near edge"}
    for suffix, words in near_edge.items():
        about = f"true 2D boxes with 1 px of noise, lifted to the ground{words}"
        for last, more, tracked in (("", "", False), ("_tracked", ", and tracked", True)):
            make = partial(_lift_true, bool(words), tracked)
            rows.append(Row(f"lift_true{suffix}{last}", BASELINE, about + more, make))
    if config.perspective is not None:
        for suffix, words in near_edge.items():
            about = f"the perspective head's 2D boxes, lifted to the ground{words}"
            rows.append(Row(f"lift_own{suffix}", BASELINE, about, partial(_lift_own, bool(words))))
        about = "the perspective head's 3D boxes, merged over all cameras"
        rows.append(Row("perspective_alone", BASELINE, about, _perspective_alone))
    if config.frames != (0,):
        about = "the same weights, each frame as the first of a stream"
        rows.append(Row("single_frame", BASELINE, about, _single_frame))
    if case.single_frame_weights is not None:
        about = f"{case.single_frame_weights.name}, streamed"
        rows.append(Row("single_frame_weights", BASELINE, about, _single_frame_weights))
    return rows + _controls(case)


def _inference_rows(config: Config) -> list[Row]:
    """Return the rows of the same weights with tracking and with mirrored frames."""
    twice, tracked = "streamed, every frame also mirrored", "objects tracked"
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
    """Return the rows on which the model must score low, and those that must cost it little."""
    blank, swap = "every image of the mean colour", "images of samples of other scenes"
    rows = [
        Row("grey_images", CONTROL, blank, _changed(_grey)),
        Row("black_images", CONTROL, "every image black", _changed(_black)),
        Row("other_samples", CONTROL, swap, _changed(_exchange_samples)),
        Row(
            "cameras_permuted",
            CONTROL,
            "each camera with the image of the next one",
            _changed(_permuted),
        ),
        Row(
            WRONG_CALIBRATION,
            CONTROL,
            f"calibration wrong by {TURN_DEG:g} degrees",
            _changed(_turned),
        ),
    ]
    if read_manifest(case.dataset.root):
        about = f"cameras and calibration turned by {TURN_DEG:g} degrees"
        rows.append(Row(CORRECT_CALIBRATION, CONTROL, about, _turned_world))
    for camera in case.dataset.frame(0, load_images=False).camera_names:
        lose = _changed(partial(_without, camera))
        rows.append(Row(LOST + camera, CONTROL, f"without the images of {camera}", lose))
    return rows


def select_rows(rows: Sequence[Row], only: Sequence[str]) -> list[Row]:
    """Return the rows of the given names or kinds; all if none is given.

    A name that ends in "_" selects all rows whose name starts with it. A name that is both a row
    and a kind selects the row alone.

    Raises:
        ValueError: a name selects no row.
    """
    names = {row.name for row in rows}

    def selects(name: str, row: Row) -> bool:
        if name in names:
            return name == row.name
        return name == row.kind or (name.endswith("_") and row.name.startswith(name))

    for name in only:
        if not any(selects(name, row) for row in rows):
            known = ", ".join(row.name for row in rows)
            raise ValueError(f"--only must name rows among {known}; got {name!r}")
    return [row for row in rows if not only or any(selects(name, row) for name in only)]


def whole_scenes(scenes: Mapping[str, Sequence[int]], max_samples: int | None) -> tuple[str, ...]:
    """Return the first scenes with at most ``max_samples`` samples together, but at least one."""
    taken: list[str] = []
    count = 0
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
    results: Entries = lift_true_boxes(
        case.dataset, case.priors, contact_at_near_edge=contact_at_near_edge, tracked=tracked
    )
    write_submission(out, results)


def _lift_own(contact_at_near_edge: bool, case: Case, out: Path) -> None:
    lifting = LiftedPerspective(
        case.detector, priors=case.priors, contact_at_near_edge=contact_at_near_edge
    )
    predict_dataset(lifting, case.dataset, out)


def _perspective_alone(case: Case, out: Path) -> None:
    predict_dataset(PerspectiveAlone(case.detector), case.dataset, out)


def _single_frame(case: Case, out: Path) -> None:
    predict_dataset(FrameByFrame(case.detector), case.dataset, out)


def _single_frame_weights(case: Case, out: Path) -> None:
    assert case.single_frame_weights is not None  # list_rows checks it
    detector = load(
        case.single_frame_weights, case.device, verify=case.verify, precision=case.precision
    )
    predict_dataset(detector, case.dataset, out)


def _turned_world(case: Case, out: Path) -> None:
    """Predict scenes that are rendered again with turned cameras and the correct calibration."""
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
    """Return the function of a row that predicts a changed dataset."""

    def make(case: Case, out: Path) -> None:
        predict_dataset(case.detector, change(case), out)

    return make


def _grey(case: Case) -> NuScenesDataset:
    images = case.detector.config.images
    mean = images.mean if images.channel_order == "rgb" else images.mean[::-1]
    return disturbances.with_blank_images(case.dataset, mean)


def _black(case: Case) -> NuScenesDataset:
    return disturbances.with_blank_images(case.dataset, (0, 0, 0))


def _exchange_samples(case: Case) -> NuScenesDataset:
    return disturbances.with_images_of_other_scenes(case.dataset, case.detector.config)


def _permuted(case: Case) -> NuScenesDataset:
    return disturbances.with_permuted_cameras(case.dataset)


def _turned(case: Case) -> NuScenesDataset:
    return disturbances.with_turned_calibration(case.dataset, TURN_DEG)


def _without(camera: str, case: Case) -> NuScenesDataset:
    return disturbances.without_camera(case.dataset, camera)
