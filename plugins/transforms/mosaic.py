"""Four images of a batch in one (Bochkovskiy et al. 2020, YOLOv4, section 3.3)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from densedet.core.arguments import NonNegativeFloat, Probability
from densedet.core.errors import PartError
from densedet.core.placement import as_pixels, resampled
from densedet.core.transfer import uploaded
from densedet.core.types import Batch
from densedet.plugins.transforms._merging import Gathered
from densedet.plugins.transforms._remaining import counted
from densedet.plugins.transforms._resampling import resampled_windows

QUARTERS = ((False, False), (False, True), (True, False), (True, True))
"""Of each quarter, whether it lies below and whether it lies right of the place where they meet."""


class BatchMosaic:
    """Replace images of a batch by four: the image and three others of the batch, each shrunk into a quarter.

    Bochkovskiy et al. 2020 (YOLOv4, section 3.3). Quarters are whole pixels, so that boxes move exactly.
    Resampling is bilinear with antialiasing. The result fills the tensor, and its valid size with it. In a
    batch of fewer than four images some appear twice.

    Args:
        p: probability for each image.
        center: [from, to], where the quarters meet along width and height, as a share of each, within 0..1.
        min_side: an object whose shorter side becomes smaller than this is dropped, in pixels; ignored
            objects never are.

    Raises:
        PartError: where center does not ascend within 0..1.
    """

    any_device = True

    def __init__(
        self,
        *,
        p: Probability = 0.5,
        center: tuple[Probability, Probability] = (0.3, 0.7),
        min_side: NonNegativeFloat = 1.0,
    ) -> None:
        if not 0 < center[0] <= center[1] < 1:
            raise PartError(
                f"batch_transform mosaic: center {list(center)} must ascend within 0..1: write e.g. "
                f"[0.3, 0.7]"
            )
        self.p = p
        self.center = (center[0], center[1])
        self.min_side = min_side

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Transform a batch, which is not changed; random numbers come from ``generator`` alone."""
        count = len(batch)
        height, width = batch.images.shape[-2:]
        draw = torch.rand(count, 3, generator=generator)
        others = torch.randint(0, count, (count, 3), generator=generator)
        chosen = draw[:, 0] < self.p
        if not bool(chosen.any()) or min(height, width) < 2:
            return batch
        # The quarters meet at (y, x), which leaves each at least one pixel.
        meet = [
            ((self.center[0] + (self.center[1] - self.center[0]) * draw[:, axis]).double() * size)
            .round()
            .clamp(1, size - 1)
            .long()
            for axis, size in ((1, height), (2, width))
        ]
        sources = torch.cat([torch.arange(count)[:, None], others], dim=1)  # (B,4)
        halves = [(_half(meet[0], height, below), _half(meet[1], width, right)) for below, right in QUARTERS]
        target = torch.stack([torch.stack(yx, 1) for yx in halves], 1)  # (B,4,2,2): y and x, start and length
        sizes = torch.where(chosen[:, None], torch.tensor([height, width]), batch.sizes_hw)
        images = self._redrawn(batch, chosen.nonzero().flatten(), sources, target)
        # Each quarter shows a whole source image, squeezed; its objects move along.
        growth = (target[..., 1].double() / batch.sizes_hw[sources]).float()  # (B,4,2), y before x
        growth = torch.where(chosen[:, None, None], growth, 1.0).flip(2)
        shift = torch.where(chosen[:, None, None], target[..., 0], 0).flip(2).to(growth)
        shown = chosen[:, None] | (torch.arange(4) == 0)
        sources, growth, shift, shown, chosen, valid_hw = uploaded(
            [sources, growth, shift, shown, chosen, sizes], batch.images.device
        )
        batch = self._together(batch, chosen, sources, growth, shift, shown)
        return replace(
            batch, images=images, valid_hw=valid_hw, host_hw=None if valid_hw is sizes else (valid_hw, sizes)
        )

    def _redrawn(self, batch: Batch, rows: Tensor, sources: Tensor, target: Tensor) -> Tensor:
        """Return the images, those of ``rows`` (M,) redrawn from ``sources`` (B,4) into ``target``
        (B,4,2,2)."""
        images, sizes = batch.images.clone(), batch.sizes_hw
        if images.device.type == "cpu":
            for row in rows.tolist():
                for source, (y, x) in zip(sources[row].tolist(), target[row].tolist()):
                    window = batch.images[source : source + 1, :, : sizes[source, 0], : sizes[source, 1]]
                    images[row, :, y[0] : sum(y), x[0] : sum(x)] = resampled(window, y[1], x[1])[0]
            return images
        whole = torch.stack([torch.zeros_like(sizes), sizes], dim=2)  # (B,2,2): y and x, start and length
        held = [rows, sources[rows], whole[sources[rows]], target[rows]]
        rows, sources, window, target = uploaded(held, images.device)
        quarters = [
            resampled_windows(batch.images[sources[:, q]], window[:, q], target[:, q]) for q in range(4)
        ]
        images[rows] = as_pixels(torch.stack(quarters).sum(0), images.dtype)
        return images

    def _together(
        self, batch: Batch, chosen: Tensor, sources: Tensor, growth: Tensor, shift: Tensor, shown: Tensor
    ) -> Batch:
        """Move the objects of each quarter, (B,4) of them, and put those of an image into one list."""
        objects = Gathered(batch, sources, growth, shift)
        valid = objects.valid & shown[..., None]  # (B,4,G)
        sides = (objects.boxes[..., 2:] - objects.boxes[..., :2]).amin(-1)
        enough = (sides > 0) & (objects.ignore | (sides >= self.min_side))
        keep = valid & (~chosen[:, None, None] | enough)
        return objects.kept(keep, counted(valid & ~keep))


def _half(meet: Tensor, size: int, second: bool) -> Tensor:
    """(start, length), int64 (B,2), of the first or ``second`` part of a line that is cut at ``meet``
    (B,)."""
    return torch.stack([meet, size - meet] if second else [torch.zeros_like(meet), meet], dim=1)
