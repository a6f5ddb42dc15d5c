"""Class-aware sampling: every class comes as often (Shen et al. 2016)."""

from __future__ import annotations

from itertools import cycle, islice

import torch

from densedet.core.arguments import Probability
from densedet.core.contracts import Source
from densedet.core.seeding import generator_of
from densedet.plugins.samplers._classes import classes_of_images


class ClassBalancedSampler:
    """Draw a class, then an image that holds it, so that each class is drawn as often as any other.

    This is class-aware sampling (Shen et al. 2016, Relay Backpropagation, section 4.1). The classes take
    turns, in an order that is drawn for each turn, and the images of a class come one after the other, in an
    order that is drawn for each epoch, from the first again behind the last. With 2 images of cats and 8 of
    dogs, an epoch of 10 has 5 draws of a cat: one image of a cat comes 3 times and the other twice. Where an
    image holds several classes, it comes for each of them.

    Args:
        source: (wired) the training images.
        seed: (wired) orders are drawn from the seed and the epoch.
        empty: share of an epoch that images without objects have; null: their share of the training images.
    """

    def __init__(self, *, source: Source, seed: int, empty: Probability | None = None) -> None:
        self.seed = seed
        classes = classes_of_images(source)
        self.images = len(classes)
        self.empty = [image for image, labels in enumerate(classes) if not labels]
        of_class: dict[int, list[int]] = {label: [] for label in sorted(set().union(*classes))}
        for image, labels in enumerate(classes):
            for label in labels:
                of_class[label].append(image)
        self.of_class = list(of_class.values())
        share = len(self.empty) / max(self.images, 1) if empty is None else empty
        self.without = round(share * self.images) if self.empty else 0
        if not self.of_class:
            self.without = self.images

    def __len__(self) -> int:
        """As many as there are images."""
        return self.images

    def __call__(self, epoch: int) -> list[int]:
        """Return the images of each class in turn, and those without objects among them."""
        generator = generator_of(self.seed, "class balanced", epoch)

        def shuffled(values: list[int]) -> list[int]:
            return [values[place] for place in torch.randperm(len(values), generator=generator).tolist()]

        images, taken = [shuffled(of_class) for of_class in self.of_class], [0] * len(self.of_class)
        order = list(islice(cycle(shuffled(self.empty)), self.without))
        while len(order) < self.images:
            for label in shuffled(list(range(len(images))))[: self.images - len(order)]:
                order.append(images[label][taken[label] % len(images[label])])
                taken[label] += 1
        return shuffled(order)
