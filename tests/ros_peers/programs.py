"""Other programs that a test runs: started, waited for, and stopped by their process ids."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

LONGEST_S = 240  # shared processors may take long to start a program


class Program:
    """A running program with its output in files.

    Args:
        command: program and arguments.
        folder: folder for its output; the program's name names the files.
        name: name of the files, for programs of one name.
        environment: variables besides those of the test.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        name: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # its children are stopped with it
                # a shell's background jobs ignore SIGINT, and their children inherit it
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._signal(signal.SIGKILL)
        self.process.wait()

    def text(self) -> str:
        """Return what it has printed."""
        return self.out.read_text(errors="replace")

    def lines(self) -> list[str]:
        """Return the whole lines that it has printed."""
        return self.text().split("\n")[:-1]

    def await_text(self, text: str) -> None:
        """Wait until it has printed a text."""
        self.until(lambda: text in self.text(), f"printed {text!r}")

    def until(self, condition: Callable[[], object], aim: str) -> None:
        """Wait for a condition while it runs."""
        end = time.monotonic() + LONGEST_S
        while not condition():
            if self.process.poll() is not None and not condition():
                raise AssertionError(f"{self.name} ended before it {aim}: {self.report()}")
            if time.monotonic() > end:
                raise AssertionError(f"{self.name} must have {aim} by now: {self.report()}")
            time.sleep(0.05)

    def ended(self) -> str:
        """Wait for its end without an error, and return what it printed."""
        code = self.process.wait(LONGEST_S)
        assert code == 0, f"{self.name} ended with {code}: {self.report()}"
        return self.text()

    def interrupted(self) -> str:
        """Interrupt it as Ctrl-C does, and return what it printed."""
        self._signal(signal.SIGINT)
        return self.ended()

    def report(self) -> str:
        """Return the end of its output, for messages."""
        return f"{self.text()[-1500:]} {self.err.read_text(errors='replace')[-1500:]}"

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def numbers_of(printed: str) -> tuple[int, int]:
    """Return the numbers of results and of skipped windows that the node prints at its end."""
    results, skipped = (int(word) for word in printed.splitlines()[-1].split() if word.isdigit())
    return results, skipped
