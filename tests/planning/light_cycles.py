"""Simulated cycles of many lights at once, without images: true states and named states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.config.cues import LightConfig
from bevstack.planning.lights import STATE_NAMES, LightLooks, LightMemory, update_lights
from bevstack.vocabulary import LAMP_SHAPES

ROW = {name: row for row, name in enumerate(STATE_NAMES)}


@dataclass(frozen=True)
class Run:
    """True and named states of E lights over T frames, rows of STATE_NAMES."""

    truth: NDArray[np.int64]  # (T, E)
    named: NDArray[np.int64]  # (T, E)
    memory: LightMemory
    hz: float

    def delays_s(self, state: str) -> NDArray[np.float64]:
        """Return the times from a true change into a state to its name, of changes that last."""
        found, row = [], ROW[state]
        for light in range(self.truth.shape[1]):
            truth, named = self.truth[:, light], self.named[:, light]
            changes = np.flatnonzero((truth[1:] == row) & (truth[:-1] != row)) + 1
            for start in changes:
                end = start + np.argmin(np.append(truth[start:] == row, False))
                hits = np.flatnonzero(named[start:end] == row)
                if end - start > 2 * self.hz:
                    found.append(hits[0] / self.hz if len(hits) else np.inf)
        return np.array(found)


def run_cycles(
    lights: int,
    frames: int,
    *,
    hz: float = 10.0,
    drop: float = 0.3,
    flashing: float = 0.0,
    dark: str = "random",
    dark_boxes: float = 1.0,
    lit_boxes: float = 1.0,
    seed: int = 0,
    config: LightConfig | None = None,
) -> Run:
    """Simulate lights with the errors of a head: noisy logits, dark lamps, random frames.

    Lit lamps look dark in 3 % of the frames; with ``dark="led"`` in 7 %, independent of each other;
    with "beat" whenever a frame falls into the dark 18 % of the mains' half-waves, so that dark
    frames may follow one another. Of the frames that show an unlit housing or a lit lamp, the
    head finds a box in the shares ``dark_boxes`` and ``lit_boxes``; a dropped frame tells nothing.
    """
    config, rng = config or LightConfig(), np.random.default_rng(seed)
    green, yellow, red = (rng.uniform(a, b, lights) for a, b in ((15, 30), (2.5, 5), (15, 35)))
    start, offset, flash_hz = (rng.uniform(a, b, lights) for a, b in ((0, 60), (0, 1), (1, 2)))
    kind = np.where(rng.random(lights) < flashing, rng.integers(1, 4, lights), 0)
    shape = np.full((lights, len(LAMP_SHAPES)), 0.02)
    shape[:, LAMP_SHAPES.index("circle")] = 0.8
    mains_hz = rng.choice([100.0, 120.0], lights) + rng.uniform(0.7, 5.0, lights)
    memory, truths, names = LightMemory.start(lights, 0, config), [], []
    for k in range(frames):
        time_s = k / hz
        phase = (start + time_s) % (green + yellow + red)
        steady = np.where(
            phase < green, ROW["green"], np.where(phase < green + yellow, ROW["yellow"], ROW["red"])
        )
        truth = np.where(kind > 0, ROW["flashing_red"] - 1 + kind, steady)
        lit = (time_s * flash_hz + offset) % 1 < 0.5
        shown = np.where(kind > 0, np.where(lit, kind, ROW["off"]), steady)
        is_dark = rng.random(lights) < (0.07 if dark == "led" else 0.03)
        is_dark = (time_s * mains_hz + offset) % 1 < 0.18 if dark == "beat" else is_dark
        shown = np.where(is_dark, ROW["off"], shown)
        logits = rng.normal(0, 1, (lights, 5))
        logits[np.arange(lights), shown] += rng.normal(5, 1.5, lights)
        wrong = rng.random(lights) < 0.01
        logits[wrong] = rng.normal(0, 2, (int(wrong.sum()), 5))
        color = np.exp(logits)
        kept = rng.random(lights) >= drop
        found = rng.random(lights) < np.where(shown == ROW["off"], dark_boxes, lit_boxes)
        looks = LightLooks(
            seen=kept & found,
            color=color / color.sum(1, keepdims=True),
            shape=shape / shape.sum(1, keepdims=True),
            scores=np.full(lights, 0.97),
            missed=np.where(kept & ~found, 0.97, 0.0),
        )
        memory = update_lights(memory, looks, round(time_s * 1e6), config)
        truths.append(truth)
        names.append(memory.named)
    return Run(np.array(truths), np.array(names), memory, hz)
