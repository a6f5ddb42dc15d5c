"""Quality focal loss."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from densedet.core.contracts import BackgroundChannel, QualityUse
from densedet.plugins.losses._sigmoid import add_at, at, prior_bias, split
from densedet.plugins.losses.focal import Prior


class QualityFocalLoss(nn.Module):
    """abs(q - p)^beta * cross entropy of p with q, summed over the classes (Li et al. 2020, GFL, equation 3).

    q is the match's quality on the true class and 0 elsewhere. No background channel; it needs a quality.

    Args:
        num_classes: (wired) C.
        beta: how much well-estimated anchors fade; at least 1, below which the gradient at p = q has no
            value.
        prior: probability that every class starts with, which sets the head's class bias (RetinaNet, section
            3.3).
    """

    background_channel: BackgroundChannel = "none"
    quality: QualityUse = "required"

    def __init__(
        self, *, num_classes: int, beta: Annotated[float, Field(ge=1)] = 2.0, prior: Prior = 0.01
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.beta = beta
        self.initial_bias = prior_bias(prior)

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        """See `densedet.core.contracts.ClassLoss`."""
        assert quality is not None, "quality is required"
        negatives, logit, places = split(logits, labels, self.beta)
        wanted = at(quality, places)
        entropy = functional.binary_cross_entropy_with_logits(logit, wanted, reduction="none")
        return add_at(negatives, places, (wanted - logit.sigmoid()).abs().pow(self.beta) * entropy)

    def initial_loss(self, labels: Tensor, quality: Tensor | None) -> Tensor:
        """See `densedet.core.contracts.ClassLoss`: |q - p|^beta * cross entropy of the prior p with q, which
        is 0 on all channels but the true one."""
        assert quality is not None, "quality is required"
        p = 1 / (1 + math.exp(-self.initial_bias))
        positive = (labels >= 0) & (labels < self.num_classes)
        q = torch.where(positive, quality, 0.0)
        true = (q - p).abs() ** self.beta * -(q * math.log(p) + (1 - q) * math.log1p(-p))
        other = p**self.beta * -math.log1p(-p)
        return other * (self.num_classes * (labels >= 0) - positive.long()).sum(1) + (true * positive).sum(1)

    def scores(self, logits: Tensor) -> Tensor:
        """The sigmoid of each logit, (B,N,C), an estimate of class and quality together."""
        return logits.sigmoid()
