"""Server that runs `bevstack` in forked children, one of whose file calls may fail.

It reads one job a line from stdin and answers with one line. A fork takes milliseconds, where a new
process imports torch for seconds. ``client.py`` starts it with the library of ``faults.c``.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback

import cv2
import torch

from bevstack.cli.main import main

FAULTS = ctypes.CDLL(None)  # the preloaded library is a part of this process
FAULTS.faults_call.restype = FAULTS.faults_path.restype = ctypes.c_char_p
FAULTS.faults_count.restype = ctypes.c_long
FAULTS.faults_arm.argtypes = (
    ctypes.c_char_p,
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
)


def run_verb(arguments):
    """Run a verb as the command does; return its exit code."""
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code
    except Exception:  # noqa: BLE001 - its traceback goes to the job's stderr
        traceback.print_exc()
        return 1


def run_child(job):
    """Run a job's verb with its output in files; never return."""
    code = 1
    try:
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            file = os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(file, descriptor)
            os.close(file)
        FAULTS.faults_arm(
            os.fsencode(job["folder"]), job["at"], job["action"], job["error"], job["kinds"]
        )
        code = run_verb(job["arguments"])
        FAULTS.faults_disarm()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def answer(job):
    """Run a job in a child and return its end; a kill after a time is done here."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        run_child(job)
    timer = threading.Timer(job["kill_after_s"], os.kill, (child, signal.SIGKILL))
    timer.start()
    _, status, used = os.wait4(child, 0)
    timer.cancel()
    timer.join()
    return {
        "code": os.waitstatus_to_exitcode(status),
        "calls": [FAULTS.faults_count(kind) for kind in (1, 2, 4)],
        "call": FAULTS.faults_call().decode(),
        "path": os.fsdecode(FAULTS.faults_path()),
        "seconds": time.monotonic() - started,
        "cpu_s": used.ru_utime + used.ru_stime,
    }


def serve():
    """Answer jobs until stdin ends; a job "warm" is run here, so that children find all loaded."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        job = json.loads(line)
        if job["warm"]:
            with (
                open(job["stdout"], "w") as out,
                open(job["stderr"], "w") as errors,
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(errors),
            ):
                reply = {"code": run_verb(job["arguments"]), "calls": [], "call": "", "path": ""}
                reply |= {"seconds": 0.0, "cpu_s": 0.0}
        else:
            reply = answer(job)
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    serve()
