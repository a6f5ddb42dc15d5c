"""Sigmoid focal loss."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from densedet.core.arguments import NonNegativeFloat, Probability
from densedet.core.contracts import BackgroundChannel, QualityUse
from densedet.plugins.losses._sigmoid import add_at, prior_bias, split

Prior = Annotated[float, Field(gt=0, lt=1)]


class FocalLoss(nn.Module):
    """-alpha_t * (1 - p_t)^gamma * log(p_t), summed over the classes (Lin et al. 2017, equation 5). No
    background channel.

    alpha: weight of the true class, 1 - alpha that of all others; null weighs both 1. gamma: how much easy
    anchors fade; 0 is weighted cross entropy. prior: probability that every class starts with (section 3.3).
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
        """(B,N,C), (B,N): 0..C-1, C background, -1 ignore -> (B,N), 0 where ignored."""
        negatives, true, places = split(logits, labels, self.gamma)
        # log(p) is log(1 - p) of the negated logit, so the true class is the background of a single mirrored
        # channel
        positives, *_ = split(-true.view(1, -1, 1), torch.ones_like(places).unsqueeze(0), self.gamma)
        yes, no = self.weights
        return add_at(no * negatives, places, yes * positives.squeeze(0))

    def scores(self, logits: Tensor) -> Tensor:
        """(B,N,C) -> (B,N,C) in 0..1: sigmoid."""
        return logits.sigmoid()
