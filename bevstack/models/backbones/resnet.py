"""ResNet (arXiv 1512.03385) in the "caffe" style of published detectors.

Letters: B batch, H W image, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from bevstack.config.resnet import EXPANSION, ResNetConfig
from bevstack.models.layers.norms import build_batch_norm, run_block
from bevstack.shapes import expect_shape


class Bottleneck(nn.Module):
    """Residual block: 1x1 to the inner channels, 3x3, 1x1 to the outer ones; ReLU of the sum.

    The stride is on the first 1x1 (paper, section 4.1), not on the 3x3 as in later code. If the
    shape changes, the input is convolved (1x1) and normalised before the sum.
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int, norm: str) -> None:
        super().__init__()
        out_channels = EXPANSION * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
        self.bn1 = build_batch_norm(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = build_batch_norm(norm, channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = build_batch_norm(norm, out_channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                build_batch_norm(norm, out_channels),
            )

    def forward(
        self,
        x: Tensor,  # (B, C, H, W)
    ) -> Tensor:  # (B, 4 * channels, ceil(H / stride), ceil(W / stride))
        """Add the residual branch to the input."""
        branch = functional.relu(self.bn1(self.conv1(x)))
        branch = functional.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        return functional.relu(branch + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Backbone with feature maps at strides 4, 8, 16 and 32 (those of ``out_indices``).

    Images may have any size; each halving rounds up. Published weights expect BGR images of 0..255
    minus the mean, not divided by a deviation. Stages after the last returned one are built, so
    that published weights fit, but not run. Nothing is frozen, as in the released BEVFormer v2
    recipe.

    Args:
        config: depth, width and the returned stages.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv2d(3, config.base_channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = build_batch_norm(config.norm, config.base_channels)
        in_channels = config.base_channels
        for index, blocks in enumerate(config.stage_blocks):
            stage = nn.Sequential()
            for block in range(blocks):
                stride = 2 if index > 0 and block == 0 else 1
                inner = config.base_channels << index
                stage.append(Bottleneck(in_channels, inner, stride=stride, norm=config.norm))
                in_channels = EXPANSION * inner
            self.add_module(f"layer{index + 1}", stage)
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise convolutions Kaiming-normal (fan out), and each block's last scale with 0.

        So an untrained block passes on its input.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
        for module in self.modules():
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Return the channels of each returned map."""
        return self.config.out_channels

    @property
    def out_strides(self) -> tuple[int, ...]:
        """Return the strides of the returned maps, in image pixels."""
        return self.config.out_strides

    def forward(
        self,
        images: Tensor,  # (B, 3, H, W)
    ) -> tuple[Tensor, ...]:  # len(out_indices) x (B, C_l, H_l, W_l)
        """Run the stages up to the last returned one, and return their maps.

        Raises:
            ValueError: ``images`` is not (B, 3, H, W).
        """
        return self.run_stages(images, self.config.out_indices)

    def run_stages(
        self,
        images: Tensor,  # (B, 3, H, W)
        stages: Sequence[int],  # ascending
    ) -> tuple[Tensor, ...]:  # len(stages) x (B, C_l, H_l, W_l)
        """Return the maps of given stages; later stages do not run.

        Raises:
            ValueError: ``images`` is not (B, 3, H, W).
        """
        expect_shape("images", images, ("B", 3, "H", "W"))
        x = functional.relu(self.bn1(self.conv1(images)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        maps = []
        for index in range(stages[-1] + 1):
            for block in self.get_submodule(f"layer{index + 1}").children():
                x = run_block(block, x, checkpointed=self.config.activation_checkpointing)
            if index in stages:
                maps.append(x)
        return tuple(maps)
