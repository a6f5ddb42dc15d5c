"""Distribution focal loss."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from densedet.core.contracts import Space
from densedet.core.errors import PartError


class DistributionFocalLoss(nn.Module):
    """Cross entropy of each side's distribution with the two bins around its target, weighted by nearness (Li
    et al. 2020, Generalized Focal Loss, equation 6), **averaged** over the four sides, as GFL does.

    For coders that predict a distribution per side. Usually added to a box loss at a weight of 0.25.
    """

    space: Space = "bins"

    def __init__(self) -> None:
        super().__init__()

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Logits (P, 4*(bins+1)), side by side; (P,4) in units of bins, cut to 0..bins -> (P,). P may be 0.

        Raises PartError where the prediction is no distribution over four sides.
        """
        channels = prediction.shape[-1]
        bins = channels // 4 - 1
        if channels % 4 or bins < 1:
            raise PartError(
                f"dfl needs 4*(bins+1) box channels, but the coder has {channels}: choose coder "
                f"distribution, or another box loss"
            )
        target = target.clamp(0, bins)
        left = target.detach().floor().clamp(max=bins - 1)
        sides = functional.log_softmax(prediction.unflatten(-1, (4, bins + 1)), dim=-1)
        log_left = sides.gather(-1, left.long().unsqueeze(-1)).squeeze(-1)
        log_right = sides.gather(-1, left.long().unsqueeze(-1) + 1).squeeze(-1)
        return -((left + 1 - target) * log_left + (target - left) * log_right).mean(-1)
