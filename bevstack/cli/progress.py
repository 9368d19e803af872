"""Progress on a terminal: a bar with the time left; plain lines where there is no terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from bevstack.training import StepReport


def make_console() -> Console:
    """The console everything is printed on."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


@contextlib.contextmanager
def training_progress(
    console: Console, num_steps: int, log_every: int
) -> Iterator[Callable[[StepReport], None]]:
    """A bar with loss, steps per second and time left; gives the function that moves it on.

    Without a terminal (a log file, CI) one line every ``log_every`` steps says the same.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps"),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TextColumn("{task.fields[rate]:.2f} steps/s"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    speed = _Speed()
    with bar:
        task = bar.add_task("training", total=num_steps, loss=float("nan"), rate=0.0)

        def move(report: StepReport) -> None:
            rate = speed.after(report)
            bar.update(task, completed=report.step, loss=report.loss, rate=rate)
            last = report.step == report.num_steps
            if not console.is_terminal and (report.step % log_every == 0 or last):
                left = (report.num_steps - report.step) / rate
                console.print(
                    f"step {report.step}/{report.num_steps}  loss {report.loss:.3f}  "
                    f"{rate:.2f} steps/s  images {100 * speed.data_share:.0f} % of the time  "
                    f"{left:.0f} s left"
                )

        yield move


class _Speed:
    """Steps per second, smoothed over about twenty steps."""

    def __init__(self) -> None:
        self.step_s: float | None = None
        self.data_s = 0.0

    def after(self, report: StepReport) -> float:
        if self.step_s is None:
            self.step_s, self.data_s = report.step_s, report.data_s
        self.step_s += 0.05 * (report.step_s - self.step_s)
        self.data_s += 0.05 * (report.data_s - self.data_s)
        return 1.0 / max(self.step_s, 1e-9)

    @property
    def data_share(self) -> float:
        return self.data_s / max(self.step_s or 0.0, 1e-9)
