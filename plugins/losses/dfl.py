"""Distribution focal loss."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from densedet.core.contracts import Space
from densedet.core.errors import PartError


class DistributionFocalLoss(nn.Module):
    """Cross entropy of each side's distribution with the two bins around its target.

    This is equation 6 of Li et al. 2020 (GFL). The two are weighted by nearness: a target of 2.25 bins is
    0.75 * -log(p_2) + 0.25 * -log(p_3). The four sides are averaged, as in GFL. It is for coders that predict
    a distribution per side, and is usually added to another box loss with a weight of 0.25.

    Raises:
        PartError: the prediction is no distribution over four sides.
    """

    space: Space = "bins"

    def __init__(self) -> None:
        super().__init__()

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `densedet.core.contracts.BoxLoss`."""
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
