"""Models of several tasks around one backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from bevstack.models.weights import BACKBONE


class JointModel(nn.Module):
    """A backbone and the models of the tasks that share it.

    In the state dict the backbone stands once, as ``backbone.*``; the rest of a task's model is
    ``tasks.<name>.*``.

    Args:
        backbone: the backbone, which every model holds as its attribute ``backbone``.
        models: the models by task.
    """

    def __init__(self, backbone: nn.Module, models: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone  # first, so that its parameters have these names
        self.tasks = nn.ModuleDict(models)
        untyped: Any = self  # torch does not annotate these two
        untyped.register_state_dict_post_hook(_drop_copies)
        untyped.register_load_state_dict_pre_hook(_add_copies)


def _drop_copies(
    model: nn.Module, state: dict[str, Any], prefix: str, _metadata: dict[str, Any]
) -> None:
    assert isinstance(model, JointModel)
    for name in model.tasks:
        copied = f"{prefix}tasks.{name}.{BACKBONE}"
        for key in [key for key in state if key.startswith(copied)]:
            del state[key]


def _add_copies(model: nn.Module, state: dict[str, Any], prefix: str, *_unused: object) -> None:
    assert isinstance(model, JointModel)
    shared = {k: v for k, v in state.items() if k.startswith(prefix + BACKBONE)}
    for name in model.tasks:
        for key, value in shared.items():
            state[f"{prefix}tasks.{name}.{key.removeprefix(prefix)}"] = value
