"""States of traffic lights over time, and the names that a planner is given.

The belief is that of ``light_filter``. The name is chosen by an asymmetric rule: one frame of
strong evidence ends green, while green starts only after consistent frames, and nothing is named
from memory alone. All functions work on E lights at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from bevstack.config.cues import LightConfig
from bevstack.planning import light_filter
from bevstack.planning.light_filter import LIGHT_STATES
from bevstack.vocabulary import LAMP_SHAPES, LIGHT_COLORS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

STATE_NAMES = (*LIGHT_STATES, "unknown")
UNKNOWN_STATE = STATE_NAMES.index("unknown")
_GREEN, _FLASHING_GREEN = (STATE_NAMES.index(name) for name in ("green", "flashing_green"))
# Row of the steady colour for each of LIGHT_STATES
_STEADY = np.array([STATE_NAMES.index(name.removeprefix("flashing_")) for name in LIGHT_STATES])
_ENDING = [LIGHT_COLORS.index(name) for name in ("red", "yellow", "red_yellow")]
_NEVER = np.iinfo(np.int64).min // 4  # a time before all images
_PACE_LOOKS = 10  # looks over which the share of quick ones is averaged
_FAST_SHARE = 0.3  # of them, for a pace that counts as reached: a lower pace gives 0


@dataclass(frozen=True)
class LightLooks:
    """Measurements of E lights in one frame; rows of unseen lights are of no use."""

    seen: NDArray[np.bool_]  # (E,)
    color: Floats  # (E, len(LIGHT_COLORS)) the head's probabilities
    shape: Floats  # (E, len(LAMP_SHAPES)) the head's probabilities
    scores: Floats  # (E,) probability that the box shows the light
    # (E,) probability that the light is where an image shows no box; 0 for seen ones
    missed: Floats


@dataclass(frozen=True)
class LightMemory:
    """Knowledge of E lights after a frame: the input of the next frame's update."""

    belief: Floats  # (E, C, S) of ``light_filter``
    updated_us: Integers  # (E,) time of the belief
    looked_us: Integers  # (E,) time of the last look
    looks: Integers  # (E,) number of looks
    green_looks: Integers  # (E,) successive looks that showed green, up to the last one
    green_since_us: Integers  # (E,) time of the first of them
    fast_since_us: Integers  # (E,) first look of the present span without a pause
    fast_share: Floats  # (E,) share of quick successions among the last looks
    named: Integers  # (E,) row of STATE_NAMES, given to the planner
    named_probability: Floats  # (E,)
    named_since_us: Integers  # (E,)
    last_known: Integers  # (E,) row of STATE_NAMES, the last name but unknown

    def __len__(self) -> int:
        """Return E."""
        return len(self.looked_us)

    def __getitem__(self, rows: Integers | NDArray[np.bool_] | slice) -> LightMemory:
        """Return some of the lights."""
        return LightMemory(*(getattr(self, item.name)[rows] for item in fields(self)))

    @staticmethod
    def start(count: int, timestamp_us: int, config: LightConfig | None = None) -> LightMemory:
        """Return the memory of lights that no image has shown."""

        def constant(value: int) -> Integers:
            return np.full(count, value, np.int64)

        return LightMemory(
            belief=light_filter.initial_belief(count, config or LightConfig()),
            updated_us=constant(timestamp_us),
            looked_us=constant(_NEVER),
            looks=constant(0),
            green_looks=constant(0),
            green_since_us=constant(_NEVER),
            fast_since_us=constant(_NEVER),
            fast_share=np.zeros(count),
            named=constant(UNKNOWN_STATE),
            named_probability=np.ones(count),
            named_since_us=constant(timestamp_us),
            last_known=constant(UNKNOWN_STATE),
        )

    @staticmethod
    def concatenate(parts: Sequence[LightMemory]) -> LightMemory:
        """Concatenate the lights of several memories."""
        return LightMemory(
            *(np.concatenate([getattr(part, item.name) for part in parts])
              for item in fields(LightMemory))
        )  # fmt: skip

    def shape_probabilities(self) -> Floats:  # (E, len(LAMP_SHAPES))
        """Return the probability of each shape of the lit lamp."""
        return np.asarray(self.belief.sum(1))

    def flashing_observable(self, timestamp_us: int, config: LightConfig) -> NDArray[np.bool_]:
        """Return the lights whose images tell flashing from steady, (E,).

        Images must have come at ``flashing_min_hz`` over ``flashing_span_s``, dropped ones aside.
        """
        span_s = (timestamp_us - self.fast_since_us) * 1e-6
        fresh = (timestamp_us - self.looked_us) * 1e-6 <= config.flashing_gap_s
        enough = self.looks >= config.flashing_span_s * config.flashing_min_hz / 2
        long = (span_s >= config.flashing_span_s) & (self.looks > 0)
        return np.asarray(long & fresh & enough & (self.fast_share >= _FAST_SHARE))


def update_lights(
    memory: LightMemory, looks: LightLooks, timestamp_us: int, config: LightConfig
) -> LightMemory:
    """Update the lights with a frame.

    Raises:
        ValueError: the looks are of another number of lights, or the frame lies before the last.
    """
    if len(looks.seen) != len(memory):
        raise ValueError(f"looks must be of {len(memory)} lights; got {len(looks.seen)}")
    if len(memory) and timestamp_us < memory.updated_us.max():
        raise ValueError(
            f"timestamp_us must not lie before that of the last frame, {memory.updated_us.max()}; "
            f"got {timestamp_us}: start with LightMemory.start"
        )
    belief = _filter(memory, looks, timestamp_us, config)
    looked = _count_looks(replace(memory, belief=belief), looks, timestamp_us, config)
    return _name(looked, looks, timestamp_us, config)


