"""Clock of a stream: recognises times in another unit by the drive that they imply."""

from __future__ import annotations

from dataclasses import dataclass

from bevstack.types import Frame
from bevstack.types.moments import Moment, check_unit

_WINDOW = 8  # frames, of whose spacing and speeds the medians are taken


@dataclass(frozen=True)
class StreamClock:
    """Times and poses of a stream's last frames, of one scene and in order of time."""

    moments: tuple[Moment, ...] = ()

    def advanced(self, frame: Frame) -> StreamClock:
        """Return the clock after the next frame.

        It starts again at a change of the scene, if time goes back, and without a time.

        Raises:
            ValueError: the times are milliseconds, seconds or nanoseconds; see ``check_unit``.
        """
        if frame.timestamp_us == 0:
            return StreamClock()
        moment = Moment.from_frame(frame)
        last = self.moments[-1] if self.moments else moment
        continues = (
            moment.scene_token == last.scene_token and moment.timestamp_us >= last.timestamp_us
        )
        moments = (*(self.moments if continues else ()), moment)[-_WINDOW:]
        check_unit(moments)
        return StreamClock(moments)
