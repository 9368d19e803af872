"""Client of ``server.py``: `bevstack` in a child process, with a fault at one of its file calls."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
READS, WRITES, FREES = 1, 2, 4  # as in faults.c
COUNT_ONLY, FAIL_ONCE, FAIL_FROM_HERE, KILL = range(4)
FOREVER_S = 300.0


@dataclasses.dataclass(frozen=True)
class Fault:
    """Fault at a file call."""

    at: int = 0  # number of the call; 1 is the first
    action: int = COUNT_ONLY
    error: int = 0  # errno
    kinds: int = READS | WRITES | FREES  # calls that are counted
    kill_after_s: float = FOREVER_S


@dataclasses.dataclass(frozen=True)
class Ended:
    """End of a run."""

    code: int  # exit code; negative: the signal that ended it
    calls: list[int]  # file calls below the watched folder: reads, writes, frees
    call: str  # the call that failed, such as "open"
    path: str  # its path
    seconds: float
    cpu_s: float
    stdout: str
    stderr: str

    def num_calls(self, kinds: int) -> int:
        """Return the number of file calls of some kinds."""
        pairs = zip((READS, WRITES, FREES), self.calls, strict=True)
        return sum(count for kind, count in pairs if kind & kinds)


class Server:
    """Process that runs verbs in forked children.

    Args:
        folder: the folder whose file calls are counted.
        scratch: another folder, for the library and the output of the runs.
    """

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder, self._scratch = folder, scratch
        library = scratch / "faults.so"
        compiler = os.environ.get("CC", "cc")
        command = [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library)]
        subprocess.run([*command, str(HERE / "faults.c"), "-ldl"], check=True)
        temporary = folder / "temporary"
        temporary.mkdir()
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(temporary),
            "COLUMNS": "1000",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=CHECKOUT,
            env=environment,
            text=True,
        )

    def run(self, arguments: list[str], fault: Fault | None = None, *, warm: bool = False) -> Ended:
        """Run a verb to its end, or until the fault kills it."""
        files = {name: str(self._scratch / name) for name in ("stdout", "stderr")}
        job = {
            **dataclasses.asdict(fault or Fault()),
            **files,
            "arguments": arguments,
            "folder": str(self.folder),
            "warm": warm,
        }
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        reply = json.loads(self._process.stdout.readline())
        texts = {name: Path(path).read_text() for name, path in files.items()}
        return Ended(**reply, **texts)

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()
