"""The device of a name, on machines with and without GPUs."""

import pytest
import torch

from bevstack.runtime.devices import choose_device


@pytest.fixture
def gpus(monkeypatch):
    """Return a function that sets the number of GPUs."""

    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


def test_auto_takes_a_gpu_where_there_is_one(gpus):
    gpus(2)
    assert [choose_device(n) for n in ("auto", "cpu", "cuda", "cuda:1")] == [
        *("cuda", "cpu", "cuda", "cuda:1")
    ]
    gpus(0)
    assert choose_device("auto") == choose_device("cpu") == "cpu"


@pytest.mark.parametrize(("count", "name"), [(0, "cuda"), (0, "cuda:0"), (2, "cuda:2")])
def test_a_gpu_that_torch_cannot_use_is_refused(gpus, count, name):
    gpus(count)
    with pytest.raises(ValueError, match=rf"this machine's {count} GPUs .* got {name}\b.*doctor"):
        choose_device(name)


@pytest.mark.parametrize(
    "name", ["gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "", "mps", "cuda:0 "]
)
def test_another_name_is_refused(gpus, name):
    gpus(1)
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda or cuda:N; got"):
        choose_device(name)


def test_processes_of_torchrun_are_spread_over_the_gpus(gpus, monkeypatch):
    gpus(2)
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_node_local_rank", lambda: 3)
    assert [choose_device(n) for n in ("auto", "cuda", "cuda:0")] == ["cuda:1", "cuda:1", "cuda:0"]
