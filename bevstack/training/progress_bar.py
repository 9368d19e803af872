"""Progress on a terminal: a bar with the time left; plain lines where there is no terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bevstack.training.curve_plots import sum_parts

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
    """A bar with loss, speed and time left; gives the function that moves it on.

    Without a terminal (a log file, CI) one line every ``log_every`` steps says the same.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps"),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    speed = _Speed()
    with bar:
        task = bar.add_task("training", total=num_steps, state="")

        def move(report: StepReport) -> None:
            speed.take_in(report)
            state = f"{describe_loss(report)}  {speed.describe(report)}"
            bar.update(task, completed=report.step, state=state)
            last = report.step == report.num_steps
            if not console.is_terminal and (report.step % log_every == 0 or last):
                left_s = (report.num_steps - report.step) * speed.step_s
                console.print(
                    f"step {report.step}/{report.num_steps}  {state}  {left_s:.0f} s left"
                )

        yield move


def describe_loss(report: StepReport) -> str:
    """The loss and what it is made of, over all decoder layers."""
    parts = sum_parts(dict(report.terms))
    made_of = ", ".join(f"{name} {value:.2f}" for name, value in parts.items())
    skipped = f"  {report.skipped} skipped" if report.skipped else ""
    return f"loss {report.loss:.3f}" + (f" ({made_of})" if made_of else "") + skipped


class _Speed:
    """Times and images of a step, smoothed over about twenty steps."""

    def __init__(self) -> None:
        self.step_s = 0.0
        self.data_s = 0.0
        self.num_images = 0.0
        self._is_first = True

    def take_in(self, report: StepReport) -> None:
        share = 1.0 if self._is_first else 0.05
        self._is_first = False
        self.step_s += share * (report.step_s - self.step_s)
        self.data_s += share * (report.data_s - self.data_s)
        self.num_images += share * (report.num_images - self.num_images)

    def describe(self, report: StepReport) -> str:
        step_s = max(self.step_s, 1e-9)
        return (
            f"{1 / step_s:.2f} steps/s  {self.num_images / step_s:.0f} images/s  "
            f"waiting for images {100 * self.data_s / step_s:.0f} % of the time  "
            f"{report.memory_bytes / 1e9:.1f} GB"
        )
