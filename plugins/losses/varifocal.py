"""Varifocal loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from densedet.core.arguments import NonNegativeFloat
from densedet.core.contracts import BackgroundChannel, QualityUse
from densedet.plugins.losses._sigmoid import add_at, at, prior_bias, split
from densedet.plugins.losses.focal import Prior


class VarifocalLoss(nn.Module):
    """Cross entropy in which good positives count most and easy negatives fade.

    This is equation 2 of Zhang et al. 2021 (VarifocalNet). On the true class it is q * cross entropy of p
    with q, where q is the match's quality; elsewhere it is alpha * p^gamma * -log(1 - p); summed over the
    classes. A positive of quality 0 is a negative, as in the paper. No background channel; it needs a
    quality.

    Args:
        num_classes: (wired) C.
        alpha: weight of the negatives.
        gamma: how much easy negatives fade.
        prior: probability that every class starts with, which sets the head's class bias (RetinaNet, section
            3.3).
    """

    background_channel: BackgroundChannel = "none"
    quality: QualityUse = "required"

    def __init__(
        self,
        *,
        num_classes: int,
        alpha: NonNegativeFloat = 0.75,
        gamma: NonNegativeFloat = 2.0,
        prior: Prior = 0.01,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.alpha, self.gamma = alpha, gamma
        self.initial_bias = prior_bias(prior)

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        """See `densedet.core.contracts.ClassLoss`."""
        assert quality is not None, "quality is required"
        labels = torch.where((labels >= 0) & (quality <= 0), self.num_classes, labels)
        negatives, logit, places = split(logits, labels, self.gamma)
        wanted = at(quality, places)
        true = wanted * functional.binary_cross_entropy_with_logits(logit, wanted, reduction="none")
        return add_at(self.alpha * negatives, places, true)

    def initial_loss(self, labels: Tensor, quality: Tensor | None) -> Tensor:
        """See `densedet.core.contracts.ClassLoss`: q * cross entropy of the prior p with q on the true class,
        alpha * p^gamma * -log(1 - p) on others."""
        assert quality is not None, "quality is required"
        p = 1 / (1 + math.exp(-self.initial_bias))
        positive = (labels >= 0) & (labels < self.num_classes) & (quality > 0)
        true = quality * -(quality * math.log(p) + (1 - quality) * math.log1p(-p))
        other = self.alpha * p**self.gamma * -math.log1p(-p)
        return other * (self.num_classes * (labels >= 0) - positive.long()).sum(1) + (true * positive).sum(1)

    def scores(self, logits: Tensor) -> Tensor:
        """The sigmoid of each logit, (B,N,C), an estimate of class and quality together."""
        return logits.sigmoid()
