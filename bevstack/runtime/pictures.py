"""Pictures of results and data sets: this file reads them, ``bevstack.render`` draws them."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.results.submission import read_submission
from bevstack.file_names import safe_name
from bevstack.geometry import invert_se3
from bevstack.render import (
    Selection,
    SheetStyle,
    Surroundings,
    TrafficLayer,
    choose_detections,
    draw_sheet,
    make_layers,
    write_picture,
)
from bevstack.runtime.detections_file import read_detections
from bevstack.runtime.frame_detections_file import read_frame_detections
from bevstack.runtime.frame_source import FrameSource
from bevstack.runtime.rig import frame_from_rig, read_rig
from bevstack.runtime.surroundings import SceneSurroundings
from bevstack.runtime.traffic_pictures import (
    find_predicted_traffic,
    find_true_traffic,
    traffic_layer,
)
from bevstack.tables.classes import Classes
from bevstack.tables.reader import Tables
from bevstack.types import Detections, Frame


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """Selection of the drawn boxes and size of the picture.

    Raises:
        ValueError: ``max_boxes`` is negative.
    """

    min_score: float = 0.2  # predicted boxes with a lower score are not drawn
    max_boxes: int = 60  # greatest number of predicted boxes, best first
    with_truth: bool = True  # draw true boxes too, if there are any
    sheet: SheetStyle = field(default_factory=SheetStyle)

    def __post_init__(self) -> None:
        if self.max_boxes < 0:
            raise ValueError(f"max_boxes must be 0 or more; got {self.max_boxes}")


def draw_frame(
    frame: Frame,
    detections: Detections | None,  # in the frame's bev frame; None: draw only true boxes
    class_names: Sequence[str],
    *,
    title: str = "",
    options: PictureOptions | None = None,
    identities: Tensor | None = None,  # (D,) int64, tracks of the detections
    surroundings: Surroundings | None = None,  # in the ego frame
    traffic: TrafficLayer | None = None,  # in the ego frame
) -> NDArray[np.uint8]:  # (H, W, 3) RGB
    """Draw the cameras and the views from above of a frame with predicted and true boxes.

    Predicted boxes that repeat a better one are left out (``bevstack.render.choose_detections``).
    True boxes without a lidar or radar point inside are left out: they are not scored, and most
    are hidden. No data set is needed: the frame may come from any rig.
    """
    options = options or PictureOptions()
    annotations = frame.annotations if options.with_truth else None
    if annotations is not None:
        annotations = annotations[annotations.num_points != 0]
    caption = "" if annotations is None else f"{len(annotations)} true boxes"
    if detections is not None:
        selection = choose_detections(
            detections, min_score=options.min_score, max_boxes=options.max_boxes
        )
        caption = "; ".join(filter(None, (_describe(detections, selection, options), caption)))
        identities = None if identities is None else identities[selection.rows]
        detections = detections[selection.rows]
    layers = make_layers(detections, annotations, identities)
    canvas = draw_sheet(
        frame,
        layers,
        tuple(class_names),
        title=title,
        caption=caption,
        style=options.sheet,
        surroundings=surroundings,
        traffic=traffic,
    )
    return canvas.pixels


def _describe(detections: Detections, selection: Selection, options: PictureOptions) -> str:
    """Return the numbers of drawn and left out predictions, and the score that they reach."""
    count = len(detections)
    best = f", best {float(detections.scores.max()):.2f}" if count else ""
    text = f"{len(selection.rows)} of {count} predicted boxes, score >= {options.min_score:g}{best}"
    if selection.duplicates:
        text += f", {selection.duplicates} near duplicates left out"
    return text


def draw_results(
    root: Path | str,
    version: str,
    results_path: Path | str | None,
    out_dir: Path | str,
    *,
    scenes: Sequence[str] | None = None,
    samples: Sequence[str] | None = None,
    max_samples: int | None = None,
    min_score: float = 0.2,
    with_truth: bool = True,
    classes: Classes | Path | str | None = None,
    sheet: SheetStyle | None = None,
    allow_outside: bool = False,
    cues: Path | None = None,
    manoeuvre: str = "",
) -> list[Path]:
    """Draw the samples of a results file, in the ego frame, one picture each.

    True lights and signs are drawn if the data set has their table, predicted ones and the cue if
    there is a file of cues.

    Args:
        root: folder of a data set in nuScenes' format.
        version: folder of its tables.
        results_path: results file of the nuScenes detection task; None: draw the truth alone.
        out_dir: folder for the pictures; created if missing.
        scenes: draw only samples of these scenes.
        samples: draw only samples with these tokens.
        max_samples: draw at most this number, the first ones.
        min_score: predicted boxes with a lower score are not drawn.
        with_truth: draw true boxes too, if the data set has them.
        classes: classes of categories that are not nuScenes'; see ``Tables``.
        sheet: size of the pictures.
        allow_outside: the tables are trusted, and may name images outside of ``root``.
        cues: file of cues; None: the one beside the results, if there is one.
        manoeuvre: whose advice the panel shows; "": that of the tables, else going straight.

    Returns:
        Paths of the pictures, ``<scene>_<key frame>.jpg`` made a ``safe_name``, in the order of the
        data set.

    Raises:
        FileNotFoundError: the results, a table or an image is missing.
        ValueError: a scene or sample does not exist, or there is no sample to draw.
        OSError: the folder cannot be written.
    """
    submission = None if results_path is None else read_submission(results_path)
    predicted = find_predicted_traffic(None if results_path is None else Path(results_path), cues)
    tables = Tables(root, version, classes=classes, allow_outside=allow_outside)
    dataset = NuScenesDataset(tables, scenes=scenes)
    if not with_truth:
        dataset = dataset.without_annotations()
    available = None if submission is None else submission.sample_tokens
    chosen = _choose(dataset, available, samples)[:max_samples]
    truth = find_true_traffic(tables) if with_truth else None
    around: dict[str, SceneSurroundings] = {}
    options = PictureOptions(
        min_score=min_score, with_truth=with_truth, sheet=sheet or SheetStyle()
    )
    paths = []
    for index, scene, name in chosen:
        frame = dataset.frame(index)
        assert frame.world_from_ego is not None  # the tables hold every pose
        bev_from_world = invert_se3(frame.world_from_ego)
        detections = None
        if submission is not None:
            detections = submission.select_sample(frame.sample_token).detections(bev_from_world)
        if scene not in around:  # keep one scene's map in memory
            around = {scene: SceneSurroundings(dataset, scene)}
        picture = draw_frame(
            frame,
            detections,
            dataset.class_names,
            title=name,
            options=options,
            surroundings=around[scene].around(frame),
            traffic=traffic_layer(frame, predicted, truth, manoeuvre=manoeuvre),
        )
        paths.append(write_picture(Path(out_dir) / f"{safe_name(name)}.jpg", picture))
    return paths


def draw_rig_results(
    rig_path: Path | str,
    images: Path | str,
    results_path: Path | str,
    out_dir: Path | str,
    *,
    lost: Collection[str] = (),
    min_score: float = 0.2,
    sheet: SheetStyle | None = None,
    allow_outside: bool = False,
    cues: Path | None = None,
    manoeuvre: str = "",
) -> Path:
    """Draw the boxes that ``bevstack predict --rig`` detected in one frame of a rig.

    Returns:
        Path of the picture, which is named after the results file.

    Raises:
        FileNotFoundError: the results, the rig or an image is missing.
        ValueError: a file does not have its format.
        OSError: the folder cannot be written.
    """
    results_path = Path(results_path)
    detections, class_names = read_detections(results_path)
    frame = frame_from_rig(read_rig(rig_path), images, lost, allow_outside=allow_outside)
    options = PictureOptions(min_score=min_score, sheet=sheet or SheetStyle())
    predicted = find_predicted_traffic(results_path, cues)
    picture = draw_frame(
        frame,
        detections,
        class_names,
        title=results_path.stem,
        options=options,
        traffic=traffic_layer(frame, predicted, manoeuvre=manoeuvre),
    )
    return write_picture(Path(out_dir) / f"{results_path.stem}.jpg", picture)


def draw_drive_results(
    source: FrameSource,
    results_path: Path | str,
    out_dir: Path | str,
    *,
    max_frames: int | None = None,
    min_score: float = 0.2,
    sheet: SheetStyle | None = None,
    cues: Path | None = None,
    manoeuvre: str = "",
) -> list[Path]:
    """Draw the boxes that ``bevstack predict --rig --frames`` detected, one picture a frame.

    Args:
        source: the frames that were predicted.
        results_path: the results file.
        out_dir: folder for the pictures; created if missing.
        max_frames: draw at most this number, the first ones.
        min_score: boxes with a lower score are not drawn.
        sheet: size of the pictures.
        cues: file of cues; None: the one beside the results, if there is one.
        manoeuvre: whose advice the panel shows; "": going straight.

    Returns:
        Paths of the pictures, which are named after the results file and the frame's time.

    Raises:
        FileNotFoundError: the results or an image is missing.
        ValueError: a file does not have its format, or the source lacks a frame of the results.
        OSError: the folder cannot be written.
    """
    results_path = Path(results_path)
    times_us = {entry.timestamp_us for entry in read_frame_detections(results_path)[0]}
    results, class_names = read_frame_detections(results_path)
    predicted = find_predicted_traffic(results_path, cues)
    frames = source.frames(times_us=times_us)
    options = PictureOptions(min_score=min_score, sheet=sheet or SheetStyle())
    paths = []
    for result in itertools.islice(results, max_frames):
        frame = next(frames, None)
        if frame is None or frame.timestamp_us != result.timestamp_us:
            raise ValueError(
                f"frames must hold those of {results_path}; got none at {result.timestamp_us}: "
                "give the frames that were predicted"
            )
        name = f"{results_path.stem}_{result.timestamp_us}"
        picture = draw_frame(
            frame,
            result.detections,
            class_names,
            title=name,
            options=options,
            identities=result.identities,
            traffic=traffic_layer(frame, predicted, manoeuvre=manoeuvre),
        )
        paths.append(write_picture(Path(out_dir) / f"{name}.jpg", picture))
    return paths


def _choose(
    dataset: NuScenesDataset, available: Sequence[str] | None, samples: Sequence[str] | None
) -> list[tuple[int, str, str]]:
    """Return index, scene and name of the samples to draw, in the order of the data set.

    Without results (``available`` is None), all samples are available.
    """
    for token in samples or ():
        dataset.index_of(token)  # raises an error that names the token
    if available is None:
        available = [dataset.sample_token(index) for index in range(len(dataset))]
    wanted = set(available) if samples is None else set(samples)
    named = [
        (index, scene, f"{scene}_{number:03d}")
        for scene, indices in dataset.scene_indices().items()
        for number, index in enumerate(indices)
        if dataset.sample_token(index) in wanted
    ]
    if not named:
        raise ValueError(
            f"results file must hold samples of {', '.join(dataset.scene_names)}; got none of "
            f"them among its {len(available)}: check --version and --scene"
        )
    return named


__all__ = [
    "PictureOptions",
    "draw_drive_results",
    "draw_frame",
    "draw_results",
    "draw_rig_results",
]
