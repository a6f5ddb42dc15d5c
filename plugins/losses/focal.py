"""Sigmoid focal loss."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from densedet.core.arguments import NonNegativeFloat, Probability
from densedet.core.contracts import BackgroundChannel, QualityUse
from densedet.plugins.losses._sigmoid import add_at, prior_bias, split

Prior = Annotated[float, Field(gt=0, lt=1)]


class FocalLoss(nn.Module):
    """Sigmoid cross entropy in which easy anchors fade (Lin et al. 2017, equation 5). No background channel.

    The plain formula, for logits (B,N,C) and ``truth`` (B,N,C), 1 at an object's class and 0 elsewhere::

        p = logits.sigmoid()
        p_t = torch.where(truth == 1, p, 1 - p)
        alpha_t = torch.where(truth == 1, alpha, 1 - alpha)
        loss = (alpha_t * (1 - p_t) ** gamma * -p_t.log()).sum(-1)

    For example, an anchor of class 0 with logits (0, log 3) has p (0.5, 0.75) and p_t (0.5, 0.25). With alpha
    0.25 and gamma 2 its loss is 0.25 * 0.5^2 * 0.6931 + 0.75 * 0.75^2 * 1.3863 = 0.0433 + 0.5848 = 0.6282.

    The fused form is the same number without p_t: `densedet.plugins.losses._sigmoid.split` computes
    p^gamma * softplus(logit) on all channels but the true one, since -log(1 - p) = softplus(logit), with its
    gradient in one pass; the few true channels are the same with the logit negated.

    Args:
        num_classes: (wired) C.
        alpha: weight of the true class; 1 - alpha is that of all others. null: 1 for both.
        gamma: how much easy anchors fade; 0 is weighted cross entropy.
        prior: probability that every class starts with, which sets the head's class bias (RetinaNet, section
            3.3).
    """

    background_channel: BackgroundChannel = "none"
    quality: QualityUse = "unused"

    def __init__(
        self,
        *,
        num_classes: int,
        alpha: Probability | None = 0.25,
        gamma: NonNegativeFloat = 2.0,
        prior: Prior = 0.01,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.gamma = gamma
        self.weights = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
        self.initial_bias = prior_bias(prior)

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        """See `densedet.core.contracts.ClassLoss`."""
        negatives, true, places = split(logits, labels, self.gamma)
        # log(p) is log(1 - p) of the negated logit, so the true class is computed like the background of a
        # single mirrored channel.
        positives, *_ = split(
            -true.view(1, -1, 1), torch.ones_like(places, dtype=labels.dtype).unsqueeze(0), self.gamma
        )
        of_true, of_others = self.weights
        return add_at(of_others * negatives, places, of_true * positives.squeeze(0))

    def initial_loss(self, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        """See `densedet.core.contracts.ClassLoss`: each class has the prior's probability p, so that a class
        that is true costs alpha * (1 - p)^gamma * -log p, and one that is not (1 - alpha) * p^gamma *
        -log(1 - p)."""
        p = 1 / (1 + math.exp(-self.initial_bias))
        of_true, of_others = self.weights
        true = of_true * (1 - p) ** self.gamma * -math.log(p)
        other = of_others * p**self.gamma * -math.log1p(-p)
        positive = (labels >= 0) & (labels < self.num_classes)
        return other * self.num_classes * (labels >= 0).sum(1) + (true - other) * positive.sum(1)

    def scores(self, logits: Tensor) -> Tensor:
        """The sigmoid of each logit, (B,N,C)."""
        return logits.sigmoid()
