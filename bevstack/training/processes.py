"""The processes of a training run: one alone, or those that ``torchrun`` started."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Processes:
    """Which of the processes this is, and the device it computes on."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def barrier(self) -> None:
        """Waits for the others."""
        if self.world_size > 1:
            distributed.barrier()

    def agree(
        self,
        flag: Tensor,  # () bool
    ) -> bool:
        """Whether the flag is set in every process."""
        if self.world_size > 1:
            flag = flag.to(torch.int32)
            distributed.all_reduce(flag, distributed.ReduceOp.MIN)
        return bool(flag)

    def total(
        self,
        values: Tensor,  # (...)
    ) -> Tensor:  # (...)
        """Sums over all processes."""
        if self.world_size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def gather_texts(self, text: str) -> list[str]:
        """The texts of all processes, by rank, in each of them."""
        if self.world_size == 1:
            return [text]
        own = torch.tensor(list(text.encode()), dtype=torch.uint8, device=self.device)
        lengths = self._gather(torch.tensor([len(own)], device=self.device))
        longest = max(int(length) for length in lengths)
        padded = torch.zeros(longest, dtype=torch.uint8, device=self.device)
        padded[: len(own)] = own
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
    """This process's place under ``torchrun``, over NCCL on GPUs, else over gloo; or alone.

    Each process of a machine takes the GPU of its local rank.

    Raises:
        ValueError: a GPU is asked for and there is none for this process.
    """
    place = torch.device(device)
    launched = distributed.is_torchelastic_launched()
    if place.type == "cuda":
        if launched:
            place = torch.device("cuda", distributed.get_node_local_rank())
        available = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (place.index or 0) >= available:
            raise ValueError(
                f"device must be one of this machine's {available} GPUs; got {place}: give "
                "--device cpu, or start fewer processes"
            )
        torch.cuda.set_device(place)
    if not launched:
        return Processes(device=place)
    if not distributed.is_initialized():
        _join("nccl" if place.type == "cuda" else "gloo")
    return Processes(distributed.get_rank(), distributed.get_world_size(), place)


def _join(backend: str) -> None:
    """Makes the group of all processes, under keys of its own.

    torch makes every such group under the same keys of one store, which outlives the group: whoever
    joins a second time finds the addresses of the first group and waits for them without end.
    """
    store, rank, world_size = next(distributed.rendezvous("env://"))
    times_joined = store.add(f"bevstack/joined/{rank}", 1)
    distributed.init_process_group(
        backend,
        store=distributed.PrefixStore(f"bevstack/{times_joined}", store),
        rank=rank,
        world_size=world_size,
    )


def leave_processes() -> None:
    """Ends the work in common, where there was any."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
