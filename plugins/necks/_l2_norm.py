"""The rescaled L2 norm that SSD puts on its first map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class L2Norm(nn.Module):
    """Scale each cell's vector of channels to length 1, then each channel by a learnable factor.

    ParseNet (Liu et al. 2015, section 3.3). A zero vector stays zero.

    Args:
        channels: channels of the map.
        scale: initial value of every factor.
    """

    def __init__(self, channels: int, *, scale: float = 20.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), float(scale)))

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B,c,h,w) to float32 (B,c,h,w), under autocast too: sums of 512 squares need it."""
        return self.weight.view(1, -1, 1, 1) * F.normalize(maps.float(), dim=1)
