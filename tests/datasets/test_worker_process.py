from __future__ import annotations

import multiprocessing
import platform
import resource

import cv2
import numpy as np
import pytest
import torch

from bevstack.datasets.worker_process import settle_worker


def _take() -> None:
    arrays = [np.empty(3 << 20, dtype=np.uint8) for _ in range(20)]
    for array in arrays:
        array.fill(1)


def _faults(settled: bool) -> int:
    """Pages touched the first time while twenty times 3 MB are taken and freed five times over."""
    if settled:
        settle_worker(0)
    _take()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        _take()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _threads(_: int) -> tuple[int, int]:
    settle_worker(3)
    return torch.get_num_threads(), cv2.getNumThreads()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
def test_a_worker_uses_its_memory_again() -> None:
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
        default, settled = pool.map(_faults, [False, True], chunksize=1)
    assert settled < 1000  # 60 MB are 15,360 pages
    assert default > 10 * settled


def test_a_worker_has_one_thread() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_threads, [0]) == [(1, 1)]
