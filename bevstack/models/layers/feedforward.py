"""The two-layer feed-forward network of a transformer layer."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class FeedForward(nn.Module):
    """Linear, ReLU, linear, with dropout after each; no residual."""

    def __init__(self, channels: int, hidden_channels: int, *, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise weights Xavier-uniform; biases keep PyTorch's default."""
        nn.init.xavier_uniform_(self.fc1.weight)
        nn.init.xavier_uniform_(self.fc2.weight)

    def forward(
        self,
        x: Tensor,  # (..., C)
    ) -> Tensor:  # (..., C)
        """Return the output of the second layer, without residual."""
        output: Tensor = self.dropout(self.fc2(self.dropout(functional.relu(self.fc1(x)))))
        return output
