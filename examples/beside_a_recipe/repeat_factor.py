"""Repeat-factor sampling (Gupta et al. 2019, LVIS, appendix B.2): images with rare classes come more often.

A class that a share f of the images holds has the repeat factor max(1, sqrt(threshold / f)); an image has the
largest factor of its classes. With a threshold of 0.1, an image whose rarest class is in 1 of 40 images has
sqrt(0.1 / 0.025) = 2: it comes twice an epoch. The fraction of a factor is drawn anew each epoch.
"""

from __future__ import annotations

import math
from collections import Counter

import torch

import densedet
from densedet.core.arguments import Probability
from densedet.core.contracts import Source
from densedet.core.seeding import generator_of


@densedet.register("sampler", "repeat_factor")
class RepeatFactorSampler:
    """Repeat images whose classes are rare.

    Args:
        source: (wired) the training images.
        seed: (wired) orders are drawn from the seed and the epoch.
        threshold: share of the images below which a class counts as rare.
    """

    def __init__(self, *, source: Source, seed: int, threshold: Probability = 0.1) -> None:
        self.seed = seed
        classes = [set(source.annotation(i).labels.tolist()) for i in range(len(source))]
        images = Counter(label for labels in classes for label in labels)
        factor = {c: max(1.0, math.sqrt(threshold * len(classes) / n)) for c, n in images.items()}
        self.factors = torch.tensor([max((factor[c] for c in labels), default=1.0) for labels in classes])

    def __len__(self) -> int:
        """The sum of the factors, rounded down, so that every epoch is as long."""
        return int(self.factors.double().sum())

    def __call__(self, epoch: int) -> list[int]:
        """Return each image as often as its factor says, in random order."""
        generator = generator_of(self.seed, "repeat factor", epoch)
        # Whole repeats are certain. What is left to the epoch's length is drawn by the fractions.
        whole = self.factors.floor().long()
        order = torch.arange(len(whole)).repeat_interleave(whole)
        missing = len(self) - len(order)
        if missing:
            fraction = self.factors - whole
            order = torch.cat([order, torch.multinomial(fraction, missing, generator=generator)])
        return order[torch.randperm(len(order), generator=generator)].tolist()
