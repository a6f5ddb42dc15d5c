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
    """Softmax cross entropy on the positives and, in each image, on the negatives with the largest loss.

    This is hard negative mining (Liu et al. 2016, SSD, section 2.2). An image with P positives gets
    max(ratio * P, min_negatives) negatives, or all it has; all other negatives have loss 0.

    For example, an image with one positive and five negatives, of losses 0.1, 0.9, 0.3, 0.5, 0.2: with ratio
    3 and min_negatives 0 the sampled negatives are those of 0.9, 0.5 and 0.3; with min_negatives 4 that of
    0.2 too. An image without objects gets min_negatives negatives: with 0 it would teach nothing.

    torchvision counts a positive twice where ratio * P exceeds the number of negatives; here nothing counts
    twice.

    Args:
        num_classes: (wired) C.
        ratio: negatives per positive; 3 in the paper.
        min_negatives: fewest negatives of an image. 16 is what an image with five matched anchors gets; 0 is
            torchvision's rule.
        background: which channel is the background's; "first" as SSD and torchvision.
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
        """See `densedet.core.contracts.ClassLoss`."""
        positive, negative = (labels >= 0) & (labels < self.num_classes), labels == self.num_classes  # (B,N)
        limit = (self.ratio * positive.sum(1, keepdim=True)).clamp(min=self.min_negatives)  # (B,1)
        on_cpu, most = logits.device.type == "cpu", labels.shape[1]
        if on_cpu:  # a GPU would have to be waited for
            most = min(math.ceil(float(limit.max())), most) if limit.numel() else 0
        # The hardest are found by place. A threshold at the last one's loss would let ties in, and at the
        # start of training nearly all are ties.
        cost = self._cost_as_background(logits).masked_fill_(~negative, -torch.inf)  # (B,N)
        hardest = (
            cost.topk(most, dim=1).indices if on_cpu else cost.argsort(dim=1, descending=True)
        )  # (B,most)
        wanted = torch.arange(most, device=labels.device) < limit
        sampled = torch.zeros_like(negative).scatter_(1, hardest, wanted) & negative
        if not on_cpu:
            return torch.where(positive | sampled, super().forward(logits, labels), 0.0)
        # Few anchors are left; the others' losses would cost a softmax each.
        image, anchor = (positive | sampled).nonzero(as_tuple=True)
        rows = super().forward(logits[image, anchor].unsqueeze(0), labels[image, anchor].unsqueeze(0))
        return torch.zeros_like(logits[..., 0]).index_put((image, anchor), rows.squeeze(0))

    def initial_loss(self, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        """See `densedet.core.contracts.ClassLoss`: log(C + 1) for each positive and each negative that is
        sampled."""
        positives = ((labels >= 0) & (labels < self.num_classes)).sum(1)
        wanted = (self.ratio * positives).clamp(min=self.min_negatives).ceil()
        sampled = torch.minimum(wanted, (labels == self.num_classes).sum(1))
        return math.log(self.num_classes + 1) * (positives + sampled)

    def _cost_as_background(self, logits: Tensor) -> Tensor:
        """Rank anchors by the loss that they have as background: (B,N,C+1) -> (B,N), without gradient.

        It is log(sum of e^logit over the classes) - the background's logit. The loss is the softplus of that,
        which would round small differences away.
        """
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
    """Whether all values are numbers in -limit..limit."""
    low, high = values.aminmax()
    return bool((low >= -limit) & (high <= limit))
