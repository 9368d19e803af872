"""Prediction over a data set: sharded by scene, resumable, merged into one submission."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bevstack.config import Config
from bevstack.datasets.clips import load_clip
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.sampling import scene_owners
from bevstack.evaluation.results.result_boxes import results_of_frame
from bevstack.evaluation.results.submission import write_submission
from bevstack.evaluation.traffic.traffic_frames import (
    TrafficFrame,
    writing_traffic_frames,
)
from bevstack.file_bytes import read_bytes
from bevstack.files import naming, safe_name, write_text_atomically
from bevstack.json_files import expect_object, parse_json, read_json
from bevstack.runtime.detections_file import write_detections
from bevstack.runtime.predict_cues import (
    CueOptions,
    CueRecorder,
    SceneCues,
    copy_cues_part,
    describe_cues,
    recording_cues,
    require_cue_source,
    write_cues_part,
)
from bevstack.runtime.predict_tracks import TrackOptions, merge_tracks, recorded
from bevstack.runtime.rig import frame_from_rig, read_rig
from bevstack.runtime.stream_protocol import FrameDetector, Stream, StreamState
from bevstack.runtime.with_cues import find_cue_source, without_cues
from bevstack.types import Detections, Frame, Reset

_LOG = logging.getLogger(__name__)
Progress = Callable[[int, int], None]  # samples done, samples of this process


@dataclass(frozen=True)
class Shard:
    """Rank of this process among those that share the work."""

    rank: int = 0
    world_size: int = 1

    def barrier(self) -> None:
        """Wait for the other processes."""
        if self.world_size > 1:
            torch.distributed.barrier()


def join_processes() -> Shard:
    """Return this process's rank under ``torchrun``; rank 0 of 1 otherwise."""
    if not torch.distributed.is_torchelastic_launched():
        return Shard()
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    return Shard(torch.distributed.get_rank(), torch.distributed.get_world_size())


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
    _open_parts(parts, fingerprint(detector, dataset, scene_cues) + mark, shard)
    scenes = dataset.scene_indices()
    owners = scene_owners([len(indices) for indices in scenes.values()], shard.world_size)
    own_scenes = [s for s, owner in zip(scenes.items(), owners, strict=True) if owner == shard.rank]
    total = sum(len(indices) for _, indices in own_scenes)
    done = 0
    for scene, indices in own_scenes:
        part = _part_path(parts, scene)
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
            _merge_cues(parts, list(scenes), cues, detector)
        if tracks is not None:
            merge_tracks([_part_path(parts, scene) for scene in scenes], tracks)
        _merge(parts, list(scenes), out)
    shard.barrier()
    return sorted(missing)


def predict_rig(
    detector: FrameDetector,
    rig_path: Path,
    images: Path,
    out: Path,
    *,
    lost: Sequence[str] = (),
    allow_outside: bool = False,
    cues: Path | None = None,
) -> int:
    """Predict one frame of a rig and write its boxes, in the ego frame, as JSON.

    ``cues`` is a further file, for lights and signs and what they mean for the vehicle.

    Returns:
        The number of boxes.

    Raises:
        FileNotFoundError: the rig file or an image is missing.
        ValueError: the rig file or an image is damaged, they do not fit, every camera is lost, or
            ``cues`` are wanted of a detector that gives none.
        OSError: ``out`` cannot be written.
    """
    rig = read_rig(rig_path)
    with recording_cues(detector, cues) as record:
        frame = frame_from_rig(rig, images, lost, allow_outside=allow_outside)
        detections = detector.predict(frame)
        record(frame)
    write_detections(out, detections, detector.class_names, rig.timestamp_us)
    return len(detections)


@dataclass(frozen=True)
class StreamStep:
    """Result of one step of a stream."""

    frame: Frame
    detections: Detections  # best first, in the frame's bev frame
    seconds: float  # from the frame in memory to its boxes in memory: preparation and model
    reset: Reset  # reason why no history was used, or NONE
    state: StreamState  # all that the stream knows after the step, cues among them


def stream_scene(
    detector: FrameDetector, dataset: NuScenesDataset, scene: str
) -> Iterator[StreamStep]:
    """Stream the key frames of a scene through a detector, in order of time.

    The measured time does not include reading the images.

    Raises:
        ValueError: the data set has no such scene, or the detector uses future frames.
        FileNotFoundError: an image is missing.
    """
    scenes = dataset.scene_indices()
    if scene not in scenes:
        raise ValueError(f"scene must be one of {', '.join(scenes)}; got {scene!r}")
    images_for = detector.config if find_cue_source(detector) is None else None
    return _stream_frames(detector.stream(), dataset, scenes[scene], images_for)


def _stream_frames(
    stream: Stream, dataset: NuScenesDataset, indices: Iterable[int], images_for: Config | None
) -> Iterator[StreamStep]:
    for index in indices:
        frame = dataset.frame(index, images_for=images_for)
        started = time.perf_counter()
        detections = stream.step(frame)  # the boxes are on the CPU, so the device has finished
        seconds = time.perf_counter() - started
        yield StreamStep(frame, detections, seconds, stream.reset, stream.state)


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
        stream = without_cues(detector.stream())  # the recorder computes them
        steps = _stream_frames(stream, dataset, indices, images_for)
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
        write_cues_part(_cues_part(part), cues)
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


def _part_path(parts: Path, scene: str) -> Path:
    """Return the file of a finished scene, beside the manifest, whatever the scene's name."""
    name = "manifest/" if scene == "manifest" else scene  # not the file of ``_open_parts``
    return parts / f"{safe_name(name)}.json"


def _cues_part(part: Path) -> Path:
    """Return the file of a finished scene's cues, in a folder of its own, whatever its name."""
    return part.parent / "cues" / part.name


def _merge_cues(
    parts: Path, scenes: Sequence[str], cues: CueOptions, detector: FrameDetector
) -> None:
    meta = describe_cues(detector, sweeps=cues.sweeps)
    with writing_traffic_frames(cues.out, meta) as writer:
        for scene in scenes:
            copy_cues_part(_cues_part(_part_path(parts, scene)), writer)


def _merge(parts: Path, scenes: Sequence[str], out: Path) -> None:
    results: dict[str, list[dict[str, object]]] = {}
    for scene in scenes:
        results |= _read_part(_part_path(parts, scene))
    write_submission(out, results)
    with naming(parts):
        shutil.rmtree(parts)


def _read_part(part: Path) -> dict[str, list[dict[str, object]]]:
    data = read_bytes(part, "part of the results", max_bytes=None)
    results = parse_json(data, "part of the results", place=f" in {part}")
    return expect_object(f"part of the results {part}", results)


def _open_parts(parts: Path, expected: str, shard: Shard) -> None:
    """Create the folder of finished scenes, or check that its fingerprint is the expected one."""
    manifest = parts / "manifest.json"
    if shard.rank == 0 and not manifest.is_file():
        parts.mkdir(parents=True, exist_ok=True)
        write_text_atomically(manifest, json.dumps({"fingerprint": expected}))
    shard.barrier()
    stored = read_json(manifest, "manifest of finished scenes")
    stored = stored.get("fingerprint") if isinstance(stored, dict) else None
    if stored != expected:
        raise ValueError(
            f"{parts} must hold scenes of the same model and data set; got scenes of another one: "
            "remove it, or give another --out"
        )


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
