"""Small examples of what passes between parts: grids, targets and batches that `densedet.core.conformance`
and tests feed to them."""

from __future__ import annotations

import torch
from torch import Tensor

from densedet.core.types import Batch, Extra, Level, Targets

CLASSES = 3
STRIDES = (8, 16, 32)
IMAGE_SIZE = (64, 96)
"""(height, width)"""


def level_sizes(
    strides: tuple[int, ...] = STRIDES, size: tuple[int, int] = IMAGE_SIZE
) -> list[tuple[int, int]]:
    """(height, width) in cells of each level."""
    return [(-(-size[0] // s), -(-size[1] // s)) for s in strides]


def example_targets(
    counts: list[int], positives: bool = True, extras: dict[str, Extra] | None = None
) -> Targets:
    """Two images on the levels of `check_head`: a few positives each, one ignored anchor. Objects carry 1 for
    each number in ``extras``, and their middle for each keypoint."""
    total = sum(counts)
    position = torch.arange(total)
    anchors = torch.stack([position * 4.0, position * 2.0, position * 4.0 + 16, position * 2.0 + 16], dim=-1)
    index = torch.full((2, total), -1)
    if positives:
        index[:, 3:9:2] = 0
    index[:, -1] = -2
    positive = index >= 0
    labels = torch.full((2, total), CLASSES).masked_fill(positive, 1).masked_fill(index == -2, -1)
    levels = tuple(Level(1, count // 2, 2, stride) for count, stride in zip(counts, STRIDES))
    boxes = (anchors + torch.tensor([2.0, 2.0, 6.0, 5.0])).expand(2, -1, -1)
    middle = (boxes[positive][:, :2] + boxes[positive][:, 2:]) / 2  # (P,2)
    extra = {}
    for name, declared in (extras or {}).items():
        extra[name] = torch.ones(len(middle), *declared.shape)
        if declared.kind == "keypoints":
            extra[name][..., :2] = middle[:, None]
    known = torch.ones(len(middle), dtype=torch.bool)
    return Targets(
        anchors,
        levels,
        index,
        positive,
        labels,
        boxes.where(positive.unsqueeze(-1), anchors),
        positive * 0.7,
        extra,
        dict.fromkeys(extra, known),
    )


def example_grid(
    strides: tuple[int, ...] = STRIDES, size: tuple[int, int] = IMAGE_SIZE
) -> tuple[Tensor, tuple[Level, ...]]:
    """Square anchors of one and two strides on each level, for an image of ``size`` (height, width)."""
    boxes, levels = [], []
    for (height, width), stride in zip(level_sizes(strides, size), strides):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        center = torch.stack([x, y], dim=-1).view(-1, 1, 2) * stride + stride / 2
        half = torch.tensor([stride / 2, float(stride)]).view(1, 2, 1)
        boxes.append(torch.cat([center - half, center + half], dim=-1).view(-1, 4))
        levels.append(Level(height, width, 2, stride))
    return torch.cat(boxes), tuple(levels)


def example_batch(channels: int = 1, objects: int = 2, size: tuple[int, int] = IMAGE_SIZE) -> Batch:
    """Two uint8 images (the second one smaller than the tensor), with ``objects`` each, the last of the
    second ignored."""
    height, width = size
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, objects, 2, generator=generator) * torch.tensor([width / 2.0, height / 2.0])
    ignore = torch.zeros(2, objects, dtype=torch.bool)
    if objects > 1:
        ignore[1, -1] = True
    return Batch(
        images=torch.randint(0, 256, (2, channels, height, width), generator=generator, dtype=torch.uint8),
        valid_hw=torch.tensor([[height, width], [height - 8, width - 16]]),
        boxes=torch.cat([corner, corner + torch.tensor([width / 3.0, height / 3.0])], dim=-1),
        labels=torch.arange(2 * objects).view(2, objects) % CLASSES,
        valid=torch.ones(2, objects, dtype=torch.bool),
        ignore=ignore,
        indices=torch.arange(2),
        image_ids=[11, 12],
        source_hw=torch.tensor([[height, width], [height - 8, width - 16]]),
        to_source=torch.tensor([[1.0, 1, 0, 0]] * 2),
    )
