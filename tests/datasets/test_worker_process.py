from __future__ import annotations

import multiprocessing
import platform
import resource

import cv2
import numpy as np
import pytest
import torch

from bevstack.datasets.worker_process import initialise_worker


def _take() -> None:
    arrays = [np.empty(3 << 20, dtype=np.uint8) for _ in range(20)]
    for array in arrays:
        array.fill(1)


def _faults(initialised: bool) -> int:
    """Count the page faults of five rounds of allocating and freeing twenty blocks of 3 MB."""
    if initialised:
        initialise_worker(0)
    _take()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        _take()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _threads(_: int) -> tuple[int, int]:
    initialise_worker(3)
    return torch.get_num_threads(), cv2.getNumThreads()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_worker_reuses_its_memory() -> None:
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
        default, initialised = pool.map(_faults, [False, True], chunksize=1)
    assert initialised < 1000  # 60 MB are 15,360 pages
    assert default > 10 * initialised


def test_a_worker_has_one_thread() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_threads, [0]) == [(1, 1)]
