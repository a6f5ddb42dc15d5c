"""Repeat-factor sampling: images with rare classes come more often (Gupta et al. 2019)."""

from __future__ import annotations

import math
from collections import Counter

import torch

from densedet.core.arguments import Probability
from densedet.core.contracts import Source
from densedet.core.seeding import generator_of
from densedet.plugins.samplers._classes import classes_of_images


class RepeatFactorSampler:
    """Repeat images whose classes are rare.

    This is repeat-factor sampling (Gupta et al. 2019, LVIS, appendix B.2). A class that a share f of the
    images holds has the repeat factor max(1, sqrt(threshold / f)); an image has the largest factor of its
    classes, 1 without objects. With a threshold of 0.1, an image whose rarest class is in 1 of 40 images has
    sqrt(0.1 / 0.025) = 2: it comes twice an epoch. The fraction of a factor is drawn anew each epoch.

    Args:
        source: (wired) the training images.
        seed: (wired) orders are drawn from the seed and the epoch.
        threshold: share of the images below which a class counts as rare; 0.001 in the paper, whose data set
            has 1,200 classes. 1 lets every class that is not in all images count.
    """

    def __init__(self, *, source: Source, seed: int, threshold: Probability = 0.1) -> None:
        self.seed = seed
        classes = classes_of_images(source)
        images = Counter(label for labels in classes for label in labels)
        factor = {c: max(1.0, math.sqrt(threshold * len(classes) / n)) for c, n in images.items()}
        self.factors = torch.tensor(
            [max((factor[c] for c in labels), default=1.0) for labels in classes], dtype=torch.float64
        )

    def __len__(self) -> int:
        """The sum of the factors, rounded down, so that every epoch is as long."""
        return int(self.factors.sum())

    def __call__(self, epoch: int) -> list[int]:
        """Return each image as often as its factor tells, in random order."""
        generator = generator_of(self.seed, "repeat factor", epoch)
        # Whole repeats are certain. What is left to the epoch's length is drawn by the fractions.
        whole = self.factors.floor().long()
        order = torch.arange(len(whole)).repeat_interleave(whole)
        missing = len(self) - len(order)
        if missing:
            fraction = self.factors - whole
            order = torch.cat([order, torch.multinomial(fraction, missing, generator=generator)])
        return order[torch.randperm(len(order), generator=generator)].tolist()
