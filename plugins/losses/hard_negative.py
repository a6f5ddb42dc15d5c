"""Softmax cross entropy on the positives and the hardest negatives."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from densedet.core.arguments import NonNegativeFloat, NonNegativeInt
from densedet.plugins.losses.softmax import Softmax


class HardNegative(Softmax):
    """Softmax cross entropy on all positives and, in each image, on the negatives with the largest loss (Liu et al. 2016, SSD,
    section 2.2, hard negative mining).

    An image with P positives gets max(ratio * P, min_negatives) negatives, or all it has.

    ratio: negatives per positive; 3 in the paper. min_negatives: a floor per image, without which an image without objects (3 * 0)
    teaches nothing; 16 is what an image with five matched anchors gets, and 0 is torchvision's rule. background: which channel is the
    background; "first" as SSD and torchvision.

    torchvision counts a positive twice where ratio * P exceeds the number of negatives; here nothing counts twice.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        ratio: NonNegativeFloat = 3.0,
        min_negatives: NonNegativeInt = 16,
        background: Literal["first", "last"] = "first",
    ) -> None:
        super().__init__(num_classes=num_classes, background=background)
        self.ratio, self.min_negatives = ratio, min_negatives

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        """(B,N,C+1), (B,N): 0..C-1, C background, -1 ignore -> (B,N), 0 where ignored or not sampled."""
        loss = super().forward(logits, labels, quality)
        positive, negative = (labels >= 0) & (labels < self.num_classes), labels == self.num_classes
        limit = (self.ratio * positive.sum(1, keepdim=True)).clamp(min=self.min_negatives)
        most = min(math.ceil(float(limit.max())), labels.shape[1]) if limit.numel() else 0
        # by place, not by a threshold at the last loss: that would let ties in, and at the start nearly all are ties
        hardest = loss.detach().masked_fill(~negative, -torch.inf).topk(most, dim=1).indices
        wanted = torch.arange(most, device=labels.device) < limit
        sampled = torch.zeros_like(negative).scatter_(1, hardest, wanted) & negative
        return torch.where(positive | sampled, loss, torch.zeros_like(loss))
