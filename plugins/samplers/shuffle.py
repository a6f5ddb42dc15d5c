"""Every training image once an epoch, in an order drawn anew for each epoch."""

from __future__ import annotations

import torch

from densedet.core.contracts import Source
from densedet.core.seeding import generator_of


class ShuffleSampler:
    """Permute the images of each epoch.

    Args:
        source: (wired) the training images.
        seed: (wired) the order is drawn from the seed and the epoch.
    """

    def __init__(self, *, source: Source, seed: int) -> None:
        self.images, self.seed = len(source), seed

    def __len__(self) -> int:
        return self.images

    def __call__(self, epoch: int) -> list[int]:
        """Return a permutation of the images."""
        return torch.randperm(self.images, generator=generator_of(self.seed, "order", epoch)).tolist()
