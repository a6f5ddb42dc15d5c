"""One anchor for each object: greedy one-to-one matching."""

from __future__ import annotations

import torch
from torch import Tensor

from densedet.plugins.matchers._pairs import outbid


def one_to_one(overlaps: Tensor, image: Tensor, minimum: float) -> tuple[Tensor, Tensor]:
    """overlaps (M,N) of M objects with all anchors, image int64 (M,): whose they are -> the rows of the
    objects that hold an anchor, ascending, and the anchors, both int64.

    The result of taking the pair with the largest IoU of an image again and again, each object and each
    anchor once, as long as it exceeds ``minimum``; equal IoU: the earlier object. Instead of a loop over
    objects: all objects without an anchor propose to the best one that they could win, each anchor keeps its
    best proposal, and whoever was refused or displaced proposes again. Preferences are symmetric, so this
    ends in the greedy matching. One round when no anchor is contested.
    """
    objects, anchors = overlaps.shape
    nowhere = -1 - torch.arange(
        objects, device=overlaps.device
    )  # a place of its own for each object that holds none
    value, anchor = overlaps.max(dim=1)
    anchor = torch.where(value > minimum, anchor, -1)
    while True:
        lost = outbid(torch.where(anchor >= 0, image * anchors + anchor, nowhere), value).nonzero().squeeze(1)
        if len(lost) == 0:
            row = (anchor >= 0).nonzero().squeeze(1)
            return row, anchor[row]
        anchor[lost] = -1
        rows = overlaps[lost]
        loser, holder = ((image[lost].unsqueeze(1) == image) & (anchor >= 0)).nonzero(as_tuple=True)
        taken = rows[loser, anchor[holder]] <= value[holder]
        rows[loser[taken], anchor[holder[taken]]] = -1.0
        value[lost], best = rows.max(dim=1)
        anchor[lost] = torch.where(value[lost] > minimum, best, -1)
