"""Checks of a run with a fault: its message, its files, and the run after it."""

import dataclasses
import errno
import os
import random
import re
import signal
from pathlib import Path

from tests.faults.client import FAIL_FROM_HERE, FAIL_ONCE, KILL, WRITES, Ended, Fault
from tests.faults.verbs import Workplace, differences

TEMPORARY = re.compile(r"\.(.*)\.bevstack-[0-9a-f]{16}\.part")
NAMED_TEMPORARY = re.compile(r"/\.(?!scratch\.)[^/]*\.bevstack-[0-9a-f]{16}\.part")  # in a message
EIO = Fault(action=FAIL_ONCE, error=errno.EIO)
ENOSPC = Fault(action=FAIL_FROM_HERE, error=errno.ENOSPC, kinds=WRITES)
SIGKILL = Fault(action=KILL)
KILLS_OF_CHAIN = 5


def leftovers(work: Workplace) -> list[str]:
    """Return all temporary files and folders in the watched folder."""
    found = [p for p in work.inputs.parent.rglob("*") if TEMPORARY.fullmatch(p.name)]
    return sorted(map(str, found))


def faults_of_message(work: Workplace, name: str, out: Path, ended: Ended, error: int) -> list[str]:
    """Return the faults of the message of a run that a file error ended."""
    faults = []
    start = f"bevstack {work.arguments(name, out)[0]}: error: "
    last = ended.stderr.strip().splitlines()[-1:]
    if "Traceback" in ended.stderr or not last or not last[0].startswith(start):
        return [f"message must be one sentence; got {ended.stderr[-1500:]!r}"]
    sentence = last[0]
    # After an error, Python's rmtree closes the folder twice and reports the second error.
    is_rmtree = ended.call == "close" and parts_of(ended.path) is not None
    cause = errno.EBADF if is_rmtree and os.strerror(errno.EBADF) in sentence else error
    if os.strerror(cause) not in sentence:
        faults.append(f"message must hold the cause {os.strerror(error)!r}; got {sentence!r}")
    if not any(text in sentence for text in names_of(ended.path, out)):
        faults.append(f"message must name {ended.path}; got {sentence!r}")
    if NAMED_TEMPORARY.search(sentence):
        faults.append(f"message must not name temporary files; got {sentence!r}")
    return faults


def names_of(path: str, out: Path) -> set[str]:
    """Return the names that a message may give a path: a temporary file has that of its target.

    An error while the folder of finished scenes is removed names that folder.
    """
    name, parts = Path(path).name, parts_of(path)
    if parts is not None:
        return {name, parts}
    if re.fullmatch(r"#\d+ \(deleted\)", name):  # the trial of ``check_writable`` has no name
        return {f"{out}/"}
    temporary = TEMPORARY.fullmatch(name)
    return {temporary[1] if temporary else name}


def parts_of(path: str) -> str | None:
    """Return the name of the folder of finished scenes that holds a path or is it."""
    return next((part for part in Path(path).parts if part.endswith(".parts")), None)


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
    left = leftovers(work)
    # Removing can fail, too; rmtree also opens and lists the folder. The next run removes it.
    removes = ended.call in ("unlink", "unlinkat", "rmdir") or (
        ended.code == 0 and all(ended.path.startswith(path) for path in left)
    )
    if left and not removes:
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


def find_faults(work, name, fault, few=None):
    """Return what is wrong after each fault; ``few``: at that many calls, spread over the run."""
    calls = range(1, work.healthy(name).num_calls(fault.kinds) + 1)
    assert len(calls) > 0, f"no call of {name} was counted"
    if few is not None:
        draw = random.Random(few)
        part = len(calls) // few
        calls = [part * i + draw.randrange(1, part + 1) for i in range(few)]
    return [
        wrong
        for at in calls
        for wrong in check_fault(work, name, dataclasses.replace(fault, at=at))
    ]


def kill_chain(work, name, seed, kills=KILLS_OF_CHAIN):
    """Kill a verb that often, then let it end; return what is wrong."""
    healthy = work.healthy(name)
    num_calls = healthy.num_calls(SIGKILL.kinds)
    draw = random.Random(seed)
    out, done = work.new_job(), 0
    while done < kills:
        if draw.random() < 0.5:
            fault = dataclasses.replace(SIGKILL, at=draw.randrange(1, num_calls + 1))
        else:
            fault = Fault(kill_after_s=draw.uniform(0, healthy.seconds))
        ended = work.server.run(work.arguments(name, out), fault)
        place = f"seed {seed}, kill {done}: {fault} at {ended.call} of {ended.path}"
        if changed := differences(name, out, work.whole(name), partial=ended.code != 0):
            return [f"{place}: file must be whole; got {changed}"]
        if ended.code == 0:  # it finished before the kill: start another one
            out = work.new_job()
        elif ended.code == -signal.SIGKILL:
            done += 1
        else:
            return [f"{place}: run must end well or be killed; got {ended.code}: {ended.stderr}"]
    return [f"seed {seed}: {text}" for text in check_rerun(work, name, out)]
