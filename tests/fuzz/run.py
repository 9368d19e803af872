"""Running of fuzzed inputs through a reader, and judgement of each result."""

from __future__ import annotations

import json
import random
import re
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bevstack.cli.errors import explain
from tests.fuzz.limits import Hang, limited
from tests.fuzz.reader import Reader

# A message of the project states a requirement, or names the unknown thing.
_HOUSE_STYLE = re.compile(r" must | has no field | holds | lacks | needs ")
_MAX_MESSAGE = 4000
_DIED_IN_PARSER = re.compile(r"must be (JSON|UTF-8 text); got ")


@dataclass
class Outcome:
    """Counts and faults of a number of inputs."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)  # kind of fault -> its first example

    def describe(self) -> str:
        """Return the counts and one line for each kind of fault."""
        lines = [f"{kind}: {example}" for kind, example in self.faults.items()]
        return "\n".join([str(dict(self.counts)), *lines])


def make_input(reader: Reader, starts: Any, seed: int) -> Any:
    """Return the mutated input of a seed."""
    draw = random.Random(f"{reader.name}:{seed}")
    return reader.mutate(draw.choice(starts), draw)


def run_reader(reader: Reader, folder: Path, seeds: range | tuple[int, ...]) -> Outcome:
    """Read the inputs of some seeds; those that die in the JSON parser do not count."""
    starts = reader.start(folder)
    outcome = Outcome()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for start in starts:
            reader.read(folder, start)  # what the mutations start from is valid
            fault = reader.kind and reader.kind("start", start)
            assert not fault, fault
        for seed in seeds:
            content = make_input(reader, starts, seed)
            result, fault = judge(reader, folder, content)
            outcome.counts[result] += 1
            if fault:
                outcome.counts["faults"] += 1
                kind = re.sub(r"\d+|'[^']*'", "#", fault)[:120]
                outcome.faults.setdefault(kind, f"seed {seed}: {fault}"[:700])
    return outcome


def judge(reader: Reader, folder: Path, content: Any) -> tuple[str, str]:
    """Read one input; return its result, and its fault if there is one."""
    try:
        with limited():
            reader.read(folder, content)
    except (Hang, MemoryError) as error:
        return "limit", f"{type(error).__name__} at {_place(error)}"
    except (ValueError, OSError) as error:
        return _judge_error(error)
    except Exception as error:  # noqa: BLE001  that is what is searched for
        return "traceback", f"{type(error).__name__}: {error!s:.200} at {_place(error)}"
    fault = reader.kind(reader.name, content) if reader.kind else None
    return "accepted", f"wrong kind taken: {fault}" if fault else ""


def _judge_error(error: Exception) -> tuple[str, str]:
    message = str(error)
    if _DIED_IN_PARSER.search(message):
        return "parser", ""
    raw = isinstance(error, (UnicodeError, json.JSONDecodeError))
    sentence = explain(error)
    system = isinstance(error, OSError) and error.errno is not None
    if raw or sentence is None or not (system or _HOUSE_STYLE.search(sentence)):
        return "raw", f"{type(error).__name__}: {message:.200} at {_place(error)}"
    if "\n" in sentence or len(message) > _MAX_MESSAGE:  # `explain` would cut it
        return "long", f"message of {len(sentence)} characters: {message:.200} at {_place(error)}"
    return "refused", ""


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/bevstack/" in frame.filename] or list(frames)
    return ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in own[-3:])
