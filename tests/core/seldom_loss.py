"""A plug-in for the tests of many processes: a parameter that some shares of a batch do not use."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import densedet
from densedet.plugins.losses.focal import FocalLoss


@densedet.register("class_loss", "seldom")
class SeldomLoss(FocalLoss):
    """Focal loss with a factor that is learned, of images with objects."""

    def __init__(self, *, num_classes: int) -> None:
        super().__init__(num_classes=num_classes)
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        loss = super().forward(logits, labels, quality)
        objects = ((labels >= 0) & (labels < self.num_classes)).any(dim=1, keepdim=True)  # (B,1)
        return torch.where(objects, loss * self.factor, loss) if bool(objects.any()) else loss
