"""Streams a synthetic scene that no training saw through the weights that come with bevstack.

Makes the scene, gives it to the model frame by frame with what it remembers, tracks what it finds,
scores the boxes with nuScenes' own metric, tells the time a frame takes, and draws predicted and
true boxes: an animation and stills. Needs no data set and no GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.evaluation.scoring import Loaded
    from bevstack.render.canvas import Image
    from bevstack.runtime.detector import Detector
    from bevstack.runtime.predict import StreamStep
    from bevstack.synthetic import WorldSpec

WEIGHTS = "tiny_cpu_t4"
SPLIT = "synth_test"
RESULTS = "results_nusc.json"  # of the tracks
UNTRACKED = "results_untracked.json"
SEED = 24  # day, sun, a bend and two junctions with traffic lights
NUM_FRAMES, NUM_FRAMES_QUICK = 30, 4  # key frames, 0.5 s apart
NUM_STILLS = 4
TILE_WIDTH_PX = 288  # of a camera in the animation
SECONDS_EACH = 0.25  # of a frame in the animation: twice as fast as driven


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack demo``."""
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--model",
        default=WEIGHTS,
        metavar="FILE",
        help="weights of your own, or a packaged name (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=SEED, metavar="N", help="another scene (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"{NUM_FRAMES_QUICK} frames only")


def run(args: argparse.Namespace) -> int:
    """Runs the demo."""
    from bevstack.training.progress_bar import make_console

    console = make_console()
    detector = _load(args.model, args.device, console)
    args.out.mkdir(parents=True, exist_ok=True)
    dataset = _make_scene(args.out, _world_spec(args.seed, args.quick), detector, console)
    alone = _stream(detector, dataset, console)
    steps = _track(alone, detector, console)
    _say_what_it_means(_score(alone, steps, detector, dataset, args.out, console), console)
    _draw(steps, detector.class_names, dataset.scene_names[0], args.out, console)
    return 0


def _load(model: str, device: str, console: Console) -> Detector:
    from bevstack.runtime.detector import load
    from bevstack.runtime.shipped import packaged_weights, weights_path

    if model == WEIGHTS and WEIGHTS not in packaged_weights():
        raise FileNotFoundError(
            f"the weights {WEIGHTS} must come with bevstack; got none in this installation; train "
            "some with `make train-demo` and give them as --model out/train_demo/model.safetensors"
        )
    detector = load(model, device)
    parameters = sum(p.numel() for p in detector.model.parameters()) / 1e6
    frames = detector.config.frames
    memory = f"history of {-frames[0]} frames" if frames[0] else "no history"
    console.print(f"model: {weights_path(model)}, {parameters:.1f} M parameters, {memory}")
    return detector


def _world_spec(seed: int, quick: bool) -> WorldSpec:
    from bevstack.synthetic import PRESETS, WorldSpec

    taken = {spec.seed for spec in PRESETS.values()}
    if seed in taken:
        raise ValueError(
            f"seed must be another than that of the worlds of `bevstack make-world --preset`, "
            f"{', '.join(map(str, sorted(taken)))}, so that no training saw the scene; got {seed}"
        )
    count = NUM_FRAMES_QUICK if quick else NUM_FRAMES
    return WorldSpec(
        seed=seed, train_scenes=0, val_scenes=0, test_scenes=1, samples_per_scene=count
    )


def _make_scene(
    out: Path, spec: WorldSpec, detector: Detector, console: Console
) -> NuScenesDataset:
    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.synthetic import make_world

    root = out / f"world_{spec.seed}_{spec.samples_per_scene}"
    with console.status("making a synthetic scene"):
        summary = make_world(root, spec)
    dataset = NuScenesDataset(
        root,
        spec.version,
        split=SPLIT,
        bev_frame=detector.config.grid.frame,
        class_names=detector.class_names,
    )
    console.print(
        f"scene: {dataset.scene_names[0]} of the test family, seed {spec.seed}, {summary.samples} "
        f"key frames 0.5 s apart, {summary.annotations} boxes, made in {summary.seconds:.0f} s"
    )
    return dataset


def _stream(detector: Detector, dataset: NuScenesDataset, console: Console) -> list[StreamStep]:
    from bevstack.runtime.predict import stream_scene
    from bevstack.types import Reset

    with console.status("streaming the scene through the model"):
        steps = list(stream_scene(detector, dataset, dataset.scene_names[0]))
    for place, step in enumerate(steps):
        if step.reset not in (Reset.NONE, Reset.START) or (place and step.reset is Reset.START):
            console.print(f"frame {place}: history started anew ({step.reset.name})")
    first, *later = (1e3 * step.seconds for step in steps)
    console.print(
        f"time a frame: median {statistics.median(later):.0f} ms "
        f"(the first {first:.0f} ms), images in memory to boxes, on {detector.device}"
    )
    return steps


