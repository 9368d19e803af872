"""Faults of a camera for a while, put into the messages of a bag."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevstack.export.messages.bag import Publication
from tests.runtime.ros.six_cameras import SIZE, jpeg

# Images of one camera during its fault, in the order of their stamps, the last good one first ->
# messages in place of all but that one.
Fault = Callable[[Sequence[Publication]], list[Publication]]
_SWAP_US = 1_000  # an overtaken image comes this much after the next one


def killed(images: Sequence[Publication]) -> list[Publication]:
    return []


def frozen(images: Sequence[Publication]) -> list[Publication]:
    """Return the last good content with the stamps of all."""
    return [_with(image, data=images[0].message.data) for image in images[1:]]


def black(images: Sequence[Publication]) -> list[Publication]:
    data = np.frombuffer(jpeg(np.zeros((*SIZE, 3), np.uint8)), np.uint8)
    return [_with(image, data=data) for image in images[1:]]


def duplicated(images: Sequence[Publication]) -> list[Publication]:
    return [image for image in images[1:] for _ in range(2)]


def reordered(images: Sequence[Publication]) -> list[Publication]:
    """Return pairs whose second image overtakes the first one; a last one alone stays."""
    found = list(images[1:])
    for first in range(0, len(found) - 1, 2):
        after_us = found[first + 1].timestamp_us + _SWAP_US
        found[first] = found[first]._replace(timestamp_us=after_us)
    return found


def miscoded(images: Sequence[Publication]) -> list[Publication]:
    return [_with(image, encoding="16UC1") for image in images[1:]]


def truncated(images: Sequence[Publication]) -> list[Publication]:
    half = len(images[0].message.data) // 2
    return [_with(image, data=image.message.data[:half]) for image in images[1:]]


def late(delay_us: int) -> Fault:
    """Return a fault that delays all images; none overtakes another one, as in a queue."""

    def fault(images: Sequence[Publication]) -> list[Publication]:
        return [image._replace(timestamp_us=image.timestamp_us + delay_us) for image in images[1:]]

    return fault


# Name -> fault, and the state that diagnostics must give; "late" has delays of its own.
FAULTS: dict[str, tuple[Fault, str]] = {
    "killed": (killed, "missing"),
    "frozen": (frozen, "frozen"),
    "black": (black, "black"),
    "duplicated": (duplicated, "duplicate"),
    "reordered": (reordered, "out_of_order"),
    "miscoded": (miscoded, "rejected"),
    "truncated": (truncated, "rejected"),
    "late": (late(0), "late"),
}


def inject(
    drive: Sequence[Publication], camera: str, fault: Fault, *, start_us: int, end_us: int
) -> list[Publication]:
    """Return the messages of a drive with a fault in the images of one camera.

    A good image after the fault does not overtake a faulty one.
    """
    topics = (f"/{camera}/image_raw", f"/{camera}/image_raw/compressed")
    images = [p for p in drive if p.topic in topics]
    first = next(number for number, p in enumerate(images) if p.timestamp_us >= start_us)
    changed = fault([p for p in images[first - 1 :] if p.timestamp_us < end_us])
    last_us = max((p.timestamp_us for p in changed), default=0)
    kept = []
    for p in drive:
        if p.topic not in topics or p.timestamp_us < start_us:
            kept.append(p)
        elif p.timestamp_us >= end_us:
            kept.append(p._replace(timestamp_us=max(p.timestamp_us, last_us)))
    return sorted([*kept, *changed], key=lambda p: p.timestamp_us)


def _with(image: Publication, **changes: Any) -> Publication:
    return image._replace(message=dataclasses.replace(image.message, **changes))
