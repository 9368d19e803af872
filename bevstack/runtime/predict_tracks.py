"""Files of tracks beside the boxes of a data set: one part a scene, merged at the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from bevstack.evaluation.tracking.track_entries import track_entries
from bevstack.evaluation.tracking.track_file import write_tracks
from bevstack.file_bytes import read_bytes
from bevstack.files import write_text_atomically
from bevstack.json_files import expect_object, parse_json
from bevstack.runtime.stream_protocol import StreamState
from bevstack.runtime.tracked import RESTARTS
from bevstack.types import Detections, Frame, Reset


class TrackedStep(Protocol):
    """Result of one step of a stream, with its tracks in the state."""

    @property
    def frame(self) -> Frame:
        """Return the frame."""

    @property
    def detections(self) -> Detections:
        """Return the boxes, which are those of the first tracks."""

    @property
    def reset(self) -> Reset:
        """Return the reason why no history was used, or NONE."""

    @property
    def state(self) -> StreamState:
        """Return all that the stream knows after the step."""


_Step = TypeVar("_Step", bound=TrackedStep)


@dataclass(frozen=True)
class TrackOptions:
    """Options of a file of tracks."""

    out: Path  # JSON in the form of nuScenes' tracking task
    coasted: bool = False  # keep tracks without a box in the sample; see ``track_entries``

    def fingerprint(self) -> str:
        """Return a text that differs for different contents of the parts."""
        return f" with tracks, coasted {self.coasted}"


def recorded(
    steps: Iterable[_Step], options: TrackOptions, class_names: Sequence[str], part: Path
) -> Iterator[_Step]:
    """Yield the steps of a scene, and write their tracks when the last one is done.

    All tracks with a box in the sample are written, also those that the step's boxes leave out
    because objects without a box have higher scores.
    Identities are unique within the scene, even where tracking starts again.

    Raises:
        ValueError: the stream does not track.
        OSError: the part cannot be written.
    """
    results: dict[str, list[dict[str, object]]] = {}
    restarts = 0
    for step in steps:
        tracks, count = step.state.tracks, len(step.detections)
        if len(tracks) < count:
            raise ValueError(
                f"detector must track for a file of tracks; got {len(tracks)} tracks for {count} "
                "boxes: give --track, or a TrackedDetector"
            )
        restarts += bool(results) and step.reset in RESTARTS
        results[step.frame.sample_token] = track_entries(
            tracks,
            step.frame.sample_token,
            step.frame.timestamp_us,
            class_names,
            coasted=options.coasted,
            prefix=f"{restarts}." if restarts else "",
        )
        yield step
    write_text_atomically(_tracks_part(part), json.dumps(results))


def merge_tracks(parts: Iterable[Path], options: TrackOptions) -> None:
    """Write the file of tracks from the parts of all scenes, which are given by their boxes' parts.

    Raises:
        ValueError: a part is damaged, or holds boxes that the format does not permit.
        OSError: a part cannot be read, or the file cannot be written.
    """
    results: dict[str, list[dict[str, object]]] = {}
    for part in map(_tracks_part, parts):
        data = read_bytes(part, "part of the tracks", max_bytes=None)
        content = parse_json(data, "part of the tracks", place=f" in {part}")
        results |= expect_object(f"part of the tracks {part}", content)
    write_tracks(options.out, results)


def _tracks_part(part: Path) -> Path:
    """Return the file of a scene's tracks, in a folder of its own, whatever the scene's name."""
    return part.parent / "tracks" / part.name
