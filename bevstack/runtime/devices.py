"""Choice of the device that a model runs on."""

from __future__ import annotations

import logging
import re

import torch
from torch import distributed

_LOG = logging.getLogger(__name__)
_CUDA = re.compile(r"cuda(?::(\d{1,4}))?")


def choose_device(name: str) -> str:
    """Return the device of a name: "auto", "cpu", "cuda" or "cuda:N".

    "auto" is a GPU if torch can use one, else the CPU. Under ``torchrun``, "auto" and "cuda" spread
    the processes over the GPUs of a machine.

    Raises:
        ValueError: another name, or a GPU that torch cannot use.
    """
    device = _choose(name)
    _LOG.info("device %s", device)
    return device


def _choose(name: str) -> str:
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not available):
        return "cpu"
    found = _CUDA.fullmatch("cuda" if name == "auto" else name)
    if found is None:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N; got {name!r}")
    if int(found[1] or 0) >= available:
        reason = "" if torch.version.cuda else ", and this torch is built without CUDA"
        raise ValueError(
            f"device must be one of this machine's {available} GPUs that torch can use; got "
            f"{name}{reason}: give --device cpu; `bevstack doctor` shows the GPUs"
        )
    if found[1] is None and distributed.is_available() and distributed.is_torchelastic_launched():
        return f"cuda:{distributed.get_node_local_rank() % available}"
    return found[0]
