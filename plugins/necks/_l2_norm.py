"""The rescaled L2 norm that SSD puts on its first map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class L2Norm(nn.Module):
    """Each cell's vector of channels scaled to length 1, then each channel by a learnable factor (ParseNet,
    Liu et al. 2015, section 3.3).

    (B,c,h,w) -> (B,c,h,w) float32, also under autocast: the sum of squares of 512 channels needs it. A zero
    vector stays zero.
    """

    def __init__(self, channels: int, *, scale: float = 20.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), float(scale)))

    def forward(self, maps: Tensor) -> Tensor:
        return self.weight.view(1, -1, 1, 1) * F.normalize(maps.float(), dim=1)
