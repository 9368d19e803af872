"""One process, DDP or FSDP2 (torch's own): what is wrapped, what is whole and what is a share."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from bevstack.models.backbones.internimage import InternImageBlock
from bevstack.models.backbones.resnet import Bottleneck
from bevstack.models.detection3d.bev_encoder import BEVEncoderLayer
from bevstack.models.detection3d.decoder import DecoderLayer
from bevstack.training.processes import Processes

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

# What FSDP2 gathers one at a time, each returning plain tensors; all else is gathered once a pass.
SHARDED_PARTS = (InternImageBlock, Bottleneck, BEVEncoderLayer, DecoderLayer)
# Tensors that are whole for certain; asking further imports torch's sharded ones, which takes time.
_PLAIN = (Tensor, nn.Parameter)


def shard(trainee: nn.Module, processes: Processes, *, by_parts: bool) -> None:
    """Leaves each process its share of every parameter (FSDP2), in place.

    To be called before the optimiser is made, which then holds shares of its state too.

    Args:
        trainee: the same in all processes.
        processes: those that share.
        by_parts: gathers blocks and layers one at a time, instead of everything for a whole pass.
            Only where all processes run each part equally often, which they do not where samples
            have unequally much history: gathering is work in common.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(processes.device.type, (processes.world_size,))
    for module in list(trainee.modules()):
        if by_parts and isinstance(module, SHARDED_PARTS):
            fully_shard(module, mesh=mesh)
    fully_shard(trainee, mesh=mesh)


def scatter(trainee: nn.Module) -> None:
    """Takes the parameters of a sharded trainee apart, where no backward pass has done it."""
    for module in _sharded(trainee):
        module.reshard()


def _sharded(trainee: nn.Module) -> list[FSDPModule]:
    from torch.distributed.fsdp import FSDPModule

    return [module for module in trainee.modules() if isinstance(module, FSDPModule)]


def replicate(trainee: nn.Module, *, some_unused: bool) -> nn.Module:
    """The trainee with gradients averaged over processes (DDP).

    Args:
        trainee: the same in all processes.
        some_unused: not every parameter takes part in a step.
    """
    return DistributedDataParallel(trainee, find_unused_parameters=some_unused)


def gradients_stay(engine: nn.Module, stay: bool) -> AbstractContextManager[None]:
    """Within, backward passes keep their gradients in each process if ``stay``."""
    if isinstance(engine, DistributedDataParallel):
        return engine.no_sync() if stay else nullcontext()
    if not distributed.is_initialized():
        return nullcontext()
    from torch.distributed.fsdp import FSDPModule

    if isinstance(engine, FSDPModule):
        engine.set_requires_gradient_sync(not stay)
    return nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor; every process must ask for it. Others as they are."""
    if type(tensor) in _PLAIN:
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def share(tensor: Tensor) -> Tensor:
    """This process's part of a sharded tensor, not copied; others as they are."""
    if type(tensor) in _PLAIN:
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def as_shared(
    tensor: Tensor,  # whole
    like: Tensor,  # whole or sharded
) -> Tensor:
    """A whole tensor, sharded as another one is, which has its shape; every process must ask."""
    if type(like) in _PLAIN:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


@torch.no_grad()
def load_shared(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """``model.load_state_dict`` of whole tensors, whatever the model's own are."""
    own = model.state_dict()
    model.load_state_dict(
        {n: as_shared(value, own[n]) if n in own else value for n, value in tensors.items()}
    )
