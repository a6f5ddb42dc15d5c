"""Augmentation that ends before the training does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limited:
    """A transform with the share of the training from which it is left out (Ge et al. 2021, YOLOX, section
    2.1, where mosaic and mixup end 15 epochs before the training).

    Attributes:
        transform: a transform, or a batch transform.
        until: it takes part while the progress, 0..1, is below this.
    """

    transform: Any
    until: float


def in_force(transforms: Iterable[Any], progress: float) -> list[Any]:
    """Return the transforms that take part at a progress of the training, in their order.

    Args:
        transforms: transforms, of which those that end are `Limited`.
        progress: part of the budget that is used, 0..1.
    """
    return [unlimited(one) for one in transforms if not isinstance(one, Limited) or progress < one.until]


def unlimited(transform: Any) -> Any:
    """Return a transform itself, whether or not it ends."""
    return transform.transform if isinstance(transform, Limited) else transform
