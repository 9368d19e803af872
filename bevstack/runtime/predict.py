"""Prediction over a data set: sharded by scene, resumable, merged into one submission."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from bevstack.config import Config
from bevstack.datasets.clips import load_clip
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.sampling import scene_owners
from bevstack.evaluation.results.result_boxes import results_of_frame
from bevstack.evaluation.traffic.traffic_frames import TrafficFrame
from bevstack.files import naming, write_text_atomically
from bevstack.runtime.finished_scenes import (
    Shard,
    cues_part,
    merge_cues,
    merge_results,
    open_parts,
    part_path,
)
from bevstack.runtime.predict_cues import (
    CueOptions,
    CueRecorder,
    SceneCues,
    require_cue_source,
    write_cues_part,
)
from bevstack.runtime.predict_tracks import TrackOptions, merge_tracks, recorded
from bevstack.runtime.scene_stream import stream_frames
from bevstack.runtime.stream_protocol import FrameDetector, ignore_health
from bevstack.runtime.with_cues import without_cues
from bevstack.types import Detections, Frame

_LOG = logging.getLogger(__name__)
Progress = Callable[[int, int], None]  # samples done, samples of this process


def check_writable(out: Path) -> None:
    """Check before the work, not after it, that a result file can be written.

    Raises:
        OSError: the folder cannot be created or written, or ``out`` is a folder.
    """
    with naming(out, always=True):
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(out))
        with tempfile.TemporaryFile(dir=out.parent):
            pass


def predict_dataset(
    detector: FrameDetector,
    dataset: NuScenesDataset,
    out: Path,
    *,
    skip_missing: bool = False,
    shard: Shard | None = None,
    progress: Progress | None = None,
    cues: CueOptions | None = None,
    tracks: TrackOptions | None = None,
) -> list[str]:
    """Predict every sample of a data set and write a nuScenes submission.

    A model that uses past frames only streams through each scene in order of time; a skipped sample
    leaves a gap, like a dropped message. A model that uses future frames is given clips.

    The scenes are divided among the processes (``scene_owners``). Each finished scene is one file
    in ``<out>.parts``, which a restarted run reuses. The first process merges them in the order of
    the tables, so the submission does not depend on the number of processes.

    With ``cues``, the lights and signs of each frame and their cues are written, too, to a file of
    their own. Images are then decoded at full size. ``tracks`` are a further file.

    Returns:
        Tokens of the samples that were skipped because an image file is missing.

    Raises:
        FileNotFoundError: images are missing and ``skip_missing`` is off; names the samples.
        ValueError: ``<out>.parts`` holds scenes of another model or data set, or ``cues`` are
            wanted of a detector that gives none, or ``tracks`` of one that does not track.
    """
    shard = shard or Shard()
    scene_cues = None if cues is None else SceneCues(require_cue_source(detector), cues)
    dataset = dataset.without_annotations()
    missing = dataset.missing_images()
    if missing and not skip_missing:
        raise FileNotFoundError(_describe_missing(missing))
    parts = out.with_name(out.name + ".parts")
    mark = "" if tracks is None else tracks.fingerprint()
    open_parts(parts, fingerprint(detector, dataset, scene_cues) + mark, shard)
    scenes = dataset.scene_indices()
    owners = scene_owners([len(indices) for indices in scenes.values()], shard.world_size)
    own_scenes = [s for s, owner in zip(scenes.items(), owners, strict=True) if owner == shard.rank]
    total = sum(len(indices) for _, indices in own_scenes)
    done = 0
    for scene, indices in own_scenes:
        part = part_path(parts, scene)
        is_finished = part.is_file()
        state = "finished earlier" if is_finished else f"{len(indices)} samples"
        _LOG.info("scene %s: %s", scene, state)
        if not is_finished:
            complete = [i for i in indices if dataset.sample_token(i) not in missing]
            recorder = None
            if scene_cues is not None:
                recorder = scene_cues.recorder(dataset, complete, skip_missing)
            _predict_scene(detector, dataset, complete, part, skip_missing, recorder, tracks)
        done += len(indices)
        if progress is not None:
            progress(done, total)
    shard.barrier()
    if shard.rank == 0:
        if cues is not None:
            merge_cues(parts, list(scenes), cues, detector)
        if tracks is not None:
            merge_tracks([part_path(parts, scene) for scene in scenes], tracks)
        merge_results(parts, list(scenes), out)
    shard.barrier()
    return sorted(missing)


def _predict_scene(
    detector: FrameDetector,
    dataset: NuScenesDataset,
    indices: Sequence[int],
    part: Path,
    skip_missing: bool,
    recorder: CueRecorder | None,
    tracks: TrackOptions | None,
) -> None:
    images_for = detector.config if recorder is None else None
    if detector.config.frames[-1] > 0:
        predictions = _predict_clips(detector, dataset, indices, images_for, skip_missing)
    else:
        # The recorder computes the cues. Scores are those of the detector, whatever the pictures.
        stream = ignore_health(without_cues(detector.stream()))
        steps = stream_frames(stream, dataset, indices, images_for)
        if tracks is not None:
            steps = recorded(steps, tracks, detector.class_names, part)
        predictions = ((step.frame, step.detections) for step in steps)
    names = detector.class_names
    results: dict[str, list[dict[str, object]]] = {}
    cues: list[TrafficFrame] = []
    for frame, detections in predictions:
        results[frame.sample_token] = results_of_frame(detections, frame, names)
        cues += () if recorder is None else recorder.step(frame)
    if recorder is not None:
        cues += recorder.finish()
        write_cues_part(cues_part(part), cues)
    write_text_atomically(part, json.dumps(results))  # last: a scene with this file is finished


def _predict_clips(
    detector: FrameDetector,
    dataset: NuScenesDataset,
    indices: Iterable[int],
    images_for: Config | None,
    skip_missing: bool,
) -> Iterator[tuple[Frame, Detections]]:
    frames = detector.config.frames
    for index in indices:
        clip = load_clip(dataset, index, frames, images_for=images_for, skip_missing=skip_missing)
        yield clip.current, detector.predict_clip(clip)


def fingerprint(
    detector: FrameDetector, dataset: NuScenesDataset, cues: SceneCues | None = None
) -> str:
    """Hash the detector's fingerprint, the inference mode, that of cues, and the sample tokens."""
    digest = hashlib.sha256(f"{detector.fingerprint()} {detector.mode}".encode())
    digest.update(b"" if cues is None else cues.fingerprint().encode())
    for index in range(len(dataset)):
        digest.update(dataset.sample_token(index).encode())
    return digest.hexdigest()


def _describe_missing(missing: dict[str, list[str]], limit: int = 5) -> str:
    shown = list(missing.items())[:limit]
    lines = "; ".join(f"{token} ({files[0]})" for token, files in shown)
    more = f" and {len(missing) - limit} more samples" if len(missing) > limit else ""
    return (
        f"images of every sample must exist; got {len(missing)} samples with missing images: "
        f"{lines}{more}: complete the data set, or leave these samples out with --skip-missing"
    )
