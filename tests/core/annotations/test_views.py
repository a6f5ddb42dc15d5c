"""Views of a source keep the contract of a source."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densedet.core.annotations.views import DROP, IGNORE, KEEP, Subset, hold_out, permutation
from densedet.core.conformance import check_source
from densedet.plugins.sources.digits import DigitsSource


def subset_of_digits() -> Subset:
    return Subset(DigitsSource(count=9), (7, 2, 5))


def test_a_subset_is_a_source() -> None:
    check_source(subset_of_digits)
    view, whole = subset_of_digits(), DigitsSource(count=9)
    assert torch.equal(view.annotation(0).boxes, whole.annotation(7).boxes)
    assert view.fingerprint() != Subset(whole, (7, 2)).fingerprint()


def test_at_least_one_image_is_held_out_and_one_is_left() -> None:
    source = DigitsSource(count=3)
    for share, held in ((0.01, 1), (0.5, 2), (0.99, 2)):  # round(1.5) is 2 in Python
        training, validation = hold_out(source, share, seed=0)
        assert (len(training), len(validation)) == (3 - held, held)


@pytest.mark.parametrize("seed", [0, 7, -1, 2**32 + 5, 2**63 - 1])
def test_the_permutation_is_torch_s_own(seed: int) -> None:
    expected = torch.randperm(100, generator=torch.Generator().manual_seed(seed))
    assert permutation(100, seed) == expected.tolist()


def test_the_truth_as_arrays_is_the_annotation() -> None:
    """The first box of the source's second image is ignored, its second one taken out."""
    whole = DigitsSource(count=3, min_objects=2, max_objects=2)
    actions = np.array([KEEP, KEEP, IGNORE, DROP, KEEP, KEEP], dtype=np.uint8)
    view = Subset(whole, (1, 0), actions=actions, offsets=np.array([0, 2, 4, 6]))
    for index, ignored in ((0, [True]), (1, [False, False])):
        truth, annotation = view.truth(index), view.annotation(index)
        assert truth.ignore.tolist() == annotation.ignore.tolist() == ignored
        for name in ("boxes", "labels", "ignore", "crowd", "area"):
            assert np.array_equal(getattr(truth, name), getattr(annotation, name).numpy())
