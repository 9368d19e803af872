"""A source of moments that grows while it is shown: the newest ones are kept."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from bevstack.viewer.moment import Moment

_POLL_S = 0.2  # between two looks for an end
KEPT_MOMENTS = 500  # six pictures of 150 kB each: 450 MB


class GrowingDrive:
    """Moments of one drive, added by one thread and read by the remaining ones.

    Indices count from the first moment of the drive, also when it is no longer kept. There must be
    a moment before the properties of a ``MomentSource`` are read: ``wait_for`` one.

    Args:
        kept: number of moments; earlier ones are dropped. None: all are kept.
    """

    def __init__(self, *, kept: int | None = KEPT_MOMENTS) -> None:
        self._moments: deque[Moment] = deque(maxlen=kept)
        self._count = 0
        self._changed = threading.Condition()
        self._ended = False
        self._failure: Exception | None = None
        self._progress = ""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the classes, which labels index."""
        return self._moments[-1].class_names

    @property
    def model_names(self) -> tuple[str, ...]:
        """Return the name of the model."""
        return tuple(predicted.name for predicted in self._moments[-1].predicted)

    @property
    def distances_m(self) -> tuple[float, ...]:
        """Return no distances: a running drive has no truth."""
        return ()

    @property
    def scenes(self) -> tuple[str, ...]:
        """Return the name of the drive."""
        return (self._moments[-1].scene,)

    @property
    def has_ended(self) -> bool:
        """Return True if no moment will be added any more."""
        return self._ended

    @property
    def failure(self) -> Exception | None:
        """Return the error that ended the drive; None if there was none."""
        return self._failure

    @property
    def progress(self) -> str:
        """Return a line on the growth for people."""
        if self._failure is not None:
            return f"stopped after {self._count} frames: {self._failure}"
        return f"all {self._count} frames" if self._ended else self._progress

    def count(self, scene: str) -> int:
        """Return the number of moments so far, dropped ones included."""
        return self._count

    def first(self) -> int:
        """Return the index of the earliest moment that is kept."""
        return self._count - len(self._moments)

    def moment(self, scene: str, index: int) -> Moment:
        """Return a moment.

        Raises:
            ValueError: it is no longer kept, or not there yet.
        """
        with self._changed:
            first = self.first()
            if not first <= index < self._count:
                raise ValueError(
                    f"frame must be from {first} to {self._count - 1}, which are kept; got {index}"
                )
            return self._moments[index - first]

    def num_errors(self, model: int, distance_m: float, min_score: float) -> dict[str, list[int]]:
        """Return no errors: a running drive has no truth."""
        return {}

    def add(self, moment: Moment) -> None:
        """Add the next moment, whose index is the number of those before it."""
        with self._changed:
            assert moment.index == self._count  # the author of the moments counts them
            self._moments.append(moment)
            self._count += 1
            self._changed.notify_all()

    def report(self, progress: str) -> None:
        """Set the line on the growth."""
        self._progress = progress

    def end(self, failure: Exception | None = None) -> None:
        """Add no moment any more, because all are there or because of an error."""
        with self._changed:
            self._ended, self._failure = True, failure
            self._changed.notify_all()

    def wait_for(self, index: int, timeout_s: float | None = None) -> bool:
        """Wait until a moment is there or the drive has ended; return True if it is there."""
        with self._changed:
            self._changed.wait_for(lambda: self._count > index or self._ended, timeout_s)
            return self._count > index

    def follow(self, ended: threading.Event) -> Iterator[Moment]:
        """Yield each moment once it is there, until the drive or an event ends.

        Moments that are dropped before they are asked for are left out.
        """
        index = 0
        while not ended.is_set():
            if self.wait_for(index, _POLL_S):
                with self._changed:
                    index = max(index, self.first())
                    moment = self.moment("", index)
                yield moment
                index += 1
            elif self._ended:
                return
