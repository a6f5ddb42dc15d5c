"""Four images of a batch in one (Bochkovskiy et al. 2020, YOLOv4, section 3.3)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from densedet.core.arguments import NonNegativeFloat, Probability
from densedet.core.errors import PartError
from densedet.core.extras import moved
from densedet.core.types import Batch
from densedet.plugins.transforms._resampling import resampled


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
        chosen = (draw[:, 0] < self.p).nonzero().flatten().tolist()
        if not chosen or min(height, width) < 2:
            return batch
        images, sizes = batch.images.clone(), batch.valid_hw.clone()
        rows: list[tuple[Tensor, ...]] = [self._objects(batch, row) for row in range(count)]
        dropped = batch.dropped
        span = self.center[1] - self.center[0]
        for row in chosen:
            # The quarters meet at (y, x), which leaves each at least one pixel: (top, left, height, width).
            y = min(max(round(float(self.center[0] + span * draw[row, 1]) * height), 1), height - 1)
            x = min(max(round(float(self.center[0] + span * draw[row, 2]) * width), 1), width - 1)
            quarters = (
                (0, 0, y, x),
                (0, x, y, width - x),
                (y, 0, height - y, x),
                (y, x, height - y, width - x),
            )
            # Each quarter shows a whole source image, squeezed; its objects move along.
            parts = []
            for source, (top, left, down, across) in zip([row, *others[row].tolist()], quarters):
                valid_height, valid_width = batch.valid_hw[source].tolist()
                window = batch.images[source, :, :valid_height, :valid_width]
                images[row, :, top : top + down, left : left + across] = resampled(window, down, across)
                scale = batch.boxes.new_tensor([across / valid_width, down / valid_height])
                parts.append(
                    self._moved(batch, self._objects(batch, source), scale, scale.new_tensor([left, top]))
                )
            sizes[row] = torch.tensor([height, width])
            rows[row] = tuple(torch.cat(column) for column in zip(*(part for part, _ in parts)))
            dropped += sum(lost for _, lost in parts)
        # Pad the objects of each image to the longest list; `valid` marks those that exist.
        columns = [pad_sequence(list(column), batch_first=True) for column in zip(*rows)]
        counts = torch.tensor([len(row[0]) for row in rows], device=batch.boxes.device)
        valid = torch.arange(columns[0].shape[1], device=counts.device) < counts[:, None]
        return replace(
            batch,
            images=images,
            valid_hw=sizes,
            dropped=dropped,
            boxes=columns[0],
            labels=torch.where(valid, columns[1], -1),
            valid=valid,
            ignore=columns[2],
            extra=dict(zip(batch.extra, columns[3:])),
            extra_known=dict(zip(batch.extra, columns[3 + len(batch.extra) :])),
        )

    def _objects(self, batch: Batch, row: int) -> tuple[Tensor, ...]:
        """Boxes, labels, ignore flags, extras and masks of what is known, of an image's objects."""
        known = [batch.extra_known[name] for name in batch.extra]
        columns = (batch.boxes, batch.labels, batch.ignore, *batch.extra.values(), *known)
        return tuple(column[row, batch.valid[row]] for column in columns)

    def _moved(
        self, batch: Batch, objects: tuple[Tensor, ...], scale: Tensor, shift: Tensor
    ) -> tuple[tuple[Tensor, ...], int]:
        """Move objects into their quarter; return them and how many were dropped."""
        boxes, labels, ignore, *rest = objects
        if batch.extras:
            matrix = torch.cat([torch.diag(scale), shift[:, None]], dim=1)
            whole = shift.new_tensor([batch.images.shape[-1], batch.images.shape[-2]])
            values = moved(dict(zip(batch.extra, rest)), batch.extras, matrix, whole)
            rest[: len(values)] = values.values()
        boxes = boxes * scale.repeat(2) + shift.repeat(2)
        sides = (boxes[:, 2:] - boxes[:, :2]).amin(1) if len(boxes) else boxes.new_zeros(0)
        keep = (sides > 0) & (ignore | (sides >= self.min_side))
        return tuple(column[keep] for column in (boxes, labels, ignore, *rest)), int((~keep).sum())
