"""The sweep over sorted pairs is the greedy loop, ties included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densedet.plugins.matchers import _bipartite
from densedet.plugins.matchers._bipartite import bipartite_matching


def greedy(ious: np.ndarray, minimum: float) -> dict[int, int]:
    """One image's {object: anchor}: the first largest pair of all, again and again."""
    pairs: dict[int, int] = {}
    ious = ious.copy()
    while ious.size and ious.max() > minimum:
        row, anchor = np.unravel_index(ious.argmax(), ious.shape)
        pairs[int(row)] = int(anchor)
        ious[row], ious[:, anchor] = -1, -1
    return pairs


@pytest.mark.parametrize("minimum", [-1.0, 0.0, 0.2])
@pytest.mark.parametrize("block", [1, 3, 4096])
def test_is_the_greedy_loop(minimum: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bipartite, "BLOCK", block)
    generator = np.random.default_rng(0)
    for _ in range(200):
        counts = generator.integers(0, 9, size=generator.integers(1, 4))
        num_anchors = generator.integers(1, 9)
        ious = generator.integers(0, 6, size=(counts.sum(), num_anchors)) / 10  # six values: many ties
        image = np.repeat(np.arange(len(counts)), counts)
        if not len(ious):
            continue
        expected = [
            (int(number_of.start) + row, anchor)
            for number_of in _slices(counts)
            for row, anchor in sorted(greedy(ious[number_of], minimum).items())
        ]
        rows, anchors = bipartite_matching(torch.tensor(ious), torch.tensor(image), minimum)
        assert list(zip(rows.tolist(), anchors.tolist())) == expected


def _slices(counts: np.ndarray) -> list[slice]:
    ends = np.cumsum(counts)
    return [slice(int(end - count), int(end)) for end, count in zip(ends, counts)]


def test_four_thousand_objects_at_one_place_share_the_anchors_in_order() -> None:
    """All IoUs are equal: object i takes anchor i.."""
    ious = torch.full((4000, 500), 0.5)
    rows, anchors = bipartite_matching(ious, torch.zeros(4000, dtype=torch.int64), 0.0)
    assert rows.tolist() == anchors.tolist() == list(range(500))
