"""Bipartite matching: one anchor for each object, one object for each anchor."""

from __future__ import annotations

import torch
from torch import Tensor

from densedet.plugins.matchers._pairs import largest_of_group


def bipartite_matching(ious: Tensor, image: Tensor, min_iou: float) -> tuple[Tensor, Tensor]:
    """Match each object of a batch with one anchor, the largest IoU first.

    The result is that of a greedy loop: take the pair with the largest IoU of an image, strike out its object
    and its anchor, and repeat as long as the IoU exceeds ``min_iou`` (equal IoU: the earlier object).
    `greedy` in tests/plugins/matchers/test_iou.py is that loop. Here all objects are matched at once, by
    deferred acceptance (Gale and Shapley 1962): each object without an anchor proposes to its best anchor
    among those that it could win, each anchor keeps its best proposal, and an object that lost its anchor
    proposes again. Objects and anchors rank each other by the same number, so this ends in the greedy
    matching. Without conflicts it takes one round.

    Args:
        ious: (M,N) IoU of the M objects of all images with the N anchors.
        image: int64 (M,), the image of each object.
        min_iou: the IoU that a pair must exceed.

    Returns:
        The rows of the objects that have an anchor, ascending, and their anchors, both int64 (Q,).
    """
    num_objects, num_anchors = ious.shape
    alone = -1 - torch.arange(num_objects, device=ious.device)  # (M,) a group of its own for each object
    value, anchor = ious.max(dim=1)  # (M,) each object's current proposal, -1 where it has none
    anchor = torch.where(value > min_iou, anchor, -1)
    while True:
        place = torch.where(anchor >= 0, image * num_anchors + anchor, alone)  # (M,)
        losers = (~largest_of_group(place, value)).nonzero().squeeze(1)  # (L,) rows
        if len(losers) == 0:
            row = (anchor >= 0).nonzero().squeeze(1)
            return row, anchor[row]
        # Losers propose again, but not to an anchor whose present object overlaps it as much or more.
        anchor[losers] = -1
        rows = ious[losers]  # (L,N)
        loser, holder = ((image[losers].unsqueeze(1) == image) & (anchor >= 0)).nonzero(as_tuple=True)
        taken = rows[loser, anchor[holder]] <= value[holder]
        rows[loser[taken], anchor[holder[taken]]] = -1.0
        value[losers], best = rows.max(dim=1)
        anchor[losers] = torch.where(value[losers] > min_iou, best, -1)
