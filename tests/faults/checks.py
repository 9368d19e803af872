"""Checks of a run with a fault: its message, its files, and the run after it."""

import errno
import os
import random
import re
from pathlib import Path

from tests.faults.client import FAIL_FROM_HERE, FAIL_ONCE, KILL, WRITES, Ended, Fault
from tests.faults.verbs import VERBS, Workplace, differences, files_of

TEMPORARY = re.compile(r"\.(.*)\.bevstack-[0-9a-f]{16}\.part")
EIO = Fault(action=FAIL_ONCE, error=errno.EIO)
ENOSPC = Fault(action=FAIL_FROM_HERE, error=errno.ENOSPC, kinds=WRITES)
SIGKILL = Fault(action=KILL)


def leftovers(work: Workplace) -> list[str]:
    """Return all temporary files and folders in the watched folder."""
    found = [p for p in work.inputs.parent.rglob("*") if TEMPORARY.fullmatch(p.name)]
    return sorted(map(str, [*found, *(work.inputs.parent / "temporary").iterdir()]))


def faults_of_message(work: Workplace, name: str, out: Path, ended: Ended, error: int) -> list[str]:
    """Return the faults of the message of a run that a file error ended."""
    faults = []
    start = f"bevstack {name}: error: "
    last = ended.stderr.strip().splitlines()[-1:]
    if "Traceback" in ended.stderr or not last or not last[0].startswith(start):
        return [f"message must be one sentence; got {ended.stderr[-1500:]!r}"]
    sentence = last[0]
    if os.strerror(error) not in sentence:
        faults.append(f"message must hold the cause {os.strerror(error)!r}; got {sentence!r}")
    if not any(text in sentence for text in names_of(ended.path, out)):
        faults.append(f"message must name {ended.path}; got {sentence!r}")
    return faults


def names_of(path: str, out: Path) -> set[str]:
    """Return the names that a message may give a path: a temporary file has that of its target."""
    names = set()
    for part in Path(path.removesuffix(" (deleted)")).parts[-1:]:
        temporary = TEMPORARY.fullmatch(part)
        names.add(temporary[1] if temporary else part)
    return names


def check_fault(work: Workplace, name: str, fault: Fault) -> list[str]:
    """Run a verb with a fault, then without; return what is wrong."""
    out, whole = work.new_job(), work.whole(name)
    ended = work.server.run(work.arguments(name, out), fault)
    wrong = []
    if not ended.call:
        return [f"fault must be reached; got {ended.calls} calls"]
    if ended.code == 2:
        wrong += faults_of_message(work, name, out, ended, fault.error)
    elif ended.code != 0:
        wrong.append(f"exit code must be 0 or 2; got {ended.code}: {ended.stderr[-1500:]}")
    elif changed := differences(name, out, whole, partial=False):
        wrong.append(f"results must be right after exit code 0; got other {changed}")
    wrong += [f"file must be whole; got {p}" for p in differences(name, out, whole, partial=True)]
    if left := leftovers(work):
        if ended.call not in ("unlink", "unlinkat", "rmdir"):
            wrong.append(f"no temporary file must remain; got {left}")
    wrong += check_rerun(work, name, out)
    return [f"{ended.call} of {ended.path}: {text}" for text in wrong]


def check_rerun(work: Workplace, name: str, out: Path) -> list[str]:
    """Run a verb again without a fault; return what is wrong."""
    again = work.server.run(work.arguments(name, out))
    if again.code != 0:
        return [f"run after it must end well; got {again.code}: {again.stderr[-1500:]}"]
    wrong = []
    if changed := differences(name, out, work.whole(name), partial=False):
        wrong.append(f"run after it must give the same results; got other {changed}")
    if left := leftovers(work):
        wrong.append(f"run after it must remove temporary files; got {left}")
    return wrong