def _track(steps: Sequence[StreamStep], detector: Detector, console: Console) -> list[StreamStep]:
    """The same steps with the boxes of what was tracked until then."""
    from bevstack.config.tracking import TrackingConfig
    from bevstack.runtime.tracked import FrameTracker

    tracker, tracked, times_ms = FrameTracker(TrackingConfig()), [], []
    for step in steps:
        started = time.perf_counter()
        known = tracker.step(step.frame, step.detections)[: detector.config.decoder.max_detections]
        times_ms.append(1e3 * (time.perf_counter() - started))
        tracked.append(dataclasses.replace(step, detections=known))
    console.print(f"tracking: median {statistics.median(times_ms):.0f} ms more")
    return tracked


def _score(
    alone: Sequence[StreamStep],
    steps: Sequence[StreamStep],
    detector: Detector,
    dataset: NuScenesDataset,
    out: Path,
    console: Console,
) -> Loaded:
    """Writes and scores the results, prints the table; gives what was scored of the tracks."""
    from bevstack.evaluation.detection3d.metric_config import MetricConfig
    from bevstack.evaluation.detection3d.metrics import format_table
    from bevstack.evaluation.results.result_boxes import results_of_frame
    from bevstack.evaluation.results.submission import write_submission
    from bevstack.evaluation.scoring import load, score, write_metrics

    names, config, rows = detector.class_names, MetricConfig(), []
    for file, of_file, about in (
        (UNTRACKED, alone, "streamed"),
        (RESULTS, steps, "tracked"),
    ):
        results = {
            step.frame.sample_token: results_of_frame(step.detections, step.frame, names)
            for step in of_file
        }
        write_submission(out / file, results)
        with console.status("scoring"):
            loaded = load(out / file, dataset.tables, SPLIT)
            scored = score(loaded, config)
        rows.append((about, scored.metrics))
    write_metrics(out, scored, config)
    console.print(f"\nthis scene, {len(steps)} samples, {detector.config.name}, nuScenes' metric:")
    console.print(format_table(rows, per_class=True))
    return loaded


def _say_what_it_means(loaded: Loaded, console: Console) -> None:
    from bevstack.evaluation.detection3d.evaluator import scored_boxes
    from bevstack.evaluation.detection3d.metric_config import MetricConfig
    from bevstack.vocabulary import DETECTION_CLASSES

    _, truth = scored_boxes(loaded.submission.boxes, loaded.truth, MetricConfig())
    absent = [
        name
        for name, of_class in zip(DETECTION_CLASSES, truth.by_label(), strict=True)
        if not len(of_class.rows)
    ]
    if absent:
        console.print(
            f"\nNo true box of {', '.join(absent)} counts here: as to the devkit, such a class has "
            "AP 0 and errors of 1."
        )
    console.print(
        f"\nOne scene with {len(truth.rows)} boxes that count is little: another seed scores "
        "otherwise."
    )
    console.print(
        "This world is synthetic: its NDS is not comparable with published nuScenes figures."
    )


def _draw(
    steps: Sequence[StreamStep],
    class_names: Sequence[str],
    scene: str,
    out: Path,
    console: Console,
) -> None:
    from bevstack.render import SheetStyle, write_animation, write_picture
    from bevstack.runtime.pictures import PictureOptions, draw_frame

    def sheet(place: int, options: PictureOptions) -> Image:
        step = steps[place]
        title = f"{scene}, {_time_s(steps, place):.1f} s"
        return draw_frame(step.frame, step.detections, class_names, title=title, options=options)

    drawn = PictureOptions(min_score=_score_of_as_many_as_true(steps))
    small = dataclasses.replace(drawn, sheet=SheetStyle(tile_width_px=TILE_WIDTH_PX))
    with console.status("drawing"):
        film = write_animation(
            out / "demo.gif",
            [sheet(place, small) for place in range(len(steps))],
            seconds_each=SECONDS_EACH,
        )
        shown = sorted(
            {round((i + 0.5) * len(steps) / NUM_STILLS - 0.5) for i in range(NUM_STILLS)}
        )
        stills = [
            write_picture(out / "stills" / f"{scene}_{place:03d}.png", sheet(place, drawn))
            for place in shown
        ]
    console.print(f"\nanimation, predicted and true boxes: {film}")
    console.print(
        f"drawn: predictions that score {drawn.min_score:.2f} or more, as many in all as there are "
        "true boxes"
    )
    for still in stills:
        console.print(f"still: {still}")
    console.print(f"results: {out / RESULTS}, metrics: {out / 'metrics_summary.json'}")


def _score_of_as_many_as_true(steps: Sequence[StreamStep]) -> float:
    """The score that as many predictions of the scene reach as it has true boxes.

    How high a model scores says nothing of what is worth drawing: half-trained ones score low.
    """
    import numpy as np

    scores = np.concatenate([step.detections.scores.cpu().numpy() for step in steps])
    true = [step.frame.annotations for step in steps]
    count = sum(len(boxes) for boxes in true if boxes is not None)
    if not 0 < count < len(scores):
        return 0.0
    score = float(np.partition(scores, -count)[-count])
    return math.floor(score * 1000) / 1000


def _time_s(steps: Sequence[StreamStep], place: int) -> float:
    return (steps[place].frame.timestamp_us - steps[0].frame.timestamp_us) * 1e-6
