"""Run with ``python -m pytest test_head.py`` where the package is installed."""

import pytest
import torch
from densedet_lite_head import LiteHead, quality_target

from densedet.core.conformance import check_head
from densedet.core.errors import PartError
from densedet.core.examples import example_targets


@pytest.mark.parametrize(("depth", "kernel"), [(0, 3), (2, 3), (1, 5)])
def test_it_keeps_the_contract_of_heads(depth: int, kernel: int) -> None:
    check_head(LiteHead, depth=depth, kernel=kernel)


def test_quality_is_the_matchers_where_it_gives_one() -> None:
    targets = example_targets([4, 4, 4])
    assert torch.equal(quality_target(targets), targets.positive * 0.7)
    targets.quality = None
    # Anchors of 16x16, boxes 2 right and down of their top left and 6 x 5 of their bottom right: overlap
    # 14x14, union 256 + 20*19 - 196.
    expected = targets.positive * (14 * 14 / (16 * 16 + 20 * 19 - 14 * 14))
    assert torch.allclose(quality_target(targets), expected)


def test_levels_that_cannot_share_it_are_refused() -> None:
    with pytest.raises(PartError, match="put neck fpn before it"):
        LiteHead(in_channels=(16, 32), num_anchors=(9, 9), class_channels=3, box_channels=4, class_bias=0.0)
    with pytest.raises(PartError, match="write 5"):
        LiteHead(
            in_channels=(16, 16),
            num_anchors=(9, 9),
            class_channels=3,
            box_channels=4,
            class_bias=0.0,
            kernel=4,
        )
