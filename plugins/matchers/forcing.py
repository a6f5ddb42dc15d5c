"""One anchor for each object: greedy one-to-one matching."""

from __future__ import annotations

import torch
from torch import Tensor


def one_to_one(overlaps: Tensor, minimum: float) -> Tensor:
    """overlaps (B,G,N), -1 in empty slots -> int64 (B,N): the object that holds the anchor, -1 where none does.

    The result of taking the pair with the largest IoU of an image again and again, each object and each anchor once, as long as it
    exceeds ``minimum``. Instead of a loop over objects: all objects without an anchor propose to the best one that they could win,
    each anchor keeps its best proposal (equal IoU: the holder, then the lowest slot), and whoever was refused or displaced proposes
    again. Preferences are symmetric, so this ends in the greedy matching. One round when no anchor is contested.
    """
    images, objects, anchors = overlaps.shape
    holder = torch.full((images * anchors,), -1, device=overlaps.device)
    held = overlaps.new_full((images * anchors,), -1.0)
    best, choice = overlaps.max(dim=2)
    image, slot = (best > minimum).nonzero(as_tuple=True)
    value, anchor = best[image, slot], choice[image, slot]
    while len(slot):
        place = image * anchors + anchor
        held.scatter_reduce_(0, place, value, "amax")
        equal = value == held[place]
        first = torch.full_like(holder, objects).scatter_reduce_(0, place, torch.where(equal, slot, objects), "amin")
        wins = slot == first[place]
        displaced = holder[place[wins]]
        gone = displaced >= 0
        holder[place[wins]] = slot[wins]
        image, slot = torch.cat((image[~wins], image[wins][gone])), torch.cat((slot[~wins], displaced[gone]))
        rows = overlaps[image, slot]
        rows = rows.masked_fill(rows <= held.view(images, anchors)[image], -1.0)
        value, anchor = rows.max(dim=1)
        left = value > minimum
        image, slot, value, anchor = image[left], slot[left], value[left], anchor[left]
    return holder.view(images, anchors)