def _filter(
    memory: LightMemory, looks: LightLooks, timestamp_us: int, config: LightConfig
) -> Floats:
    belief = memory.belief.copy()
    for updated_us in np.unique(memory.updated_us):
        rows = memory.updated_us == updated_us
        seconds = float(timestamp_us - updated_us) * 1e-6
        color = light_filter.color_transition(config, seconds)
        shape = light_filter.shape_transition(config, seconds, len(LAMP_SHAPES))
        belief[rows] = light_filter.predict(belief[rows], color, shape)
    seen = looks.seen
    likelihood = light_filter.look_likelihood(
        looks.color[seen], looks.shape[seen], looks.scores[seen], belief[seen].sum(1), config
    )
    belief[seen] = light_filter.update(belief[seen], likelihood)
    recent = (timestamp_us - memory.looked_us) * 1e-6 <= config.flashing_gap_s
    gaps = ~seen & recent & (looks.missed > 0)
    belief[gaps] = light_filter.update(
        belief[gaps], light_filter.gap_likelihood(looks.missed[gaps], config)
    )
    return belief


def _count_looks(
    memory: LightMemory, looks: LightLooks, timestamp_us: int, config: LightConfig
) -> LightMemory:
    seen, now = looks.seen, np.int64(timestamp_us)
    pause_s = (now - memory.looked_us) * 1e-6
    green = looks.color[:, LIGHT_COLORS.index("green")] >= 0.5
    continues = green & (memory.green_looks > 0) & (pause_s <= config.stale_after_s)
    run = np.where(continues, memory.green_looks + 1, np.where(green, 1, 0))
    run_since = np.where(continues, memory.green_since_us, now)
    slowest_s = (1 + config.flashing_jitter) / config.flashing_min_hz
    paused = (memory.looks == 0) | (pause_s > config.flashing_gap_s)
    quick = (pause_s <= slowest_s).astype(np.float64)
    weight = 1 / np.clip(memory.looks, 1, _PACE_LOOKS)
    share = np.where(paused, 0.0, memory.fast_share + weight * (quick - memory.fast_share))
    count = np.where(paused, 1, memory.looks + 1)
    return replace(
        memory,
        updated_us=np.full(len(memory), now, np.int64),
        looked_us=np.where(seen, now, memory.looked_us),
        looks=np.where(seen, count, memory.looks),
        green_looks=np.where(seen, run, memory.green_looks),
        green_since_us=np.where(seen, run_since, memory.green_since_us),
        fast_since_us=np.where(seen & paused, now, memory.fast_since_us),
        fast_share=np.where(seen, share, memory.fast_share),
    )


def _name(
    memory: LightMemory, looks: LightLooks, timestamp_us: int, config: LightConfig
) -> LightMemory:
    """Choose the names by the rule of the module."""
    now = np.int64(timestamp_us)
    states = reported_probabilities(memory, timestamp_us, config)
    best, probability = states.argmax(1), states.max(1, initial=0)
    # A gap alone does not start flashing: a vehicle may hide the light.
    waits = ~looks.seen & (_STEADY[best] == memory.named)
    best = np.where(waits, _STEADY[best], best)
    likely = probability >= config.report_probability
    confirmed = (memory.green_looks >= config.green_looks) | (
        (now - memory.green_since_us >= config.green_span_s * 1e6) & (memory.green_looks >= 2)
    )
    starts = looks.seen & confirmed & (probability >= config.green_probability)
    is_green = (best == _GREEN) | (best == _FLASHING_GREEN)
    holds = (memory.named == _GREEN) | ((memory.named == _FLASHING_GREEN) & (best != _GREEN))
    likely &= ~is_green | starts | holds
    frame = looks.color[:, _ENDING] * np.clip(looks.scores, 0, 1)[:, None]
    ends = looks.seen & (frame.sum(1) >= config.strong_frame) & is_green
    ending = np.array([STATE_NAMES.index(LIGHT_COLORS[color]) for color in _ENDING])
    stale = (memory.looks == 0) | ((now - memory.looked_us) * 1e-6 > config.stale_after_s)

    named = np.where(likely, best, UNKNOWN_STATE)
    sure = np.where(likely, probability, 1 - probability)
    named = np.where(ends, ending[frame.argmax(1)], named)
    sure = np.where(ends, frame.max(1, initial=0), sure)
    named, sure = np.where(stale, UNKNOWN_STATE, named), np.where(stale, 1.0, sure)
    return replace(
        memory,
        named=named.astype(np.int64),
        named_probability=sure,
        named_since_us=np.where(named == memory.named, memory.named_since_us, now),
        last_known=np.where(named == UNKNOWN_STATE, memory.last_known, named),
    )


def reported_probabilities(memory: LightMemory, timestamp_us: int, config: LightConfig) -> Floats:
    """Return the probability of each of ``LIGHT_STATES``, (E, 8).

    A colour and its flashing are given as one: as flashing if that is observable and the more
    probable of the two, else as the steady colour.
    """
    states = light_filter.state_probabilities(memory.belief)
    observable = memory.flashing_observable(timestamp_us, config)
    for color in ("red", "yellow", "green"):
        steady, flashing = (LIGHT_STATES.index(n) for n in (color, f"flashing_{color}"))
        flashes = observable & (states[:, flashing] > states[:, steady])
        both = states[:, steady] + states[:, flashing]
        states[:, steady] = np.where(flashes, 0, both)
        states[:, flashing] = np.where(flashes, both, 0)
    return states
