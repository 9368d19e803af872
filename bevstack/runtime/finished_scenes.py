"""Files of the scenes that a prediction has finished, shared by its processes and restarts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bevstack.evaluation.results.submission import write_submission
from bevstack.evaluation.traffic.traffic_frames import writing_traffic_frames
from bevstack.file_bytes import read_bytes
from bevstack.file_names import safe_name
from bevstack.files import naming, write_text_atomically
from bevstack.json_files import expect_object, parse_json, read_json
from bevstack.runtime.predict_cues import CueOptions, copy_cues_part, describe_cues
from bevstack.runtime.stream_protocol import FrameDetector


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


def part_path(parts: Path, scene: str) -> Path:
    """Return the file of a finished scene, beside the manifest, whatever the scene's name."""
    name = "manifest/" if scene == "manifest" else scene  # not the file of ``open_parts``
    return parts / f"{safe_name(name)}.json"


def cues_part(part: Path) -> Path:
    """Return the file of a finished scene's cues, in a folder of its own, whatever its name."""
    return part.parent / "cues" / part.name


def merge_cues(
    parts: Path, scenes: Sequence[str], cues: CueOptions, detector: FrameDetector
) -> None:
    """Write the file of the cues out of those of the finished scenes, in the given order.

    Raises:
        FileNotFoundError: a scene is not finished.
        ValueError: the file of a scene is damaged.
        OSError: the file cannot be written.
    """
    meta = describe_cues(detector, cues)
    with writing_traffic_frames(cues.out, meta) as writer:
        for scene in scenes:
            copy_cues_part(cues_part(part_path(parts, scene)), writer)


def merge_results(parts: Path, scenes: Sequence[str], out: Path) -> None:
    """Write the submission out of the finished scenes, in the given order, and remove their folder.

    Raises:
        FileNotFoundError: a scene is not finished.
        ValueError: the file of a scene is damaged.
        OSError: the submission cannot be written.
    """
    results: dict[str, list[dict[str, object]]] = {}
    for scene in scenes:
        results |= _read_part(part_path(parts, scene))
    write_submission(out, results)
    with naming(parts):
        shutil.rmtree(parts)


def _read_part(part: Path) -> dict[str, list[dict[str, object]]]:
    data = read_bytes(part, "part of the results", max_bytes=None)
    results = parse_json(data, "part of the results", place=f" in {part}")
    return expect_object(f"part of the results {part}", results)


def open_parts(parts: Path, expected: str, shard: Shard) -> None:
    """Create the folder of finished scenes, or check that its fingerprint is the expected one.

    Raises:
        ValueError: the folder holds scenes of another model or data set.
    """
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
