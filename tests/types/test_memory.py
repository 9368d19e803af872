"""Memory rows are independent streams: selecting and joining them loses nothing."""

import pytest
import torch

from bevstack.types import BEVMemory


def make_memory(batch, levels=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = tuple(
        torch.randn(batch, 3, 4, 5 + level, generator=generator, requires_grad=True)
        for level in range(levels)
    )
    return BEVMemory(
        features,
        torch.rand(batch, 3, generator=generator) > 0.5,
        torch.randn(batch, 3, 4, 4, dtype=torch.float64, generator=generator),
        torch.randint(0, 10**15, (batch, 3), generator=generator),
        torch.arange(batch),
        torch.full((batch,), 7),
    )


def test_concatenate_then_select_gives_each_stream_back():
    one, two = make_memory(1), make_memory(2, seed=1)
    joined = BEVMemory.concatenate([one, two])
    assert joined.batch_size == 3
    back = joined.select(torch.tensor([2, 1]))
    assert torch.equal(back.features[1], two.features[1].flip(0))
    assert torch.equal(back.timestamp_us, two.timestamp_us.flip(0))
    assert back.world_from_bev.dtype == torch.float64


def test_detach_cuts_the_gradient():
    assert not any(f.requires_grad for f in make_memory(2).detach().features)


def test_levels_and_batches_that_disagree_are_named():
    with pytest.raises(ValueError, match="same number of levels"):
        BEVMemory.concatenate([make_memory(1), make_memory(1, levels=3)])
    memory = make_memory(2)
    with pytest.raises(ValueError, match=r"features\[0\] must have leading axes \(2, 3\)"):
        BEVMemory(
            (torch.zeros(1, 3, 2),),
            memory.valid,
            memory.world_from_bev,
            memory.timestamp_us,
            memory.sequence_id,
            memory.fingerprint,
        )
