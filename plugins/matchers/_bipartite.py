"""Bipartite matching: one anchor for each object, one object for each anchor."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from densedet.plugins.matchers._pairs import largest_of_group

BLOCK = 4096
"""Pairs that `_sweep` looks at between two clearings of those whose object or anchor is taken."""


def bipartite_matching(ious: Tensor, image: Tensor, min_iou: float) -> tuple[Tensor, Tensor]:
    """Match each object of a batch with one anchor, the largest IoU first.

    The result is that of a greedy loop: take the pair with the largest IoU of an image, strike out its object
    and its anchor, and repeat as long as the IoU exceeds ``min_iou`` (equal IoU: the earlier object, then the
    earlier anchor). `greedy` in tests/plugins/matchers/test_iou.py is that loop. Where no two objects of an
    image have the same best anchor, all have it; in the other images the P pairs of each object and its best
    anchors are sorted once and swept through, which takes O(P log P).

    Args:
        ious: (M,N) IoU of the M objects of all images with the N anchors.
        image: int64 (M,), the image of each object, ascending.
        min_iou: the IoU that a pair must exceed.

    Returns:
        The rows of the objects that have an anchor, ascending, and their anchors, both int64 (Q,).
    """
    num_anchors = ious.shape[1]
    value, anchor = ious.max(dim=1)  # (M,) each object's best anchor
    row = (value > min_iou).nonzero().squeeze(1)  # (Q,)
    place = image[row] * num_anchors + anchor[row]  # (Q,) the anchor of its image
    alone = largest_of_group(place, value[row])  # (Q,) whose best anchor no better object wants
    if bool(alone.all()):
        return row, anchor[row]
    crowded = torch.isin(image, image[row[~alone]])  # (M,) in images where objects contend for an anchor
    calm, inside = row[~crowded[row]], crowded.nonzero().squeeze(1)
    contended, taken = _contended(ious[inside], image[inside], min_iou)
    rows, order = torch.cat([calm, inside[contended]]).sort()
    return rows, torch.cat([anchor[calm], taken])[order]


def _contended(ious: Tensor, image: Tensor, min_iou: float) -> tuple[Tensor, Tensor]:
    """`bipartite_matching` by sorting the pairs of each object and its best anchors."""
    num_anchors = ious.shape[1]
    # The G - 1 other objects of an image take at most G - 1 anchors: an object's G best are enough.
    most = min(int(torch.bincount(image).max()), num_anchors)
    least = ious.topk(most, dim=1).values[:, -1:].clamp(min=max(min_iou, 0.0))  # (M,1)
    wanted = (ious >= least) & (ious > max(min_iou, 0.0))
    row, anchor = wanted.nonzero(as_tuple=True)  # (P,) each, by object, then anchor
    order = ious[row, anchor].argsort(descending=True, stable=True)
    place = image[row] * num_anchors + anchor
    num_places = (int(image[-1]) + 1) * num_anchors  # images ascend
    matched = _sweep(row[order].cpu().numpy(), place[order].cpu().numpy(), len(ious), num_places)
    if min_iou < 0:  # the pairs that do not overlap are equal: objects and anchors go by their order
        _fill(matched, image.cpu().numpy(), num_anchors)
    row = torch.from_numpy((matched >= 0).nonzero()[0])
    return row.to(ious.device), torch.from_numpy(matched)[row].to(ious.device) % num_anchors


def _sweep(row: np.ndarray, place: np.ndarray, num_rows: int, num_places: int) -> np.ndarray:
    """Take each pair whose row and place are both free, in order.

    Returns:
        int64 (num_rows,), the place of each row, -1 where it has none.
    """
    matched = np.full(num_rows, -1, dtype=np.int64)
    row_is_free, place_is_free = bytearray(b"\1" * num_rows), bytearray(b"\1" * num_places)
    free_rows, free_places = np.frombuffer(row_is_free, bool), np.frombuffer(place_is_free, bool)
    for start in range(0, len(row), BLOCK):
        rows, places = row[start : start + BLOCK], place[start : start + BLOCK]
        free = free_rows[rows] & free_places[places]
        for r, p in zip(rows[free].tolist(), places[free].tolist()):
            if row_is_free[r] and place_is_free[p]:
                row_is_free[r] = place_is_free[p] = False
                matched[r] = p
    return matched


def _fill(matched: np.ndarray, image: np.ndarray, num_anchors: int) -> None:
    """Give the first free anchors of each image to its objects that have none, in place."""
    for number in np.unique(image[matched < 0]):
        own = image == number
        free = np.setdiff1d(np.arange(num_anchors) + number * num_anchors, matched[own])
        rows = (own & (matched < 0)).nonzero()[0][: len(free)]
        matched[rows] = free[: len(rows)]
