"""Manoeuvres that a route planner commands for a drive: one for all of it, or a file of times.

A file is one JSON object::

    {
      "format": "bevstack-manoeuvres-1",
      "manoeuvres": [
        {"timestamp_us": 1700000000000000, "manoeuvre": "straight"},
        {"timestamp_us": 1700000012500000, "manoeuvre": "left"},
        {"timestamp_us": 1700000019000000, "manoeuvre": null}
      ]
    }

Each command holds from its time until the next one; null is no command.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bevstack.json_files import expect_integer, expect_list, expect_text, read_json, shorten
from bevstack.runtime.rig_fields import check_fields
from bevstack.times import differing_unit, whole_microseconds
from bevstack.types import Frame
from bevstack.types.frame_checks import check_manoeuvre

MANOEUVRES_FORMAT = "bevstack-manoeuvres-1"


@dataclass(frozen=True, kw_only=True)
class Commands:
    """The commanded manoeuvres of a drive, each from its time until the next one.

    Raises:
        ValueError: there is none, lengths differ, times do not ascend, or a manoeuvre is unknown.
    """

    start_us: tuple[int | None, ...]  # ascending; None, for the first alone: before any time
    manoeuvres: tuple[str, ...]  # of vocabulary.MANOEUVRES; "": no command
    source: str = "the commands"  # file that they were read from, for messages

    def __post_init__(self) -> None:
        if not self.start_us or len(self.start_us) != len(self.manoeuvres):
            raise ValueError(
                "Commands must have one manoeuvre a time, and at least one; got "
                f"{len(self.start_us)} times and {len(self.manoeuvres)} manoeuvres"
            )
        for number, (before, start) in enumerate(itertools.pairwise(self.start_us), start=1):
            if start is None or (before is not None and start <= before):
                raise ValueError(
                    f"timestamp_us of {self.source} must ascend; got {start} in manoeuvre {number} "
                    f"after {before}"
                )
        for name in self.manoeuvres:
            check_manoeuvre(name)

    @staticmethod
    def always(manoeuvre: str) -> Commands:
        """Return one command for a whole drive.

        Raises:
            ValueError: the manoeuvre is unknown.
        """
        return Commands(start_us=(None,), manoeuvres=(manoeuvre,))

    @property
    def summary(self) -> str:
        """Return the only manoeuvre, or the name of the file."""
        return self.manoeuvres[0] if self.start_us == (None,) else Path(self.source).name

    def fingerprint(self) -> str:
        """Return a text that is the same for equal commands, whatever their file."""
        return f"commands {self.start_us} {self.manoeuvres}"

    def at(self, timestamp_us: int) -> str:
        """Return the manoeuvre that is commanded at a time; "" for no command.

        Raises:
            ValueError: the time lies before the first command, or is in another unit.
        """
        times = [start for start in self.start_us if start is not None]
        unit = None if not times else differing_unit(times[0], timestamp_us)
        if unit is not None:
            raise ValueError(
                f"times of {self.source} and of the frames must both be in microseconds; got "
                f"{times[0]} and {timestamp_us}, one of them in {unit}"
            )
        row = bisect.bisect_right(times, timestamp_us) - 1 + len(self.start_us) - len(times)
        if row < 0:
            raise ValueError(
                f"{self.source} must have a manoeuvre at or before every frame; got a frame at "
                f"{timestamp_us} and the first manoeuvre at {times[0]}: add an earlier one, with "
                "null for no command"
            )
        return self.manoeuvres[row]

    def give_to(self, frame: Frame) -> Frame:
        """Return a frame with the manoeuvre that is commanded at its time.

        Raises:
            ValueError: see ``at``.
        """
        return replace(frame, manoeuvre=self.at(frame.timestamp_us))


def read_commands(path: Path | str) -> Commands:
    """Read a file of commanded manoeuvres; see the module for its form.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not of the form; a time is not in microseconds or does not ascend; a
            manoeuvre is unknown.
    """
    values = read_json(path, "file of manoeuvres")
    check_fields(str(path), values, ("format", "manoeuvres"), required=("format", "manoeuvres"))
    if values["format"] != MANOEUVRES_FORMAT:
        raise ValueError(
            f"{path}: format must be {MANOEUVRES_FORMAT!r}; got {shorten(values['format'])}"
        )
    entries = expect_list(f"manoeuvres of {path}", values["manoeuvres"])
    if not entries:
        raise ValueError(f"manoeuvres of {path} must hold at least one; got none")
    pairs = [_entry(f"manoeuvre {number} of {path}", entry) for number, entry in enumerate(entries)]
    return Commands(
        start_us=tuple(time for time, _ in pairs),
        manoeuvres=tuple(name for _, name in pairs),
        source=str(path),
    )


def _entry(where: str, values: Any) -> tuple[int, str]:
    fields = ("timestamp_us", "manoeuvre")
    check_fields(where, values, fields, required=fields)
    time = expect_integer(f"{where}: timestamp_us", values["timestamp_us"], low=0)
    name = values["manoeuvre"]
    name = "" if name is None else expect_text(where, name)
    try:
        check_manoeuvre(name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return whole_microseconds(f"{where}: timestamp_us", time), name
