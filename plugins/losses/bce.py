"""Plain sigmoid cross entropy."""

from __future__ import annotations

from densedet.plugins.losses.focal import FocalLoss, Prior


class BCELoss(FocalLoss):
    """Binary cross entropy with every class on every anchor, summed over the classes: focal loss with gamma 0
    and no alpha.

    prior: probability that every class starts with.
    """

    def __init__(self, *, num_classes: int, prior: Prior = 0.01) -> None:
        super().__init__(num_classes=num_classes, alpha=None, gamma=0.0, prior=prior)
