"""The node of a detector, with the authors of its messages."""

from __future__ import annotations

from bevstack.export.messages.store import MessageStore
from bevstack.runtime.node.core import NodeCore
from bevstack.runtime.node.diagnostics import Diagnostician
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.publishing import DIAGNOSTICS_TOPIC, ResultPublisher
from bevstack.runtime.ros.quality import check_topics_of
from bevstack.runtime.ros.replay import NodeParts
from bevstack.runtime.ros.subscriptions import subscriptions
from bevstack.runtime.stream_protocol import CameraLimitedDetector, FrameDetector
from bevstack.vocabulary import DETECTION_CLASSES


def make_node(
    detector: FrameDetector,
    parameters: Parameters,
    store: MessageStore,
    *,
    model: str,
    times: bool,
) -> NodeParts:
    """Return a node.

    Args:
        detector: the detector; with cues if its weights have the task "traffic".
        parameters: all settings; read-only ones are fixed from here on.
        store: types of the published messages.
        model: name of the weights or of the exported model in diagnostics.
        times: publish times of processing.

    Raises:
        ValueError: the model uses future frames or other classes, or takes fewer cameras, or
            parameters do not fit.
    """
    unknown = sorted(set(detector.class_names) - set(DETECTION_CLASSES))
    if unknown:
        raise ValueError(
            f"classes of the weights must be among {', '.join(DETECTION_CLASSES)}, which messages "
            f"can name; got {', '.join(unknown)}"
        )
    parameters.configured()
    count = len(parameters.cameras)
    if isinstance(detector, CameraLimitedDetector) and count > detector.max_cameras:
        raise ValueError(
            f"parameter cameras must name at most {detector.max_cameras} cameras, as the exported "
            f"model takes; got {count}: export it with --cameras {count}"
        )
    core = NodeCore(detector, parameters)
    publisher = ResultPublisher(store, parameters, class_names=detector.class_names, times=times)
    _check_qualities(parameters, publisher)
    return NodeParts(core, publisher, Diagnostician(core, model=model, times=times))


def _check_qualities(parameters: Parameters, publisher: ResultPublisher) -> None:
    subscribed = [subscription.topic for subscription in subscriptions(parameters)]
    published = [DIAGNOSTICS_TOPIC, *(topic for topic, _ in publisher.advertised())]
    check_topics_of(parameters.qos_overrides, subscribed, published)
    for topic in published:
        publisher.quality(topic)
