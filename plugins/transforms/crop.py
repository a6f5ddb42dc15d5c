"""Random zoom, shift and stretch of a batch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from densedet.core.arguments import NonNegativeFloat, PositiveFloat, Probability
from densedet.core.errors import PartError
from densedet.core.extras import moved_extra
from densedet.core.placement import as_pixels, resampled
from densedet.core.transfer import uploaded
from densedet.core.types import Batch
from densedet.plugins.transforms._remaining import Partial, Remaining
from densedet.plugins.transforms._resampling import inside, resampled_windows


class BatchCrop:
    """Enlarge or shrink each image of a batch about a random place.

    The size of an image and its valid size stay. Windows are whole pixels, so that boxes move exactly; boxes
    are cut to the window. Resampling is bilinear with antialiasing.

    Args:
        scale: [from, to], the factor by which objects grow, drawn log-uniformly. Above 1, a window of the
            image fills the whole; below 1, the whole image lies somewhere on a plain ground.
        stretch: largest factor between the growth of width and height, at least 1.
        min_visible: an object of which a smaller share of its area remains is dropped, 0..1.
        min_side: an object whose shorter side becomes smaller than this is dropped, in pixels.
        partial: "drop" drops such an object; "ignore" ignores it where anything remains. An ignored object
            stays as long as anything of it remains.
        fill: grey level 0..255 of the ground; null: the image's own mean.
        p: probability for each image.

    Raises:
        PartError: where scale does not ascend.
    """

    per_image = True
    any_device = True

    def __init__(
        self,
        *,
        scale: tuple[PositiveFloat, PositiveFloat] = (0.75, 1.5),
        stretch: Annotated[float, Field(ge=1)] = 1.2,
        min_visible: Probability = 0.3,
        min_side: NonNegativeFloat = 1.0,
        partial: Partial = "drop",
        fill: Annotated[int, Field(ge=0, le=255)] | None = None,
        p: Probability = 1.0,
    ) -> None:
        if not 0 < scale[0] <= scale[1]:
            raise PartError(
                f"batch_transform crop: scale {list(scale)} must ascend from above 0: write [from, "
                f"to], e.g. [0.75, 1.5]"
            )
        self.scale = (scale[0], scale[1])
        self.stretch = stretch
        self.remaining = Remaining(min_visible, min_side, partial)
        self.fill = fill
        self.p = p

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Transform a batch, which is not changed; random numbers come from ``generator`` alone."""
        source, target = self.windows(batch, generator)
        if batch.images.device.type == "cpu":
            images = self._redrawn_one_by_one(batch, source, target)
            return self._moved(replace(batch, images=images), source, target)
        source, target = uploaded([source, target], batch.images.device)
        return self._moved(replace(batch, images=self._redrawn(batch, source, target)), source, target)

    def windows(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw a window for each image.

        Args:
            batch: the images, of which the valid sizes count.
            generator: source of all random numbers.

        Returns:
            int64 (B,2,2) twice: (start, length) along y and x of the source window, and of the target window
            that it fills.
        """
        valid_hw, draw = batch.sizes_hw, batch.draw(5, generator, dtype=torch.float64)
        low, high = math.log(self.scale[0]), math.log(self.scale[1])
        # Logarithms of the growth of (height, width), whose quotient is at most `stretch`.
        zoom = low + draw[:, 0] * (high - low)
        apart = (draw[:, 1] - 0.5) * math.log(self.stretch)
        factor = torch.stack([zoom - apart, zoom + apart], dim=1).exp()
        factor = torch.where(draw[:, 4, None] < self.p, factor, 1.0)
        # Growth above 1 takes a smaller window, growth below 1 fills a smaller one; the other is whole.
        taken = (valid_hw / factor.clamp(min=1)).round().clamp(min=1).long()
        filled = (valid_hw * factor.clamp(max=1)).round().clamp(min=1).long()
        place = draw[:, 2:4]
        source = torch.stack([(place * (valid_hw - taken + 1)).floor().long(), taken], dim=2)
        target = torch.stack([(place * (valid_hw - filled + 1)).floor().long(), filled], dim=2)
        return source, target

    def _redrawn(self, batch: Batch, source: Tensor, target: Tensor) -> Tensor:
        """Return the images with the source windows resampled into the target windows."""
        images, (height, width) = batch.images, batch.images.shape[-2:]
        whole = torch.stack([torch.zeros_like(batch.valid_hw), batch.valid_hw], dim=2)  # (B,2,2) as windows
        valid = inside(whole, height, width)
        if self.fill is None:
            total = (images.float() * valid).sum((2, 3), keepdim=True)
            ground = (total / batch.valid_hw.prod(1)[:, None, None, None]).to(images.dtype)
        else:
            ground = torch.full_like(images[:, :, :1, :1], self.fill)
        drawn = as_pixels(resampled_windows(images, source, target), images.dtype)
        return torch.where(
            valid, torch.where(inside(target, height, width), drawn, ground), torch.zeros_like(ground)
        )

    def _redrawn_one_by_one(self, batch: Batch, source: Tensor, target: Tensor) -> Tensor:
        """Do the same image by image, which a CPU does faster: it resamples uint8, and small windows only."""
        images = batch.images.clone()
        sizes, sources, targets = batch.valid_hw.tolist(), source.tolist(), target.tolist()
        for row in (source != target).any(2).any(1).nonzero().flatten().tolist():
            self._redraw(images[row], sizes[row], sources[row], targets[row])
        return images

    def _redraw(
        self, image: Tensor, size: list[int], source: list[list[int]], target: list[list[int]]
    ) -> None:
        """Resample the source window of ``image`` (ch,H,W) into the target window, in place."""
        (y, height), (x, width) = source
        (top, down), (left, across) = target
        window = image[None, :, y : y + height, x : x + width]
        drawn = resampled(window, down, across)[0]
        if [down, across] != size:
            valid = image[:, : size[0], : size[1]]
            valid[:] = (
                valid.float().mean((1, 2), keepdim=True).to(image.dtype) if self.fill is None else self.fill
            )
        image[:, top : top + down, left : left + across] = drawn

    def _moved(self, batch: Batch, source: Tensor, target: Tensor) -> Batch:
        # (B,2,2), x before y as in boxes
        source, target = source.to(batch.boxes.dtype).flip(1), target.to(batch.boxes.dtype).flip(1)
        if batch.extras:
            factor = target[..., 1] / source[..., 1]
            shift = target[..., 0] - source[..., 0] * factor
            matrix = torch.cat([torch.diag_embed(factor), shift[..., None]], dim=2)
            batch = replace(batch, extra=moved_extra(batch, matrix))
        source, target = source[:, None], target[:, None]
        scale = (target[..., 1] / source[..., 1]).repeat(1, 1, 2)
        start, end = target[..., 0], target[..., 0] + target[..., 1]
        whole = (batch.boxes - source[..., 0].repeat(1, 1, 2)) * scale + start.repeat(1, 1, 2)
        boxes = torch.minimum(torch.maximum(whole, start.repeat(1, 1, 2)), end.repeat(1, 1, 2))
        return self.remaining(batch, whole, boxes)
