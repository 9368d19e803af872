"""Watch for outputs of the model that no longer vary, such as those of a dead branch."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping

from bevstack.training.events import ConstantOutputs
from bevstack.training.processes import Processes

WINDOW_STEPS = 20  # the outputs are judged after each multiple of this number
MIN_STEPS = 10  # in which an output is measured, of a window


class OutputWatch:
    """Record of the outputs that were constant over a whole window of steps.

    An output is constant if, in every step of a window, it has the same value at all rows that the
    losses train, for example a rectified branch that is 0 at all positive locations. Then it does
    not depend on the images, and a rectified branch gets no gradient any more. Values are compared
    exactly, so that outputs that vary little are not reported. Every process must call every
    method.

    Args:
        processes: the processes that train together; variation in one of them is enough.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._measured: Counter[str] = Counter()  # steps of this window, by output
        self._varied: set[str] = set()
        self._constant: set[str] = set()

    def after_step(self, step: int, spreads: Mapping[str, float]) -> ConstantOutputs | None:
        """Record the outputs of a step; return those that became constant in the window it ends.

        Args:
            step: number of the step; 1 is the first.
            spreads: largest minus smallest value of each output; NaN where it was not measured.
        """
        for name, spread in spreads.items():
            if not math.isnan(spread):
                self._measured[name] += 1
                if spread > 0:
                    self._varied.add(name)
        if step % WINDOW_STEPS:
            return None
        constant = self._close_window()
        new = sorted(constant - self._constant)
        self._constant = constant
        return ConstantOutputs(step, tuple(new), WINDOW_STEPS) if new else None

    def _close_window(self) -> set[str]:
        """Return the constant outputs of the window, over all processes, and start the next."""
        own = json.dumps([dict(self._measured), sorted(self._varied)])
        measured: Counter[str] = Counter()
        varied: set[str] = set()
        for text in self._processes.gather_texts(own):
            steps, names = json.loads(text)
            measured |= Counter(steps)  # the most steps of any process
            varied |= set(names)
        self._measured, self._varied = Counter(), set()
        return {name for name, steps in measured.items() if steps >= MIN_STEPS} - varied
