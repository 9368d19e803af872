"""Training progress: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bevstack.training.curve_plots import sum_parts

if TYPE_CHECKING:
    from rich.console import Console

    from bevstack.training import StepReport


def make_console() -> Console:
    """Make the console on which commands print."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


@contextlib.contextmanager
def training_progress(
    console: Console, num_steps: int, log_every: int
) -> Iterator[Callable[[StepReport], None]]:
    """Show a bar with loss, speed and time left; yield the function to call after each step.

    Without a terminal (a log file, CI), print one line with the same content every ``log_every``
    steps.
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

        def advance(report: StepReport) -> None:
            speed.update(report)
            state = f"{describe_loss(report)}  {speed.describe(report)}"
            bar.update(task, completed=report.step, state=state)
            is_last = report.step == report.num_steps
            if not console.is_terminal and (report.step % log_every == 0 or is_last):
                left_s = (report.num_steps - report.step) * speed.step_s
                console.print(
                    f"step {report.step}/{report.num_steps}  {state}  {left_s:.0f} s left"
                )

        yield advance


def describe_loss(report: StepReport) -> str:
    """Format the loss and its parts, each summed over all decoder layers."""
    parts = sum_parts(dict(report.terms))
    summands = ", ".join(f"{name} {value:.2f}" for name, value in parts.items())
    skipped = f"  {report.skipped} skipped" if report.skipped else ""
    return f"loss {report.loss:.3f}" + (f" ({summands})" if summands else "") + skipped


class _Speed:
    """Times and number of images of a step, smoothed over about twenty steps."""

    def __init__(self) -> None:
        self.step_s = 0.0
        self.data_s = 0.0
        self.num_images = 0.0
        self._is_first = True

    def update(self, report: StepReport) -> None:
        weight = 1.0 if self._is_first else 0.05
        self._is_first = False
        self.step_s += weight * (report.step_s - self.step_s)
        self.data_s += weight * (report.data_s - self.data_s)
        self.num_images += weight * (report.num_images - self.num_images)

    def describe(self, report: StepReport) -> str:
        step_s = max(self.step_s, 1e-9)
        return (
            f"{1 / step_s:.2f} steps/s  {self.num_images / step_s:.0f} images/s  "
            f"waiting for images {100 * self.data_s / step_s:.0f} % of the time  "
            f"{report.memory_bytes / 1e9:.1f} GB"
        )
