"""Plain softmax cross entropy."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from densedet.core.contracts import BackgroundChannel, QualityUse

NARROW = 16
"""Below this many channels torch's kernels for the last axis do not fill a vector register on a CPU; over the
axis before they are three to five times as fast."""


class SoftmaxLoss(nn.Module):
    """Minus the log of the true channel's softmax, on every anchor; the background has a channel of its own.

    Without sampling or focus the background outweighs the objects; the losses hard_negative and focal mend
    that.

    Args:
        num_classes: (wired) C.
        background: which channel is the background's; "first" as SSD and torchvision.
    """

    quality: QualityUse = "unused"
    initial_bias = 0.0

    def __init__(self, *, num_classes: int, background: Literal["first", "last"] = "first") -> None:
        super().__init__()
        self.num_classes = num_classes
        self.background_channel: BackgroundChannel = background

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        """See `densedet.core.contracts.ClassLoss`."""
        channel = labels
        if self.background_channel == "first":
            channel = torch.where(labels >= 0, (labels + 1) % (self.num_classes + 1), labels)
        rows, channel = logits.flatten(0, 1), channel.flatten()
        if rows.shape[1] < NARROW:
            rows, channel = rows.T.unsqueeze(0), channel.unsqueeze(0)
        return functional.cross_entropy(rows, channel, ignore_index=-1, reduction="none").view(labels.shape)

    def initial_loss(self, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        """See `densedet.core.contracts.ClassLoss`: all channels are equal, so that each anchor costs
        log(C + 1)."""
        return math.log(self.num_classes + 1) * (labels >= 0).sum(1)

    def scores(self, logits: Tensor) -> Tensor:
        """The softmax of logits (B,N,C+1) without the background's channel, (B,N,C)."""
        probabilities = logits.softmax(-1) if logits.shape[-1] >= NARROW else logits.mT.softmax(-2).mT
        return probabilities[..., 1:] if self.background_channel == "first" else probabilities[..., :-1]
