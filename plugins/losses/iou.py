"""Plain IoU loss."""

from __future__ import annotations

from torch import Tensor, nn

from densedet.core.arguments import PositiveFloat
from densedet.core.contracts import Space
from densedet.plugins.losses._overlap import overlap


class IoULoss(nn.Module):
    """1 - IoU, in 0..1 (the linear form of Yu et al. 2016, UnitBox, whose loss is -log IoU).

    A prediction that does not touch its target costs 1 wherever it lies, so that it gets no gradient; the
    generalised, distance and complete IoU losses were made to mend that.

    Args:
        eps: pixels^2 added to denominators, so that boxes without extent stay finite.
    """

    space: Space = "boxes"

    def __init__(self, *, eps: PositiveFloat = 1e-7) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `densedet.core.contracts.BoxLoss`."""
        return 1 - overlap(prediction, target, self.eps).iou
