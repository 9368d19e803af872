"""Stream a synthetic scene, not seen in training, through the packaged weights.

The demo makes the scene, predicts boxes frame by frame with the model's memory of past frames, and
tracks them. It prints the scores (nuScenes detection metric) without and with tracking and the
time per frame, and draws predicted and true boxes as animations and as still pictures. With weights
that have the task "traffic", it draws and scores lights, signs and cues, too. It needs no data set
and no GPU.
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

from bevstack.cli.options import add_device, add_no_verify, add_precision, rename_options

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.evaluation.scoring import Loaded
    from bevstack.render.canvas import Image
    from bevstack.runtime.detector import Detector
    from bevstack.runtime.scene_stream import StreamStep
    from bevstack.synthetic import WorldSpec

WEIGHTS = "tiny_cpu_t4_traffic"
SPLIT = "synth_test"
RESULTS = "results_nusc.json"  # with tracking
UNTRACKED = "results_untracked.json"
SEED = 24  # a sunny day, a bend and two junctions with traffic lights
NUM_FRAMES, NUM_FRAMES_QUICK = 30, 4  # key frames, 0.5 s apart
NUM_STILLS = 4
TRAFFIC = "traffic"  # task of the weights
ANIMATIONS = ("demo.gif", "demo.webp")  # for every program; smaller and in all colours
TILE_WIDTH_PX = 320  # width of a camera's picture in the animations
SECONDS_EACH = 0.25  # duration of a frame in the animations, twice as fast as real time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack demo``."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/demo"),
        metavar="DIR",
        help="folder for the results (default: %(default)s)",
    )
    parser.add_argument(
        "--weights",
        default=WEIGHTS,
        metavar="FILE",
        help="your own weights file, or the name of packaged weights (default: %(default)s)",
    )
    add_no_verify(parser)
    parser.add_argument(
        "--seed",
        type=int,
        default=SEED,
        metavar="N",
        help="seed of the scene (default: %(default)s)",
    )
    add_device(parser)
    add_precision(parser)
    rename_options(parser, {"--model": "--weights"})
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"make only {NUM_FRAMES_QUICK} of {NUM_FRAMES} frames",
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo.

    Raises:
        FileNotFoundError: there is no such weights file.
        ValueError: the seed is that of a training world.
    """
    from bevstack.training.progress_bar import make_console

    console = make_console()
    detector = _load(args, console)
    args.out.mkdir(parents=True, exist_ok=True)
    spec = _world_spec(args.seed, args.quick, lights=TRAFFIC in detector.tasks)
    dataset = _make_scene(args.out, spec, detector, console)
    untracked = _stream(detector, dataset, console)
    tracked, identities = _track(untracked, detector, console)
    loaded = _score(untracked, tracked, detector, dataset, args.out, console)
    _print_limits_of_scores(loaded, console)
    if TRAFFIC in detector.tasks:
        from bevstack.cli.demo_traffic import print_traffic

        print_traffic(tracked, detector, dataset, args.out, split=SPLIT)
    _draw(tracked, identities, dataset, args.out, console)
    return 0


def _load(args: argparse.Namespace, console: Console) -> Detector:
    from bevstack.runtime.devices import choose_device
    from bevstack.runtime.loading import load
    from bevstack.runtime.shipped import packaged_weights, weights_path

    if args.weights == WEIGHTS and WEIGHTS not in packaged_weights():
        raise FileNotFoundError(
            f"the packaged weights {WEIGHTS} must be installed; got none; train a model with "
            "`make train-demo` and use it with --weights out/train_demo/model.safetensors"
        )
    device = choose_device(args.device)
    detector = load(args.weights, device, verify=args.verify, precision=args.precision)
    parameters = sum(p.numel() for p in detector.model.parameters()) / 1e6
    frames = detector.config.frames
    history = f"history of {-frames[0]} frames" if frames[0] else "no history"
    console.print(f"model: {weights_path(args.weights)}, {parameters:.1f} M parameters, {history}")
    return detector


