from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn

from bevstack.models.layers.norms import SyncBatchNorm, build_batch_norm

SHARES = ((0, 2), (2, 5))  # of five images: unequal shares of two processes


def _images() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return 40 + 3 * torch.randn(5, 4, 3, 2, generator=generator, dtype=torch.float64)


def _started(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    with torch.no_grad():
        norm.weight.copy_(torch.tensor((0.5, 1.0, 2.0, -1.0)))
        norm.bias.copy_(torch.tensor((1.0, 0.0, -2.0, 3.0)))
    return norm.double()


def _step(norm: nn.BatchNorm2d, images: Tensor) -> tuple[Tensor, Tensor]:
    images = images.clone().requires_grad_()
    out = norm(images)
    out.pow(3).sum().backward()
    return out.detach(), images.grad


def _one_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(SHARES)
    )
    norm = _started(SyncBatchNorm(4))
    out, grad = _step(norm, _images()[slice(*SHARES[rank])])
    state = {"out": out, "grad": grad, "mean": norm.running_mean, "var": norm.running_var}
    state["weight_grad"] = norm.weight.grad
    torch.save(state, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_normalise_as_one_with_all_images(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_one_process, (str(tmp_path),), nprocs=len(SHARES))
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    plain = _started(nn.BatchNorm2d(4))
    out, grad = _step(plain, _images())
    torch.testing.assert_close(torch.cat([part["out"] for part in parts]), out)
    torch.testing.assert_close(torch.cat([part["grad"] for part in parts]), grad)
    torch.testing.assert_close(sum(part["weight_grad"] for part in parts), plain.weight.grad)
    for part in parts:
        torch.testing.assert_close(part["mean"], plain.running_mean)
        torch.testing.assert_close(part["var"], plain.running_var)


@pytest.mark.parametrize("training", [True, False])
def test_alone_it_is_the_plain_norm(training: bool) -> None:
    sync = _started(SyncBatchNorm(4)).train(training)
    plain = _started(nn.BatchNorm2d(4)).train(training)
    for got, wanted in zip(_step(sync, _images()), _step(plain, _images()), strict=True):
        assert torch.equal(got, wanted)
    assert torch.equal(sync.running_var, plain.running_var)


def test_norms_are_built_by_name() -> None:
    assert type(build_batch_norm("BN", 3)) is nn.BatchNorm2d
    assert type(build_batch_norm("SyncBN", 3)) is SyncBatchNorm
    with pytest.raises(ValueError, match="norm must be 'BN' or 'SyncBN'; got 'LN'"):
        build_batch_norm("LN", 3)
