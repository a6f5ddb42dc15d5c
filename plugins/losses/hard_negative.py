"""Softmax cross entropy on the positives and the hardest negatives."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from densedet.core.arguments import NonNegativeFloat, NonNegativeInt
from densedet.plugins.losses._sigmoid import MOST_EXPONENT
from densedet.plugins.losses.softmax import SoftmaxLoss


class HardNegativeLoss(SoftmaxLoss):
    """Softmax cross entropy on all positives and, in each image, on the negatives with the largest loss (Liu
    et al. 2016, SSD, section 2.2, hard negative mining).

    An image with P positives gets max(ratio * P, min_negatives) negatives, or all it has.

    ratio: negatives per positive; 3 in the paper. min_negatives: a floor per image, without which an image
    without objects (3 * 0) teaches nothing; 16 is what an image with five matched anchors gets, and 0 is
    torchvision's rule. background: which channel is the background; "first" as SSD and torchvision.

    torchvision counts a positive twice where ratio * P exceeds the number of negatives; here nothing counts
    twice.
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
        positive, negative = (labels >= 0) & (labels < self.num_classes), labels == self.num_classes
        limit = (self.ratio * positive.sum(1, keepdim=True)).clamp(min=self.min_negatives)
        most = min(math.ceil(float(limit.max())), labels.shape[1]) if limit.numel() else 0
        # by place, not by a threshold at the last loss: that would let ties in, and at the start nearly all
        # are ties
        hardest = (
            self._cost_as_background(logits).masked_fill_(~negative, -torch.inf).topk(most, dim=1).indices
        )
        wanted = torch.arange(most, device=labels.device) < limit
        sampled = torch.zeros_like(negative).scatter_(1, hardest, wanted) & negative
        # few anchors are left: the others' losses need no gradient, and would cost a softmax each
        image, anchor = (positive | sampled).nonzero(as_tuple=True)
        rows = super().forward(logits[image, anchor].unsqueeze(0), labels[image, anchor].unsqueeze(0))
        return torch.zeros_like(logits[..., 0]).index_put((image, anchor), rows.squeeze(0))

    def _cost_as_background(self, logits: Tensor) -> Tensor:
        """(B,N,C+1) -> (B,N), no gradient: what grows with the anchor's loss if its label is the background,
        log(sum of e^logit over the classes) - the background's logit. The loss is the softplus of that, which
        would round small differences away."""
        logits = logits.detach()
        first = self.background_channel == "first"
        background, classes = (
            (logits[..., 0], logits[..., 1:]) if first else (logits[..., -1], logits[..., :-1])
        )
        if logits.device.type != "cpu" or logits.numel() == 0 or not within(logits, MOST_EXPONENT):
            return classes.logsumexp(-1) - background
        # Where nothing can overflow or vanish: a fifth of logsumexp's time.
        counted = logits.new_ones(logits.shape[-1])
        counted[0 if first else -1] = 0
        return torch.mv(logits.exp().flatten(0, 1), counted).log_().view_as(background) - background


def within(values: Tensor, limit: float) -> bool:
    """No value is beyond +-limit or not a number."""
    low, high = values.aminmax()
    return bool((low >= -limit) & (high <= limit))
