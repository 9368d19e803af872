"""How a data-loading process uses its machine."""

from __future__ import annotations

import ctypes

import cv2
import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc


def settle_worker(_: int) -> None:
    """Begins a worker process; the argument is its number, as ``DataLoader`` gives it."""
    torch.set_num_threads(1)  # workers are the parallelism: threads of their own would compete
    cv2.setNumThreads(0)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Large memory that this process frees stays with it, to be used again; whether it does.

    A sample of six images is 74 MB of floats. By default glibc gives so much back and takes it
    anew for each, and its first touches cost as much as decoding. The process then stays as large
    as it has ever been. Where the C library is another one, nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, -1) and mallopt(_M_MMAP_MAX, 0))
