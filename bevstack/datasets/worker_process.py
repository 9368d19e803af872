"""Settings of a data-loading process: threads and memory."""

from __future__ import annotations

import ctypes

import cv2
import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc


def initialise_worker(_: int) -> None:
    """Initialise a worker process; ``DataLoader`` passes its number."""
    torch.set_num_threads(1)  # the workers run in parallel: more threads would compete
    cv2.setNumThreads(0)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Make malloc keep large blocks that this process frees; return True if it will.

    A sample of six images is 74 MB of floats. By default, glibc returns blocks of that size to the
    system and requests them again for every sample. The page faults of the first access then cost
    as much as decoding. With this setting, the process never shrinks. With a C library other than
    glibc, nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, -1) and mallopt(_M_MMAP_MAX, 0))
