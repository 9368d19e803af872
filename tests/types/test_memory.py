"""Temporal memory: its rows are independent streams that survive selection and concatenation."""

from dataclasses import replace

import pytest
import torch

from bevstack.geometry import CameraRig
from bevstack.types import BEVMemory, sequence_ids


def make_memory(batch, levels=2, seed=0, cameras=4, slots=3, with_rig=True):
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape, dtype=torch.float32):
        return torch.randn(batch, *shape, generator=generator, dtype=dtype)

    features = tuple(
        noise(slots, cameras, 5 + level).requires_grad_() if with_rig else noise(slots, 5, 7)
        for level in range(levels)
    )
    frames = (slots, cameras)
    rig = CameraRig(
        noise(*frames, 3, 3, dtype=torch.float64),
        noise(*frames, 4, 4, dtype=torch.float64),
        torch.full((batch, *frames, 2), 9),
        noise(*frames) > 0,
    )
    return BEVMemory(
        features,
        torch.rand(batch, slots, generator=generator) > 0.5,
        noise(slots, 4, 4, dtype=torch.float64),
        torch.randint(0, 10**15, (batch, slots), generator=generator),
        torch.arange(batch),
        (7,) * batch,
        rig if with_rig else None,
        torch.randint(0, 6, (batch, *frames), generator=generator) if with_rig else None,
        tuple((64 + row, 96) for row in range(batch)) if with_rig else None,
    )


@pytest.mark.parametrize("with_rig", [True, False])
def test_selecting_from_concatenated_memories_returns_each_stream(with_rig):
    one, two = make_memory(1, with_rig=with_rig), make_memory(2, seed=1, with_rig=with_rig)
    both = BEVMemory.concatenate([one, two])
    assert both.batch_size == 3
    back = both.select(torch.tensor([2, 1]))
    assert torch.equal(back.features[1], two.features[1].flip(0))
    assert torch.equal(back.timestamp_us, two.timestamp_us.flip(0))
    assert torch.equal(back.sequence_id, two.sequence_id.flip(0))
    assert back.world_from_bev.dtype == torch.float64
    if with_rig:
        assert torch.equal(back.rig.bev_from_cam, two.rig.bev_from_cam.flip(0))
        assert torch.equal(back.rig.camera_mask, two.rig.camera_mask.flip(0))
        assert torch.equal(back.camera_slots, two.camera_slots.flip(0))
        assert back.padded_size == two.padded_size[::-1]
    else:
        assert back.rig is None


def test_detach_cuts_the_gradient_and_to_moves_every_tensor():
    memory = make_memory(2)
    assert not any(f.requires_grad for f in memory.detach().features)
    moved = memory.to("meta")
    assert {t.device.type for t in (*moved.frame_tensors(), moved.sequence_id)} == {"meta"}
    assert (moved.fingerprint, moved.padded_size) == (memory.fingerprint, memory.padded_size)


def test_bytes_per_frame_equal_the_size_of_its_tensors():
    memory = make_memory(2)  # 4 cameras, levels of 4 x 5 and 4 x 6 float32
    features = 4 * (4 * 5 + 4 * 6)
    calibration = 4 * (8 * 9 + 8 * 16 + 8 * 2 + 1 + 8)  # for each camera, its slot included
    assert memory.bytes_per_frame == features + calibration + 1 + 8 * 16 + 8
    assert make_memory(0).bytes_per_frame == memory.bytes_per_frame


def test_errors_name_levels_slots_and_sizes_that_differ():
    with pytest.raises(ValueError, match="same number of levels"):
        BEVMemory.concatenate([make_memory(1), make_memory(1, levels=3)])
    with pytest.raises(ValueError, match=r"slots.*got levels \[2\] and slots \[3, 4\]"):
        BEVMemory.concatenate([make_memory(1), make_memory(1, slots=4)])
    with pytest.raises(ValueError, match="features of one size"):
        BEVMemory.concatenate([make_memory(1), make_memory(1, cameras=5)])
    with pytest.raises(ValueError, match="same number of levels"):
        BEVMemory.concatenate([])
    memory = make_memory(2)
    with pytest.raises(ValueError, match=r"features\[0\] must have leading axes \(2, 3\)"):
        replace(memory, features=(torch.zeros(1, 3, 2),))
    with pytest.raises(ValueError, match="must be given together"):
        replace(memory, camera_slots=None)
    with pytest.raises(ValueError, match=r"padded_size must hold one entry a stream \(2\); got 3"):
        replace(memory, padded_size=((64, 96),) * 3)
    with pytest.raises(ValueError, match=r"fingerprint must hold one entry a stream \(2\); got 1"):
        replace(memory, fingerprint=(7,))


def test_each_scene_has_its_own_reproducible_number():
    ids = sequence_ids(("scene-a", "scene-b", "scene-a", ""))
    assert ids[0] == ids[2] != ids[1]
    assert int(ids[3]) == 0xE3B0C44298FC1C14 >> 1  # first bits of SHA-256 of the empty string
    assert sequence_ids(()).shape == (0,)
