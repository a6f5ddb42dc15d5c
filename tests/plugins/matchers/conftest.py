"""Random images with padded objects on a small three-level grid of points or of several anchors a cell."""

import pytest
import torch

from densedet.core.types import Level


@pytest.fixture
def levels():
    return (Level(8, 16, 1, 8), Level(4, 8, 1, 16), Level(2, 4, 1, 32))


@pytest.fixture
def points(levels):
    """float32 (N,4): one square per cell of ``levels``, as wide as the stride; 64 x 128 pixels."""
    return torch.cat([grid(level) for level in levels])


def grid(level):
    y, x = torch.meshgrid(torch.arange(level.height), torch.arange(level.width), indexing="ij")
    corner = torch.stack((x, y), dim=-1).reshape(-1, 2).float() * level.stride
    return torch.cat((corner, corner + level.stride), dim=1)


@pytest.fixture
def scene():
    """(seed[, images, objects]) -> boxes (B,G,4), labels, valid. About a fifth of the slots is not valid."""

    def make(seed, images=4, objects=6, far=False):
        generator = torch.Generator().manual_seed(seed)
        corner = torch.rand(images, objects, 2, generator=generator) * torch.tensor([110.0, 50.0])
        side = torch.rand(images, objects, 2, generator=generator).square() * torch.tensor([80.0, 50.0]) + 2
        boxes = torch.cat((corner, corner + side), dim=-1)
        if far:
            boxes[:, -1] += 1000  # touches no anchor
        valid = torch.rand(images, objects, generator=generator) < 0.8
        boxes[::2][~valid[::2]] = (
            torch.nan
        )  # padding; the other images' slots that are not valid hold boxes, as ignored objects do
        return (
            boxes,
            torch.randint(0, 3, (images, objects), generator=generator).masked_fill(~valid, -1),
            valid,
        )

    return make