def _world_spec(seed: int, quick: bool, *, lights: bool = False) -> WorldSpec:
    from bevstack.synthetic import PRESETS, WorldSpec

    preset_seeds = {spec.seed for spec in PRESETS.values()}
    if seed in preset_seeds:
        raise ValueError(
            "seed must differ from the seeds of `bevstack make-world --preset`, "
            f"{', '.join(map(str, sorted(preset_seeds)))}, whose scenes models may be trained on; "
            f"got {seed}"
        )
    count = NUM_FRAMES_QUICK if quick else NUM_FRAMES
    spec = WorldSpec(
        seed=seed, train_scenes=0, val_scenes=0, test_scenes=1, samples_per_scene=count
    )
    if not lights:
        return spec
    look = PRESETS["lights"]  # far lights are readable only in larger images
    return dataclasses.replace(spec, traffic=look.traffic, image_size=look.image_size)


def _make_scene(
    out: Path, spec: WorldSpec, detector: Detector, console: Console
) -> NuScenesDataset:
    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.synthetic import make_world

    look = "_lights" if TRAFFIC in detector.tasks else ""
    root = out / f"world_{spec.seed}_{spec.samples_per_scene}{look}"
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
        f"scene: {dataset.scene_names[0]} of the test split, seed {spec.seed}: {summary.samples} "
        f"key frames at 2 Hz, {summary.annotations} boxes, made in {summary.seconds:.0f} s"
    )
    return dataset


def _stream(detector: Detector, dataset: NuScenesDataset, console: Console) -> list[StreamStep]:
    from bevstack.runtime.scene_stream import stream_scene
    from bevstack.types import Reset

    with console.status("streaming the scene through the model"):
        steps = list(stream_scene(detector, dataset, dataset.scene_names[0]))
    for index, step in enumerate(steps):
        if step.reset not in (Reset.NONE, Reset.START) or (index and step.reset is Reset.START):
            console.print(f"frame {index}: history reset ({step.reset.name})")
    first, *later = (1e3 * step.seconds for step in steps)
    console.print(
        f"time per frame: median {statistics.median(later):.0f} ms (first frame: {first:.0f} ms) "
        f"from images in memory to boxes, on {detector.device}"
    )
    return steps


def _track(
    steps: Sequence[StreamStep], detector: Detector, console: Console
) -> tuple[list[StreamStep], list[Tensor]]:
    """Return the same steps with the boxes of the tracks, and the identities of these boxes."""
    from bevstack.config.tracking import TrackingConfig
    from bevstack.runtime.tracked import FrameTracker

    tracker, tracked, identities, times_ms = FrameTracker(TrackingConfig()), [], [], []
    for step in steps:
        started = time.perf_counter()
        boxes = tracker.step(step.frame, step.detections)[: detector.config.decoder.max_detections]
        times_ms.append(1e3 * (time.perf_counter() - started))
        tracked.append(dataclasses.replace(step, detections=boxes))
        identities.append(tracker.tracks.identity[: len(boxes)])
    console.print(f"time of tracking per frame: median {statistics.median(times_ms):.0f} ms")
    return tracked, identities


def _score(
    untracked: Sequence[StreamStep],
    tracked: Sequence[StreamStep],
    detector: Detector,
    dataset: NuScenesDataset,
    out: Path,
    console: Console,
) -> Loaded:
    """Write and score both results, print the table; return the tracked boxes and the truth."""
    from bevstack.cli.evaluate_tables import print_metrics
    from bevstack.evaluation.detection3d.metric_config import MetricConfig
    from bevstack.evaluation.results.result_boxes import results_of_frame
    from bevstack.evaluation.results.submission import write_submission
    from bevstack.evaluation.scoring import load, score, write_metrics

    names, config, rows = detector.class_names, MetricConfig(), []
    for file, steps, title in (
        (UNTRACKED, untracked, "streamed"),
        (RESULTS, tracked, "tracked"),
    ):
        results = {
            step.frame.sample_token: results_of_frame(step.detections, step.frame, names)
            for step in steps
        }
        write_submission(out / file, results)
        with console.status("scoring"):
            loaded = load(out / file, dataset.tables, SPLIT)
            scored = score(loaded, config)
        rows.append((title, scored.metrics))
    write_metrics(out, scored, config)
    console.print(
        f"\nnuScenes metric of {detector.config.name} on this scene, {len(tracked)} samples:"
    )
    print_metrics(console, rows, per_class=True)
    return loaded


