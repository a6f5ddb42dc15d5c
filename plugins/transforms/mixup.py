"""Two images of a batch laid over one another (Zhang et al. 2018, mixup; Zhang et al. 2019 for detectors)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from densedet.core.arguments import NonNegativeFloat, PositiveFloat, Probability
from densedet.core.placement import as_pixels, resampled
from densedet.core.transfer import uploaded
from densedet.core.types import Batch
from densedet.plugins.transforms._merging import Gathered
from densedet.plugins.transforms._remaining import counted
from densedet.plugins.transforms._resampling import resampled_windows


class BatchMixUp:
    """Blend images of a batch with another image of it, and keep the objects of both.

    A pixel is share * own + (1 - share) * other, where the share is drawn from Beta(alpha, alpha) (Zhang et
    al. 2018, mixup; Zhang et al. 2019, Bag of Freebies, section 3.1, for detectors). The other image is
    stretched to the size of the own one. Objects count in full, whatever the share of their image is, and
    those of an image with a small share are dropped.

    For example, with a share of .75 an own pixel of 200 and another of 100 give 175.

    Args:
        p: probability for each image.
        alpha: of the beta distribution: with 1 all shares are as likely, and the larger it is, the closer the
            share is to a half. 1.5 in Bag of Freebies; 32, for .5 +- .06, in later detectors.
        min_share: objects of an image with a smaller share than this are dropped, 0..0.5.
        min_side: an object of the other image whose shorter side becomes smaller than this is dropped, in
            pixels; ignored objects never are.
    """

    any_device = True

    def __init__(
        self,
        *,
        p: Probability = 0.5,
        alpha: PositiveFloat = 32.0,
        min_share: Probability = 0.2,
        min_side: NonNegativeFloat = 1.0,
    ) -> None:
        self.p, self.alpha, self.min_share, self.min_side = p, alpha, min_share, min_side

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Transform a batch, which is not changed; random numbers come from ``generator`` alone."""
        count = len(batch)
        chosen = torch.rand(count, generator=generator) < self.p
        other = torch.randint(0, count, (count,), generator=generator)
        weights = torch._standard_gamma(torch.full((count, 2), self.alpha), generator=generator)
        if not bool(chosen.any()):
            return batch
        # The quotient of two gamma variates is a beta variate; of two zeros, which a tiny alpha gives, 1.
        share = torch.where(weights.sum(1) > 0, weights[:, 0] / weights.sum(1), 1.0)
        sources = torch.stack([torch.arange(count), other], dim=1)  # (B,2)
        sizes = batch.sizes_hw
        growth = (sizes[:, None].double() / sizes[sources]).float().flip(2)  # (B,2,2), x before y
        shares = torch.stack([share, 1 - share], dim=1)  # (B,2)
        shown = torch.where(chosen[:, None], shares >= self.min_share, torch.tensor([True, False]))
        images = self._blended(batch, chosen.nonzero().flatten(), other, share)
        given = [sources, growth, torch.zeros_like(growth), shown, chosen]
        sources, growth, shift, shown, chosen = uploaded(given, batch.images.device)
        objects = Gathered(batch, sources, growth, shift)
        sides = (objects.boxes[..., 2:] - objects.boxes[..., :2]).amin(-1)
        valid = objects.valid & torch.stack([torch.ones_like(chosen), chosen], dim=1)[..., None]
        large = objects.ignore | (sides >= self.min_side)
        large[:, 0] = True  # the own objects keep their size
        keep = valid & shown[..., None] & (sides > 0) & large
        return replace(objects.kept(keep, counted(valid & ~objects.ignore & ~keep)), images=images)

    def _blended(self, batch: Batch, rows: Tensor, other: Tensor, share: Tensor) -> Tensor:
        """Return the images, those of ``rows`` (M,) blended with the ``other`` (B,) by ``share`` (B,)."""
        images, sizes = batch.images.clone(), batch.sizes_hw
        if images.device.type == "cpu":
            for row in rows.tolist():
                height, width = sizes[row].tolist()
                above, below = sizes[other[row]].tolist()
                window = batch.images[other[row], :, :above, :below][None]
                drawn = resampled(window, height, width)[0].float()
                own = batch.images[row, :, :height, :width].float()
                images[row, :, :height, :width] = as_pixels(drawn.lerp(own, share[row]), images.dtype)
            return images
        whole = torch.stack([torch.zeros_like(sizes), sizes], dim=2)  # (B,2,2): y and x, start and length
        given = [rows, other[rows], whole[other[rows]], whole[rows], share[rows]]
        rows, other, window, target, share = uploaded(given, images.device)
        drawn = as_pixels(resampled_windows(batch.images[other], window, target), images.dtype).float()
        blended = drawn.lerp(images[rows].float(), share[:, None, None, None])
        images[rows] = as_pixels(blended, images.dtype)
        return images
