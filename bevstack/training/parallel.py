"""Data-parallel training by torch's DDP and FSDP2: wrapping of modules, sharding of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from bevstack.tasks.task import Sharding
from bevstack.training.processes import Processes

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

# Types that are never sharded. Checking for DTensor imports it, which takes time.
_PLAIN = (Tensor, nn.Parameter)


def shard(module: nn.Module, processes: Processes, sharding: Sharding) -> None:
    """Shard every parameter of a module over the processes (FSDP2), in place.

    Call it before making the optimiser, so that the optimiser's state is sharded too.

    Args:
        module: equal in all processes.
        processes: the processes that each hold one shard.
        sharding: modules to gather one at a time; all other parameters are gathered once per
            pass. Gathering needs all processes, so they must run each part equally often; if they
            do not, everything is gathered for a whole pass.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(processes.device.type, (processes.world_size,))
    for part in list(module.modules()):
        if sharding.run_equally_often and isinstance(part, sharding.parts):
            fully_shard(part, mesh=mesh)
    fully_shard(module, mesh=mesh)


def reshard(module: nn.Module) -> None:
    """Drop the gathered parameters of a sharded module after a forward pass without backward."""
    for part in _sharded_parts(module):
        part.reshard()


def _sharded_parts(module: nn.Module) -> list[FSDPModule]:
    from torch.distributed.fsdp import FSDPModule

    return [part for part in module.modules() if isinstance(part, FSDPModule)]


def replicate(module: nn.Module, *, some_unused: bool) -> nn.Module:
    """Wrap a module so that its gradients are averaged over the processes (DDP).

    Args:
        module: equal in all processes.
        some_unused: True if some parameters take no part in a step.
    """
    return DistributedDataParallel(module, find_unused_parameters=some_unused)


def no_gradient_sync(module: nn.Module, active: bool) -> AbstractContextManager[None]:
    """Return a context in which gradients are not averaged over processes if ``active``."""
    if isinstance(module, DistributedDataParallel):
        return module.no_sync() if active else nullcontext()
    if not distributed.is_initialized():
        return nullcontext()
    from torch.distributed.fsdp import FSDPModule

    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(not active)
    return nullcontext()


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor; return any other tensor unchanged. Every process must call it."""
    if type(tensor) in _PLAIN:
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_tensor(tensor: Tensor) -> Tensor:
    """Return this process's shard of a sharded tensor, without a copy, or any other unchanged."""
    if type(tensor) in _PLAIN:
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shard_like(
    tensor: Tensor,  # not sharded
    like: Tensor,  # of the same shape, sharded or not
) -> Tensor:
    """Shard a tensor like another one; every process must call it."""
    if type(like) in _PLAIN:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


@torch.no_grad()
def load_full_state_dict(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load a state dict of tensors that are not sharded into a model that may be."""
    current = model.state_dict()
    model.load_state_dict(
        {
            n: shard_like(value, current[n]) if n in current else value
            for n, value in tensors.items()
        }
    )
