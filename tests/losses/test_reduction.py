from __future__ import annotations

import torch

from bevstack.losses.reduction import mean_over_processes


def test_one_process_has_its_own_value() -> None:
    assert mean_over_processes(torch.tensor(5.0)) == 5


def test_mean_over_processes_leaves_what_was_given(monkeypatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda value: value.add_(9))
    given = torch.tensor([1.0, 3.0])
    assert mean_over_processes(given).tolist() == [2.5, 3.0]
    assert given.tolist() == [1.0, 3.0]
