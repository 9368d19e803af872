"""Processes of a training run: a single one, or those that ``torchrun`` started."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Processes:
    """Rank of this process, number of processes, and this process's device."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Return True in the process that writes the files."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for the other processes."""
        if self.world_size > 1:
            distributed.barrier()

    def all_true(
        self,
        flag: Tensor,  # () bool
    ) -> bool:
        """Return True if the flag is set in every process."""
        if self.world_size > 1:
            flag = flag.to(torch.int32)
            distributed.all_reduce(flag, distributed.ReduceOp.MIN)
        return bool(flag)

    def all_reduce_sum(
        self,
        values: Tensor,  # (...)
    ) -> Tensor:  # (...)
        """Sum values over all processes."""
        if self.world_size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def gather_texts(self, text: str) -> list[str]:
        """Gather the texts of all processes, ordered by rank, in each of them."""
        if self.world_size == 1:
            return [text]
        encoded = torch.tensor(list(text.encode()), dtype=torch.uint8, device=self.device)
        lengths = self._gather(torch.tensor([len(encoded)], device=self.device))
        longest = max(int(length) for length in lengths)
        padded = torch.zeros(longest, dtype=torch.uint8, device=self.device)
        padded[: len(encoded)] = encoded
        gathered = self._gather(padded)
        return [
            bytes(part[: int(length)].tolist()).decode()
            for part, length in zip(gathered, lengths, strict=True)
        ]

    def _gather(self, tensor: Tensor) -> list[Tensor]:
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        distributed.all_gather(parts, tensor)
        return parts


def join_processes(device: str = "cpu") -> Processes:
    """Join the processes of ``torchrun``, by NCCL on GPUs, else by gloo; or return a single one.

    Each process of a machine uses the GPU of its local rank.

    Raises:
        ValueError: ``device`` is a GPU and this process has none.
    """
    own_device = torch.device(device)
    launched = distributed.is_torchelastic_launched()
    if own_device.type == "cuda":
        if launched:
            own_device = torch.device("cuda", distributed.get_node_local_rank())
        available = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (own_device.index or 0) >= available:
            raise ValueError(
                f"device must be one of this machine's {available} GPUs; got {own_device}: give "
                "--device cpu, or start fewer processes"
            )
        torch.cuda.set_device(own_device)
    if not launched:
        return Processes(device=own_device)
    if not distributed.is_initialized():
        _join("nccl" if own_device.type == "cuda" else "gloo")
    return Processes(distributed.get_rank(), distributed.get_world_size(), own_device)


def _join(backend: str) -> None:
    """Create the group of all processes, under keys that no earlier group used.

    torch creates every such group under the same keys of one store, which outlives the group. A
    process that joins a second time would find the addresses of the first group and wait forever.
    """
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, world_size = next(rendezvous("env://"))
    times_joined = store.add(f"bevstack/joined/{rank}", 1)
    distributed.init_process_group(
        backend,
        store=PrefixStore(f"bevstack/{times_joined}", store),
        rank=rank,
        world_size=world_size,
    )


def leave_processes() -> None:
    """Leave the group of processes, if there is one."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
