"""Views of a source keep the contract of a source."""

from __future__ import annotations

import torch

from densedet.core.annotations.views import Subset, hold_out
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
