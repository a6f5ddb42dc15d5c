"""Objects of one image of a batch pasted into another (Ghiasi et al. 2021, Simple Copy-Paste)."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from densedet.core.arguments import Probability
from densedet.core.boxes import area, intersection
from densedet.core.transfer import uploaded
from densedet.core.types import Batch
from densedet.plugins.transforms._merging import Gathered
from densedet.plugins.transforms._remaining import counted

ObjectCount = Annotated[int, Field(ge=1, le=5)]


class BatchCopyPaste:
    """Paste the pixels of boxes of another image of the batch at random places.

    Ghiasi et al. 2021 (Simple Copy-Paste, section 3), with boxes in place of masks: the whole pixels that a
    box touches are copied, at their size, to a place that is drawn anew; later ones cover earlier ones. An
    object of which pasted boxes cover more than ``max_covered`` is dropped. What else lies in a pasted box
    goes along: another object of which at least 1 - ``max_covered`` lies in it, cut to it, and what lies in
    it of an ignored one. A box that is larger than the image it goes to is not pasted.

    For example, a box of 10 x 10 at (20, 20) of which a pasted box of 6 x 10 at (20, 20) covers 60 % is
    dropped with ``max_covered`` 0.5, and stays with 0.7.

    Args:
        p: probability for each image.
        objects: most boxes that are pasted into an image; their number is drawn from 1 to this. A box may be
            pasted twice. Ignored objects are not pasted by themselves.
        max_covered: share of an object's box, 0..1, that pasted boxes may cover at most; ignored objects stay
            in any case.
    """

    any_device = True

    def __init__(
        self, *, p: Probability = 0.5, objects: ObjectCount = 3, max_covered: Probability = 0.5
    ) -> None:
        self.p, self.objects, self.max_covered = p, objects, max_covered

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Transform a batch, which is not changed; random numbers come from ``generator`` alone."""
        count = len(batch)
        chosen = torch.rand(count, generator=generator) < self.p
        other = torch.randint(0, count, (count,), generator=generator)
        number = torch.randint(1, self.objects + 1, (count,), generator=generator)
        draws = torch.rand(count, self.objects, 3, generator=generator)  # which object, and its place: y, x
        if not bool(chosen.any()) or batch.boxes.shape[1] == 0:
            return batch
        asked = chosen[:, None] & (torch.arange(self.objects) < number[:, None])  # (B,K)
        given = [torch.arange(count), other, asked, draws, batch.sizes_hw]
        own, other, asked, draws, sizes = uploaded(given, batch.images.device)
        source, target, pasted = self._windows(batch, other, asked, draws, sizes)
        sources = torch.cat([own[:, None], other[:, None].expand(-1, self.objects)], dim=1)  # (B,1+K)
        shift = torch.nn.functional.pad((target - source)[..., :2], (0, 0, 1, 0)).float()  # (B,1+K,2)
        objects = Gathered(batch, sources, torch.ones_like(shift), shift)
        keep = self._kept(objects, target.float(), pasted)
        lost = objects.valid[:, 0] & ~keep[:, 0]
        copied = _copied_by_windows if batch.images.device.type == "cpu" else _copied_by_pixels
        images = copied(batch.images, other, source, target, pasted)
        return replace(objects.kept(keep, counted(lost)), images=images)

    def _windows(
        self, batch: Batch, other: Tensor, asked: Tensor, draws: Tensor, sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose what is pasted where.

        Returns:
            The windows in the other image and in the own one, int64 (B,K,4) xyxy in whole pixels, and which
            of them are pasted, bool (B,K).
        """
        candidates = (batch.valid & ~batch.ignore)[other]  # (B,G)
        ranks = candidates.cumsum(1)
        there = ranks[:, -1:]  # (B,1)
        wanted = 1 + (draws[..., 0] * there).long().minimum((there - 1).clamp(min=0))  # (B,K)
        at = ((ranks[:, None] == wanted[..., None]) & candidates[:, None]).int().argmax(2)  # (B,K)
        boxes = batch.boxes[other[:, None], at]  # (B,K,4)
        limit = sizes[other].flip(1)[:, None]  # (B,1,2), width and height
        first = boxes[..., :2].floor().long().clamp(min=0)
        last = torch.minimum(boxes[..., 2:].ceil().long(), limit)
        room = sizes.flip(1)[:, None] - (last - first)  # (B,K,2)
        fits = (room >= 0).all(2) & (last > first).all(2)
        place = (draws[..., 1:].flip(2).double() * (room + 1)).long().minimum(room).clamp(min=0)
        source, target = torch.cat([first, last], 2), torch.cat([place, place + last - first], 2)
        return source, target, asked & (there > 0) & fits

    def _kept(self, objects: Gathered, windows: Tensor, pasted: Tensor) -> Tensor:
        """Cut the objects of pasted windows to these, and return which objects stay, bool (B,1+K,G)."""
        boxes, places = objects.boxes, windows[:, :, None]  # (B,1+K,G,4), (B,K,1,4)
        whole = area(boxes)
        inside = torch.cat(
            [
                torch.maximum(boxes[:, 1:, :, :2], places[..., :2]),
                torch.minimum(boxes[:, 1:, :, 2:], places[..., 2:]),
            ],
            dim=3,
        )
        objects.boxes = torch.cat([boxes[:, :1], inside], dim=1)
        left = area(objects.boxes)
        enough = left >= (1 - self.max_covered) * whole * (1 - 1e-6)
        there = torch.cat([torch.ones_like(pasted[:, :1]), pasted], dim=1)[..., None]  # (B,1+K,1)
        seen = objects.valid & there & (left > 0) & (objects.ignore | enough)
        covered = _covered(objects.boxes, windows, pasted)
        return seen & (objects.ignore | (covered <= self.max_covered * left * (1 + 1e-6)))


def _covered(boxes: Tensor, windows: Tensor, pasted: Tensor) -> Tensor:
    """Return the area of each box that windows pasted after it cover, float (B,1+K,G).

    The area of a union is that of the windows, less that of what two of them share, and so on: all are boxes.

    Args:
        boxes: (B,1+K,G,4), those of place 0 before any window, those of place k with window k.
        windows: float (B,K,4).
        pasted: bool (B,K).
    """
    covered = torch.zeros_like(boxes[..., 0])
    for size in range(1, windows.shape[1] + 1):
        for members in combinations(range(windows.shape[1]), size):
            held = torch.stack([windows[:, k] for k in members], dim=1)
            shared = torch.cat([held[..., :2].amax(1), held[..., 2:].amin(1)], dim=1)  # (B,4)
            earlier = members[0] + 1  # places before the first of them: later windows cover these alone
            below = boxes[:, :earlier]
            cut = intersection(below, shared[:, None, None])
            there = torch.stack([pasted[:, k] for k in members]).all(0)[:, None, None]
            covered[:, :earlier] += cut * there * (1 if size % 2 else -1)
    return covered


def _copied_by_windows(
    images: Tensor, other: Tensor, source: Tensor, target: Tensor, pasted: Tensor
) -> Tensor:
    """Copy windows of the ``other`` (B,) images into images (B,ch,H,W), from ``source`` (B,K,4) to
    ``target``, in order, where they are ``pasted`` (B,K). Returns a new tensor."""
    drawn = images.clone()
    for row, k in pasted.nonzero().tolist():
        (x, y, right, bottom), (to_x, to_y, to_right, to_bottom) = source[row, k], target[row, k]
        drawn[row, :, to_y:to_bottom, to_x:to_right] = images[other[row], :, y:bottom, x:right]
    return drawn


def _copied_by_pixels(
    images: Tensor, other: Tensor, source: Tensor, target: Tensor, pasted: Tensor
) -> Tensor:
    """Do the same without a look at where the windows are, for which a GPU would have to be waited for."""
    drawn = images.clone()
    height, width = images.shape[-2:]
    rows, columns = (torch.arange(n, device=images.device) for n in (height, width))
    for k in range(pasted.shape[1]):
        x, y, right, bottom = target[:, k, :, None].unbind(1)  # (B,1) each
        inside = ((rows >= y) & (rows < bottom))[:, :, None] & ((columns >= x) & (columns < right))[:, None]
        moved = target[:, k, :2] - source[:, k, :2]
        from_y = (rows - moved[:, 1:]).clamp(0, height - 1)  # (B,H)
        from_x = (columns - moved[:, :1]).clamp(0, width - 1)  # (B,W)
        taken = images[other[:, None, None], :, from_y[:, :, None], from_x[:, None]].permute(0, 3, 1, 2)
        drawn = torch.where((inside & pasted[:, k, None, None])[:, None], taken, drawn)
    return drawn
