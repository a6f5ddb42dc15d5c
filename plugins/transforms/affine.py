"""Random rotation, shear, shift and zoom of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from densedet.core.arguments import NonNegativeFloat, PositiveFloat, Probability
from densedet.core.boxes import clip
from densedet.core.errors import PartError
from densedet.core.extras import moved_extra
from densedet.core.placement import blank_outside
from densedet.core.transfer import uploaded
from densedet.core.types import Batch
from densedet.plugins.transforms._remaining import Partial, Remaining

Degrees = Annotated[float, Field(gt=-90, lt=90)]


class BatchAffine:
    """Turn, shear, zoom about the centre and shift each image of a batch at random.

    The size of an image and its valid size stay. Boxes are cut to the image. Resampling is bilinear without
    antialiasing: to shrink objects to less than half, take crop.

    Args:
        degrees: [from, to], the turn, clockwise as displayed.
        shear: [from, to] in degrees, -90..90 exclusive, drawn for x and y apart: the angle by which vertical
            and horizontal lines lean.
        scale: [from, to], the factor by which objects grow, drawn log-uniformly.
        translate: largest shift along [width, height] as a share of each; shifts are whole pixels.
        around: how a turned box becomes an upright box again. "box": around the turned corners, which always
            holds the object but grows loose: a square turned by 45 degrees gets a box of twice its area, by
            10 degrees of 1.34 times, and the network learns to predict that; keep the turn small. "ellipse":
            around the turned ellipse that touched the box's sides, which fits round objects exactly, keeps a
            square's size at any turn, and cuts off the corners of an object that fills its box.
        min_visible: an object of which a smaller share of its area remains is dropped, 0..1.
        min_side: an object whose shorter side becomes smaller than this is dropped, in pixels.
        partial: "drop" drops such an object; "ignore" ignores it where anything remains. An ignored object
            stays as long as anything of it remains.
        fill: grey level 0..255 of what comes from outside the image; null: the image's own mean.
        p: probability for each image.

    Raises:
        PartError: where degrees, shear or scale does not ascend.
    """

    per_image = True
    any_device = True

    def __init__(
        self,
        *,
        degrees: tuple[float, float] = (-10.0, 10.0),
        shear: tuple[Degrees, Degrees] = (-5.0, 5.0),
        scale: tuple[PositiveFloat, PositiveFloat] = (0.8, 1.25),
        translate: tuple[Probability, Probability] = (0.1, 0.1),
        around: Literal["box", "ellipse"] = "box",
        min_visible: Probability = 0.3,
        min_side: NonNegativeFloat = 1.0,
        partial: Partial = "drop",
        fill: Annotated[int, Field(ge=0, le=255)] | None = None,
        p: Probability = 1.0,
    ) -> None:
        for name, value, example in (
            ("degrees", degrees, [-10, 10]),
            ("shear", shear, [-5, 5]),
            ("scale", scale, [0.8, 1.25]),
        ):
            if not value[0] <= value[1]:
                raise PartError(
                    f"batch_transform affine: {name} {list(value)} must ascend: write [from, to], e.g. "
                    f"{example}"
                )
        self.degrees = (degrees[0], degrees[1])
        self.shear = (shear[0], shear[1])
        self.scale = (scale[0], scale[1])
        self.translate = (translate[0], translate[1])
        self.around = around
        self.remaining = Remaining(min_visible, min_side, partial)
        self.fill = fill
        self.p = p

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Transform a batch, which is not changed; random numbers come from ``generator`` alone."""
        moves, chosen = self.moves(batch, generator)
        rows = chosen.nonzero().flatten()
        held = rows, self._theta(moves[rows], batch.images.shape[-2:]), moves
        own_rows, theta, moves = uploaded(held, batch.images.device)
        images = batch.images.clone()
        if len(rows):
            images[own_rows] = self._redrawn(batch.images[own_rows], batch.sizes_hw[rows], theta)
        whole = self._moved(batch.boxes, moves)
        batch = replace(batch, images=images, extra=moved_extra(batch, moves))
        return self.remaining(batch, whole, clip(whole, batch.valid_hw))

    def moves(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw an affine map for each image.

        Args:
            batch: the images, of which the valid sizes count.
            generator: source of all random numbers.

        Returns:
            float64 (B,2,3), which maps a point (x, y, 1) in pixels to (x, y), and bool (B,), which images are
            moved at all.
        """
        valid_hw, draw = batch.sizes_hw, batch.draw(7, generator, dtype=torch.float64)
        chosen = draw[:, 6] < self.p
        angle = torch.deg2rad(_between(draw[:, 0], self.degrees))
        lean = torch.deg2rad(_between(draw[:, 1:3], self.shear)).tan()
        zoom = _between(draw[:, 3], (math.log(self.scale[0]), math.log(self.scale[1]))).exp()
        one = torch.ones_like(zoom)
        # A screen's y points down, so this turns clockwise.
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).reshape(-1, 2, 2)
        slant = torch.stack([one, lean[:, 0], lean[:, 1], one], dim=1).reshape(-1, 2, 2)
        linear = zoom[:, None, None] * turn @ slant
        extent = valid_hw.flip(1).double()
        shift = ((2 * draw[:, 4:6] - 1) * extent.new_tensor(self.translate) * extent).round()
        center = extent[..., None] / 2
        moves = torch.cat([linear, center - linear @ center + shift[..., None]], dim=2)
        return torch.where(chosen[:, None, None], moves, torch.eye(2, 3, dtype=torch.float64)), chosen

    def _theta(self, moves: Tensor, size_hw: Sequence[int]) -> Tensor:
        """Return affine_grid's maps from the output to the input, float32 (B,2,3), in units u of -1..1 over
        the tensor: x = (u + 1) * width / 2."""
        back = torch.linalg.inv(moves[:, :, :2])
        half = moves.new_tensor([size_hw[1] / 2, size_hw[0] / 2])
        start = back @ (half - moves[:, :, 2])[..., None] - half[:, None]
        return torch.cat([back * half / half[:, None], start / half[:, None]], dim=2).float()

    def _redrawn(self, images: Tensor, sizes_hw: Tensor, theta: Tensor) -> Tensor:
        """Resample images (B,ch,H,W) by affine_grid's maps (B,2,3), in their dtype, with zeros outside
        ``sizes_hw``, which is on the CPU."""
        pixels = blank_outside(images.float(), sizes_hw)
        if self.fill is None:
            (count,) = uploaded([sizes_hw.prod(1, keepdim=True)], images.device)
            ground = (pixels.sum((2, 3)) / count).to(images.dtype).float()[:, :, None, None]
        else:
            ground = torch.full((1, 1, 1, 1), float(self.fill), device=images.device)
        # The ground is subtracted here and added after resampling, so that the zeros that grid_sample reads
        # beyond the tensor and blank_outside writes beyond the image become the ground.
        pixels = blank_outside(pixels - ground, sizes_hw)
        grid = torch.nn.functional.affine_grid(theta, list(pixels.shape), align_corners=False)
        drawn = ground + torch.nn.functional.grid_sample(
            pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        if not images.is_floating_point():
            drawn = drawn.round_().clamp_(0, 255)
        return blank_outside(drawn.to(images.dtype), sizes_hw)

    def _moved(self, boxes: Tensor, moves: Tensor) -> Tensor:
        """Map boxes (B,G,4) to the upright boxes around their images, not cut."""
        # A linear map M takes half sides h to |M| h around a box's corners, and to sqrt(M^2 h^2) around the
        # ellipse inside the box (squares element by element).
        exact = boxes.double()
        center, half = (exact[..., 2:] + exact[..., :2]) / 2, (exact[..., 2:] - exact[..., :2]) / 2
        linear, shift = moves[:, :, :2].mT, moves[:, None, :, 2]
        center = center @ linear + shift
        half = half @ linear.abs() if self.around == "box" else (half.square() @ linear.square()).sqrt()
        return torch.cat([center - half, center + half], dim=-1).to(boxes.dtype)


def _between(draw: Tensor, ends: tuple[float, float]) -> Tensor:
    """Scale numbers from 0..1 to the ends."""
    return ends[0] + draw * (ends[1] - ends[0])
