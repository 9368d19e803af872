"""Heads of regions: class and box, and mask (Mask R-CNN, arXiv 1703.06870).

Letters: R regions, K classes; the last class index is the background.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from bevstack.config.detection2d import RoIConfig


class BoxOutput(NamedTuple):
    """Predictions of a head of boxes."""

    logits: Tensor  # (R, K + 1)
    codes: Tensor  # (R, 4 K) of the box of each class, relative to the region


class BoxHead(nn.Module):
    """Convolutions with batch norm, then linear maps, to classes and the box of each class."""

    def __init__(self, config: RoIConfig, *, channels: int, num_classes: int) -> None:
        super().__init__()
        hidden = config.hidden_channels
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(config.num_convs)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(config.num_convs))
        inputs = [channels * config.box_cells**2] + [hidden] * (config.num_linear - 1)
        self.linear = nn.ModuleList(nn.Linear(size, hidden) for size in inputs)
        self.logits = nn.Linear(hidden, num_classes + 1)
        self.codes = nn.Linear(hidden, 4 * num_classes)
        self._init_weights()

    def _init_weights(self) -> None:
        for module in (*self.convs, *self.linear):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
        nn.init.normal_(self.logits.weight, std=0.01)  # standard deviations of the released code
        nn.init.normal_(self.codes.weight, std=0.001)
        for linear in (*self.linear, self.logits, self.codes):
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        features: Tensor,  # (R, C, cells, cells)
    ) -> BoxOutput:
        """Predict the class and the box of each region."""
        x = features
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x)).relu()
        x = x.flatten(1)
        for linear in self.linear:
            x = linear(x).relu()
        return BoxOutput(self.logits(x), self.codes(x))


class MaskHead(nn.Module):
    """Convolutions, an upsampling to twice the cells, and a linear map to a mask of each class."""

    def __init__(self, config: RoIConfig, *, channels: int, num_classes: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(config.num_mask_convs)
        )
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.logits = nn.Conv2d(channels, num_classes, 1)
        for conv in (*self.convs, self.upsample, self.logits):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(conv.bias)

    def forward(
        self,
        features: Tensor,  # (R, C, cells, cells)
    ) -> Tensor:  # (R, K, 2 cells, 2 cells) logits
        """Predict the mask of each class within each region."""
        x = features
        for conv in self.convs:
            x = conv(x).relu()
        masks: Tensor = self.logits(self.upsample(x).relu())
        return masks
