"""Lights, signs and cues of the frames that are drawn: from a file of cues, and from the tables."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.traffic.traffic_frames import TrafficFrame, read_traffic_frames
from bevstack.geometry import invert_se3
from bevstack.render import TrafficLayer, cue_marks, true_marks
from bevstack.render.layers import as_array
from bevstack.runtime.predict_cues import cues_path
from bevstack.runtime.stream_protocol import StreamState
from bevstack.tables.names import EGO_LANE_TABLE, LANE_TABLE, TRAFFIC_ELEMENT_TABLE
from bevstack.tables.reader import Tables
from bevstack.tables.traffic_elements import read_lanes, read_traffic_elements
from bevstack.tables.traffic_states import read_ego_lanes
from bevstack.types import Frame
from bevstack.types.cues import EgoCue, TrafficCue
from bevstack.types.traffic import EgoLane, LaneCenterline, TrafficElement


@dataclass(frozen=True)
class TrueTraffic:
    """True lights and signs of a data set's samples, and the lanes that they govern."""

    folder: Path  # of the version's tables

    @cached_property
    def elements(self) -> dict[str, list[TrafficElement]]:
        """Return the elements by sample token, read on first use.

        Raises:
            ValueError: the table is damaged.
        """
        found: dict[str, list[TrafficElement]] = defaultdict(list)
        for element in read_traffic_elements(self.folder):
            found[element.sample_token].append(element)
        return dict(found)

    @cached_property
    def lanes(self) -> dict[str, LaneCenterline]:
        """Return the lanes by token; none without their table."""
        has_table = (self.folder / f"{LANE_TABLE}.json").is_file()
        return read_lanes(self.folder) if has_table else {}

    @cached_property
    def ego_lanes(self) -> dict[str, EgoLane]:
        """Return the own lanes by sample token; none without their table."""
        has_table = (self.folder / f"{EGO_LANE_TABLE}.json").is_file()
        return read_ego_lanes(self.folder) if has_table else {}

    @cached_property
    def centerlines(self) -> dict[str, NDArray[np.float64]]:
        """Return the centre lines of the lanes by token, in the world frame."""
        return {token: lane.points_m for token, lane in self.lanes.items()}

    def own_lanes(self, ego: EgoLane | None) -> set[str]:
        """Return the own lane, and the next one if there is only one; empty if it is unknown."""
        if ego is None:
            return set()
        lane = self.lanes.get(ego.lane_token)
        following = () if lane is None or len(lane.successors) != 1 else lane.successors
        return {ego.lane_token, *following}

    def layer(self, frame: Frame) -> TrafficLayer:
        """Return the true elements of a sample's frame alone."""
        assert frame.world_from_ego is not None  # the tables hold every pose
        ego = self.ego_lanes.get(frame.sample_token)
        manoeuvre = "" if ego is None else ego.manoeuvre
        marks = true_marks(
            self.elements.get(frame.sample_token, []),
            as_array(invert_se3(frame.world_from_ego)),
            self.centerlines,
            self.own_lanes(ego),
            manoeuvre,
        )
        names = {mark.name for mark in marks if mark.governs and mark.kind == "light"}
        return TrafficLayer(true=marks, manoeuvre=manoeuvre, true_state=", ".join(sorted(names)))


def find_true_traffic(tables: Tables) -> TrueTraffic | None:
    """Return the true lights and signs of a data set; None if it has no table of them."""
    folder = tables.root / tables.version
    has_table = (folder / f"{TRAFFIC_ELEMENT_TABLE}.json").is_file()
    return TrueTraffic(folder) if has_table else None


class PredictedTraffic:
    """Cues of a file by sample token, or by time for frames without one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        frames = read_traffic_frames(path).frames
        self._by_token = {frame.sample_token: frame for frame in frames if frame.sample_token}
        self._by_time = {frame.timestamp_us: frame for frame in frames}

    def find(self, frame: Frame) -> TrafficFrame | None:
        """Return the entry of a frame; None if the file has none."""
        if frame.sample_token in self._by_token:
            return self._by_token[frame.sample_token]
        return self._by_time.get(frame.timestamp_us)


def find_predicted_traffic(
    results: Path | None, cues: Path | None = None
) -> PredictedTraffic | None:
    """Return the cues of a file, or of the one beside the results; None without a file.

    Raises:
        FileNotFoundError: ``cues`` is given and does not exist.
        ValueError: the file is damaged.
    """
    if cues is not None:
        return PredictedTraffic(cues)
    beside = None if results is None else cues_path(results)
    return None if beside is None or not beside.is_file() else PredictedTraffic(beside)


def traffic_layer(
    frame: Frame,
    predicted: PredictedTraffic | None = None,
    truth: TrueTraffic | None = None,
    *,
    manoeuvre: str = "",
) -> TrafficLayer | None:
    """Return all that is drawn of a frame's lights and signs; None without any source.

    Args:
        frame: the frame.
        predicted: cues of the frame.
        truth: of the data set.
        manoeuvre: whose advice is shown; "": the own vehicle's true one, if the tables have it.
    """
    if predicted is None and truth is None:
        return None
    entry = None if predicted is None else predicted.find(frame)
    cues, ego_cues = ((), ()) if entry is None else (entry.cues, entry.ego_cues)
    return _layer(frame, None if predicted is None else cues, ego_cues, truth, manoeuvre=manoeuvre)


def state_layer(
    frame: Frame, state: StreamState, truth: TrueTraffic | None = None
) -> TrafficLayer | None:
    """Return all that is drawn of a stream's step; None if the stream gives no cues."""
    if state.elements is None:
        return None
    return _layer(frame, state.cues, state.ego_cues, truth, manoeuvre=frame.manoeuvre)


def _layer(
    frame: Frame,
    cues: tuple[TrafficCue, ...] | None,
    ego_cues: tuple[EgoCue, ...],
    truth: TrueTraffic | None,
    *,
    manoeuvre: str,
) -> TrafficLayer:
    true = TrafficLayer() if truth is None else truth.layer(frame)
    manoeuvre = manoeuvre or true.manoeuvre
    return TrafficLayer(
        predicted=None if cues is None else cue_marks(cues, manoeuvre),
        true=true.true,
        ego_cues=ego_cues,
        manoeuvre=manoeuvre,
        true_state=true.true_state,
    )
