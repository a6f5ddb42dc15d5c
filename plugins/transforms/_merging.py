"""Objects of several images of a batch put together into one image."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from densedet.core.extras import moved
from densedet.core.transfer import uploaded
from densedet.core.types import Batch


class Gathered:
    """The objects of Q images of a batch for each image of it, moved, side by side.

    Args:
        batch: the batch.
        sources: int64 (B,Q), positions in the batch.
        growth: float (B,Q,2), factors along x and y.
        shift: float (B,Q,2), what is added afterwards, in pixels.

    Attributes:
        boxes: float32 (B,Q,G,4).
        labels: int64 (B,Q,G).
        valid: bool (B,Q,G).
        ignore: bool (B,Q,G).
    """

    def __init__(self, batch: Batch, sources: Tensor, growth: Tensor, shift: Tensor) -> None:
        self._batch, self._sources = batch, sources
        self.boxes = (
            batch.boxes[sources] * growth.repeat(1, 1, 2)[:, :, None] + shift.repeat(1, 1, 2)[:, :, None]
        )
        self.labels, self.valid, self.ignore = (
            column[sources] for column in (batch.labels, batch.valid, batch.ignore)
        )
        self._extra = {name: values[sources] for name, values in batch.extra.items()}
        if batch.extras:
            matrix = torch.cat([torch.diag_embed(growth), shift[..., None]], dim=3)[:, :, None]
            whole = torch.tensor([batch.images.shape[-1], batch.images.shape[-2]])
            self._extra = moved(self._extra, batch.extras, matrix, *uploaded([whole], self.boxes.device))

    def kept(self, keep: Tensor, dropped: int | Tensor) -> Batch:
        """Return the batch with the objects that are kept: those of an image in one list, in their order.

        Args:
            keep: bool (B,Q,G).
            dropped: number of objects that were lost.
        """
        batch = self._batch
        # Empty slots behind the longest list go where looking at it costs nothing.
        order = (~keep).flatten(1).int().argsort(dim=1, stable=True)
        longest = int(keep.flatten(1).sum(1).max()) if keep.device.type == "cpu" else order.shape[1]
        order = order[:, :longest]
        there = keep.flatten(1).gather(1, order)

        def listed(values: Tensor, empty: float = 0) -> Tensor:
            """(B,Q,G,*shape) as (B,longest,*shape)."""
            rows = torch.arange(len(order), device=order.device)[:, None]
            taken = values.flatten(1, 2)[rows, order]
            return taken.masked_fill(~there.view(*there.shape, *[1] * (taken.dim() - 2)), empty)

        return replace(
            batch,
            dropped=batch.dropped + dropped,
            boxes=listed(self.boxes),
            labels=listed(self.labels, -1),
            valid=there,
            ignore=listed(self.ignore),
            extra={name: listed(values) for name, values in self._extra.items()},
            extra_known={name: listed(known[self._sources]) for name, known in batch.extra_known.items()},
        )
