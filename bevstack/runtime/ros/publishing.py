"""Results of the node as messages on its topics."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from bevstack.evaluation.traffic.cue_entries import cue_to_json
from bevstack.export.messages.bag import Publication
from bevstack.export.messages.parts import make_header, make_text, make_time
from bevstack.export.messages.status import (
    Status,
    make_diagnostics,
    make_stamped_number,
    number_type,
)
from bevstack.export.messages.store import MessageStore
from bevstack.export.planning.autoware import (
    AutowareOptions,
    make_detected_objects,
    make_predicted_objects,
    make_tracked_objects,
)
from bevstack.export.planning.autoware_lights import make_light_groups
from bevstack.export.planning.markers import make_markers
from bevstack.export.planning.scene import PlanningFrame, PlanningObjects
from bevstack.export.planning.track_paths import TurnRates, paths_of_tracks
from bevstack.export.planning.vision_msgs import make_detections
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.node.steps import StepResult
from bevstack.runtime.ros.quality import PUBLISHER, RESULTS, Quality, overridden
from bevstack.tracking import Tracks

DIAGNOSTICS_TOPIC = "/diagnostics"
# Topic below the node's name -> type, for transports that create publishers first.
TOPICS: Mapping[str, str] = MappingProxyType(
    {
        "objects": "autoware_perception_msgs/msg/DetectedObjects",
        "tracks": "autoware_perception_msgs/msg/TrackedObjects",
        "predicted": "autoware_perception_msgs/msg/PredictedObjects",
        "traffic_lights": "autoware_perception_msgs/msg/TrafficLightGroupArray",
        "detections": "vision_msgs/msg/Detection3DArray",
        "markers": "visualization_msgs/msg/MarkerArray",
        "traffic_cues": "std_msgs/msg/String",
        "sectors": "std_msgs/msg/String",
    }
)
# Milliseconds; "total" is up to the boxes and tracks, "messages" the making of their messages,
# "cycle" from the start of the step before, "input_age" from the stamp to the publication.
LATENCIES = ("images", "model", "tracking", "total", "messages", "cycle", "input_age")


class ResultPublisher:
    """Author of the messages of results.

    Args:
        store: types of the messages; of ROS 1 it has no Autoware messages.
        parameters: names, thresholds.
        class_names: of the detector.
        times: publish times of processing; False where results must not depend on the machine.
    """

    def __init__(
        self,
        store: MessageStore,
        parameters: Parameters,
        *,
        class_names: Sequence[str],
        times: bool,
    ) -> None:
        self.store = store
        self.parameters = parameters
        self.class_names = tuple(class_names)
        self.times = times
        self._turns = TurnRates()
        self._drive = ""

    def topic(self, name: str) -> str:
        """Return a topic below the node's name."""
        return f"/{self.parameters['node_name']}/{name}"

    def advertised(self) -> list[tuple[str, str]]:
        """Return the topics that results may come on, with their types."""
        autoware = "autoware_perception_msgs/"
        number = number_type(self.store)
        latencies = {f"latency/{name}_ms": number for name in LATENCIES if self.times}
        return [
            (self.topic(name), type_name)
            for name, type_name in {**TOPICS, **latencies}.items()
            if not (self.store.is_ros1 and type_name.startswith(autoware))
        ]

    def quality(self, topic: str) -> Quality:
        """Return the quality of a published topic.

        Raises:
            ValueError: a value among the parameters is wrong.
        """
        return overridden(RESULTS, topic, PUBLISHER, self.parameters.qos_overrides)

    def results(self, result: StepResult, now_us: int) -> Iterator[Publication]:
        """Yield the messages of a result; each has the stamp of the reference camera."""
        if not self.times:
            yield from self._results(result, now_us)
            return
        started = time.perf_counter()
        yield from list(self._results(result, now_us))
        messages_ms = 1e3 * (time.perf_counter() - started)
        age_ms = (now_us - result.timestamp_us) / 1000 + messages_ms
        times_ms = {**result.times_ms, "messages": messages_ms, "input_age": age_ms}
        for name in [name for name in LATENCIES if name in times_ms]:
            message = make_stamped_number(self.store, now_us, times_ms[name])
            yield self._publish(f"latency/{name}_ms", now_us, message)

    def _results(self, result: StepResult, now_us: int) -> Iterator[Publication]:
        detections = self._detections(result)
        yield self._publish("detections", now_us, make_detections(detections, self.store))
        autoware = not self.store.is_ros1
        options = AutowareOptions(light_ids=self.parameters["light_ids"])
        if autoware:
            objects = make_detected_objects(detections, self.store, options)
            yield self._publish("objects", now_us, objects)
        shown = detections
        if result.tracks is not None:
            shown = tracked = self._tracks(result, result.tracks)
            if autoware:
                tracks = make_tracked_objects(tracked, self.store, options)
                yield self._publish("tracks", now_us, tracks)
                predicted = make_predicted_objects(tracked, self.store, options)
                yield self._publish("predicted", now_us, predicted)
        markers = make_markers(shown, self.store, self.parameters["base_frame"])
        yield self._publish("markers", now_us, markers)
        sectors = result.state.sectors
        if sectors is not None:
            entry = {"timestamp_us": result.timestamp_us, **sectors.to_entry()}
            yield self._publish("sectors", now_us, make_text(self.store, json.dumps(entry)))
        yield from self._traffic(result, detections, now_us)

    def empty(self, timestamp_us: int, now_us: int) -> Iterator[Publication]:
        """Yield empty lists, if the parameters ask for them when no camera works; none too old."""
        is_old = now_us - timestamp_us > self.parameters.microseconds("max_age_ms")
        if is_old or not self.parameters["publish_empty_on_error"]:
            return
        header = make_header(self.store, timestamp_us, self.parameters["base_frame"])
        kind = self.store["vision_msgs/Detection3DArray"]
        yield self._publish("detections", now_us, kind(header=header, detections=[]))
        if not self.store.is_ros1:
            for name in ("objects", "tracks"):
                message = self.store[TOPICS[name]](header=header, objects=[])
                yield self._publish(name, now_us, message)

    def diagnostics(self, statuses: Sequence[Status], now_us: int) -> Publication:
        """Return the diagnostics."""
        message = make_diagnostics(self.store, now_us, statuses)
        return Publication(DIAGNOSTICS_TOPIC, now_us, message)

    def _publish(self, name: str, now_us: int, message: Any) -> Publication:
        header = getattr(message, "header", None)
        if header is not None:  # the frame's name is a parameter; its axes are base_link's
            header.frame_id = self.parameters["base_frame"]
        return Publication(self.topic(name), now_us, message)

    def _detections(self, result: StepResult) -> PlanningFrame:
        kept = result.detections[result.detections.scores >= self.parameters["score_threshold"]]
        objects = PlanningObjects.from_detections(kept, self.class_names)
        return self._frame(result, objects)

    def _tracks(self, result: StepResult, tracks: Tracks) -> PlanningFrame:
        if result.drive != self._drive:
            self._turns, self._drive = TurnRates(), result.drive
        time_us = result.timestamp_us
        seen = (tracks.last_seen_us == time_us).numpy()
        self._turns.add(time_us, tracks.identity.numpy()[seen], tracks.yaw.numpy()[seen])
        kept = tracks[tracks.scores >= self.parameters["score_threshold"]]
        rate, deviation = self._turns.estimate(kept.identity.numpy())
        world_from_ego = result.frame.world_from_ego
        assert world_from_ego is not None  # a frame without a pose is not tracked
        objects = PlanningObjects.from_tracks(
            kept, world_from_ego, self.class_names, turn_rate=rate, turn_rate_std=deviation
        )
        return self._frame(result, objects)

    def _frame(self, result: StepResult, objects: PlanningObjects) -> PlanningFrame:
        pose = result.frame.world_from_ego
        return PlanningFrame(
            timestamp_us=result.timestamp_us,
            world_from_ego=np.eye(4) if pose is None else pose.to(torch.float64).numpy(),
            objects=objects,
            drive=result.drive,
            paths=None if objects.identity is None else paths_of_tracks(objects),
            cues=result.state.cues,
            ego_cues=result.state.ego_cues,
            sectors=result.state.sectors,
        )

    def _traffic(
        self, result: StepResult, frame: PlanningFrame, now_us: int
    ) -> Iterator[Publication]:
        if result.state.elements is None:
            return
        entry = {
            "timestamp_us": result.timestamp_us,
            "cues": [cue_to_json(cue) for cue in result.state.cues],
            "ego_cues": [cue_to_json(cue) for cue in result.state.ego_cues],
        }
        text = make_text(self.store, json.dumps(entry, allow_nan=False))
        yield self._publish("traffic_cues", now_us, text)
        if self.store.is_ros1:
            return
        hashed = self.parameters["light_ids"] == "hash"
        groups = make_light_groups(frame, self.store, hashed=hashed)
        if groups:
            kind = self.store[TOPICS["traffic_lights"]]
            stamp = make_time(self.store, result.timestamp_us)
            message = kind(stamp=stamp, traffic_light_groups=groups)
            yield self._publish("traffic_lights", now_us, message)
