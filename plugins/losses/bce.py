"""Plain sigmoid cross entropy."""

from __future__ import annotations

from densedet.plugins.losses.focal import FocalLoss, Prior


class BCELoss(FocalLoss):
    """Sigmoid cross entropy of every class on every anchor, summed over the classes.

    It is focal loss with gamma 0 and no alpha.

    Args:
        num_classes: (wired) C.
        prior: probability that every class starts with, which sets the head's class bias (RetinaNet, section
            3.3).
    """

    def __init__(self, *, num_classes: int, prior: Prior = 0.01) -> None:
        super().__init__(num_classes=num_classes, alpha=None, gamma=0.0, prior=prior)
