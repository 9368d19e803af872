"""Time and bandwidth of a GPU: events of the device, and buffers that no cache holds."""

from __future__ import annotations

import math
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

# All sets of buffers together are at least this factor larger than the second-level cache. When a
# set is used again, the cache holds nothing of it.
CACHES = 3


class Clock(Protocol):
    """Timer of calls on a device."""

    def __call__(self, call: Callable[[], Any], count: int) -> list[float]:
        """Return the seconds of each of `count` calls."""


def require_gpu() -> torch.device:
    """Return the current GPU.

    Raises:
        SystemExit: torch cannot use any GPU.
    """
    if not torch.cuda.is_available():
        raise SystemExit(
            "--device cuda must find a GPU that torch can use; got none (torch built for CUDA "
            f"{torch.version.cuda}). Without a GPU, measure with --device cpu"
        )
    return torch.device("cuda", torch.cuda.current_device())


def clock_by_events(call: Callable[[], Any], count: int) -> list[float]:
    """Return the seconds between two events around each call.

    The device first sleeps while all calls are queued, so that the host's time for a call is not
    counted, even for a short kernel.
    """
    call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    host_seconds = time.perf_counter() - start
    torch.cuda.synchronize()
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)]
    torch.cuda._sleep(int(2e9 * (0.001 + 2 * count * host_seconds)))  # cycles, at about 2 GHz
    for before, after in pairs:
        before.record()
        call()
        after.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) / 1e3 for before, after in pairs]


def sets_needed(set_bytes: int, cache_bytes: int, free_bytes: int) -> int:
    """Return the number of buffer sets that exceed the cache and fit into the free memory."""
    wanted = math.ceil(CACHES * cache_bytes / max(set_bytes, 1)) + 1
    return max(2, min(wanted, free_bytes // max(set_bytes, 1)))


def rotation(sets: Sequence[Sequence[Tensor]]) -> Callable[[], Sequence[Tensor]]:
    """Return a function that returns the next set at each call, cyclically."""

    def cycle() -> Iterator[Sequence[Tensor]]:
        while True:
            yield from sets

    ring = cycle()
    return lambda: next(ring)


def copies(tensors: Sequence[Tensor], count: int) -> list[list[Tensor]]:
    """Return `count` sets of equal tensors in separate memory; the first set is the argument."""
    return [list(tensors), *([t.clone() for t in tensors] for _ in range(count - 1))]


def copy_bandwidth(device: torch.device, clock: Clock, size: int = 1 << 30) -> float:
    """Return the median bandwidth of copying `size` bytes, in bytes read and written a second."""
    source = torch.zeros(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / statistics.median(clock(lambda: target.copy_(source), 20))


def describe(device: torch.device) -> dict[str, Any]:
    """Return the device, its driver, and the versions that figures are valid for."""
    properties = torch.cuda.get_device_properties(device)
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        driver = "unknown"
    return {
        "device": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "l2_bytes": properties.L2_cache_size,
        "driver": driver.strip().splitlines()[0],
        "cuda": torch.version.cuda,
    }
