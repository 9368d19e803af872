"""Common part of predictors of single pictures."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Picture = NDArray[np.uint8]  # (H, W, 3) RGB


class _WithClasses(Protocol):
    @property
    def class_names(self) -> tuple[str, ...]: ...


Model = TypeVar("Model", bound=nn.Module)
Config = TypeVar("Config", bound=_WithClasses)


class PicturePredictor(Generic[Model, Config]):
    """Model of single pictures of any size, and its configuration.

    It keeps no state: several threads may use it.

    Args:
        model: the model, in evaluation mode.
        config: its configuration.
    """

    def __init__(self, model: Model, config: Config) -> None:
        self.model = model
        self.config = config

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes, in the order of the labels."""
        return self.config.class_names

    @property
    def device(self) -> torch.device:
        """Return the device of the model."""
        return next(self.model.parameters()).device
