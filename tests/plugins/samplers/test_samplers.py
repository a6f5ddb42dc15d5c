"""Repeat-factor and class-balanced sampling against numbers by hand."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from densedet.core.data.facts import drawn_facts
from densedet.core.data.sampling import BatchSampler
from densedet.plugins.samplers.class_balanced import ClassBalancedSampler
from densedet.plugins.samplers.repeat_factor import RepeatFactorSampler


class Labelled:
    """Images by their labels; a label of 100 and more is that of an ignored object."""

    classes = ("cat", "dog")

    def __init__(self, *labels: list[int]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def annotation(self, index: int) -> Any:
        labels = torch.tensor(self.labels[index], dtype=torch.int64)
        return SimpleNamespace(labels=labels % 100, ignore=labels >= 100)


def test_the_repeat_factor_of_a_rare_class() -> None:
    """4 images, class 1 in one of them: sqrt(0.5 / 0.25) = 1.414; class 0 is in all, so 1. An epoch has
    int(3 + 1.414) = 4 images, of which the rare one comes once for certain. An ignored object of class 1 in
    image 3 does not count."""
    four: Any = Labelled([0], [0], [0, 1], [0, 101])
    sampler = RepeatFactorSampler(source=four, seed=3, threshold=0.5)
    assert sampler.factors.tolist() == pytest.approx([1, 1, 2**0.5, 1])
    assert len(sampler) == 4
    assert sorted(sampler(0)) == [0, 1, 2, 3]
    rarer = RepeatFactorSampler(source=four, seed=3, threshold=1.0)
    assert rarer.factors.tolist() == [1, 1, 2, 1]  # sqrt(1 / 0.25)
    assert sorted(rarer(0)) == [0, 1, 2, 2, 3]
    assert rarer(0) == RepeatFactorSampler(source=four, seed=3, threshold=1.0)(0) != rarer(1)


def test_each_class_is_drawn_as_often() -> None:
    """2 images of class 0 and 8 of class 1: 5 draws of each in an epoch of 10."""
    ten: Any = Labelled([0], [0], *[[1]] * 8)
    sampler = ClassBalancedSampler(source=ten, seed=3)
    for epoch in range(3):
        drawn = Counter(sampler(epoch))
        assert sorted(drawn[image] for image in (0, 1)) == [2, 3]
        assert [drawn[image] for image in range(2, 10)].count(1) == 5
    assert drawn_facts(ten, sampler(0)) == {
        "cat": {"images": 5, "objects": 5},
        "dog": {"images": 5, "objects": 5},
    }
    assert sampler(0) == ClassBalancedSampler(source=ten, seed=3)(0) != sampler(1)


def test_images_without_objects_keep_their_share_or_get_another() -> None:
    """4 of 8 images are empty: 4 of an epoch by default, 2 with a share of .25, and 1 cat and 1 dog for each
    of the other pairs of draws. The image of the dogs has 2 of them."""
    eight: Any = Labelled([], [100], [], [], [0], [0], [0], [1, 1])
    assert sum(image < 4 for image in ClassBalancedSampler(source=eight, seed=0)(0)) == 4
    sampler = ClassBalancedSampler(source=eight, seed=0, empty=0.25)
    assert sum(image < 4 for image in sampler(0)) == 2
    assert drawn_facts(eight, sampler(0)) == {
        "cat": {"images": 3, "objects": 3},
        "dog": {"images": 3, "objects": 6},
    }
    nothing: Any = Labelled([], [])
    assert sorted(ClassBalancedSampler(source=nothing, seed=0)(0)) == [0, 1]


@pytest.mark.parametrize("kind", [RepeatFactorSampler, ClassBalancedSampler])
def test_processes_share_the_batches_of_one(kind: Any) -> None:
    ten: Any = Labelled([0], [0, 1], *[[1]] * 8)

    def batches(rank: int = 0, world: int = 1) -> list[Any]:
        part = BatchSampler(kind(source=ten, seed=5), batch_size=3, images=10, rank=rank, world=world)
        return [key.share for key in part.keys(2)]

    pairs = zip(batches(), batches(0, 2), batches(1, 2))
    assert all(whole == (mine[0], other[0], mine[1]) for whole, mine, other in pairs)