def _print_limits_of_scores(loaded: Loaded, console: Console) -> None:
    from bevstack.evaluation.detection3d.evaluator import scored_boxes
    from bevstack.evaluation.detection3d.metric_config import MetricConfig
    from bevstack.vocabulary import DETECTION_CLASSES

    _, truth = scored_boxes(loaded.submission.boxes, loaded.truth, MetricConfig())
    absent = [
        name
        for name, class_truth in zip(DETECTION_CLASSES, truth.by_label(), strict=True)
        if not len(class_truth.rows)
    ]
    if absent:
        console.print(
            f"\nThis scene has no scored true box of {', '.join(absent)}: as in the devkit, "
            "these classes have AP 0 and errors of 1."
        )
    console.print(
        f"\nOne scene with {len(truth.rows)} scored boxes is little data: scores of another seed "
        "differ."
    )
    console.print(
        "This world is synthetic: its NDS is not comparable with published nuScenes figures."
    )


def _draw(
    steps: Sequence[StreamStep],
    identities: Sequence[Tensor],  # tracks of each step's boxes
    dataset: NuScenesDataset,
    out: Path,
    console: Console,
) -> None:
    from bevstack.file_names import safe_name
    from bevstack.render import SheetStyle, write_animation, write_picture
    from bevstack.runtime.pictures import PictureOptions, draw_frame
    from bevstack.runtime.surroundings import SceneSurroundings
    from bevstack.runtime.traffic_pictures import find_true_traffic, state_layer

    scene = dataset.scene_names[0]
    surroundings = SceneSurroundings(dataset, scene)
    truth = find_true_traffic(dataset.tables)

    def sheet(index: int, options: PictureOptions) -> Image:
        step = steps[index]
        return draw_frame(
            step.frame,
            step.detections,
            dataset.class_names,
            title=f"{scene}, {_time_s(steps, index):.1f} s",
            options=options,
            identities=identities[index],
            surroundings=surroundings.around(step.frame),
            traffic=state_layer(step.frame, step.state, truth),
        )

    options = PictureOptions(min_score=_score_threshold(steps))
    small = dataclasses.replace(options, sheet=SheetStyle(tile_width_px=TILE_WIDTH_PX))
    with console.status("drawing"):
        sheets = [sheet(index, small) for index in range(len(steps))]
        animations = [
            write_animation(out / name, sheets, seconds_each=SECONDS_EACH) for name in ANIMATIONS
        ]
        shown = sorted(
            {round((i + 0.5) * len(steps) / NUM_STILLS - 0.5) for i in range(NUM_STILLS)}
        )
        stills = [
            write_picture(
                out / "stills" / f"{safe_name(scene)}_{index:03d}.png", sheet(index, options)
            )
            for index in shown
        ]
    console.print(f"\nanimations of predicted and true boxes: {', '.join(map(str, animations))}")
    console.print(
        f"drawn: predictions with a score of at least {options.min_score:.2f}, as many as there "
        "are true boxes, without near duplicates"
    )
    for still in stills:
        console.print(f"still: {still}")
    console.print(f"results: {out / RESULTS}, metrics: {out / 'metrics_summary.json'}")


def _score_threshold(steps: Sequence[StreamStep]) -> float:
    """Return the score that is reached by as many predictions as the scene has true boxes.

    A fixed threshold would hide all boxes of a model whose scores are low, for example early in
    training.
    """
    import numpy as np

    scores = np.concatenate([step.detections.scores.cpu().numpy() for step in steps])
    true = [step.frame.annotations for step in steps]
    count = sum(len(boxes) for boxes in true if boxes is not None)
    if not 0 < count < len(scores):
        return 0.0
    score = float(np.partition(scores, -count)[-count])
    return math.floor(score * 1000) / 1000


def _time_s(steps: Sequence[StreamStep], index: int) -> float:
    return (steps[index].frame.timestamp_us - steps[0].frame.timestamp_us) * 1e-6
