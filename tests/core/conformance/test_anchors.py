"""Anchors that keep their contract in a way of their own, and some that break it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from densedet.core.conformance import ConformanceError, check_anchors
from densedet.core.errors import PartError

BROKEN: list[Any] = []
LEGAL: list[Any] = []


def broken(sentence: str, **arguments: Any) -> Any:
    def add(factory: Any) -> Any:
        BROKEN.append(pytest.param(factory, sentence, arguments, id=factory.__name__))
        return factory

    return add


def legal(factory: Any) -> Any:
    LEGAL.append(pytest.param(factory, id=factory.__name__))
    return factory


class Grid:
    """Two boxes a cell, 2 strides wide or high; in pieces that the classes below break."""

    shapes = ((2.0, 1.0), (1.0, 2.0))

    def __init__(self, *, strides: tuple[int, ...]) -> None:
        self.strides = strides
        self.num_anchors = (len(self.shapes),) * len(strides)

    def centers(self, h: int, w: int, stride: float, image: Any, device: Any) -> Tensor:
        y, x = torch.meshgrid(torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij")
        return (torch.stack([x, y], -1) + 0.5) * stride

    def sides(self, stride: float, device: Any) -> Tensor:
        return torch.tensor(self.shapes, device=device) * stride

    def level(self, h: int, w: int, stride: int, image: Any, device: Any) -> Tensor:
        center = self.centers(h, w, stride, image, device).unsqueeze(2)
        half = self.sides(stride, device) / 2
        return torch.cat([center - half, center + half], -1)

    def __call__(self, sizes: Any, image: Any, device: Any) -> list[Tensor]:
        return [self.level(h, w, s, image, device).reshape(-1, 4) for (h, w), s in zip(sizes, self.strides)]


@legal
class Plain(Grid):
    pass


@legal
class OneLevelOnly(Grid):
    def __init__(self, *, strides: tuple[int, ...]) -> None:
        if len(strides) != 1:
            raise PartError("these anchors are for one level: take a neck with one")
        super().__init__(strides=strides)


@legal
class SevenLevels(Grid):
    def __init__(self, *, strides: tuple[int, ...]) -> None:
        if len(strides) != 7:
            raise PartError("these anchors are for seven levels")
        super().__init__(strides=strides)


@legal
class Fixed(Grid):
    """Sizes in pixels, from a k-means: the same on all levels."""

    def sides(self, stride: float, device: Any) -> Tensor:
        return torch.tensor([(30.0, 61.0), (62.0, 45.0)], device=device)


@legal
class CutToImage(Grid):
    def level(self, h: int, w: int, stride: int, image: Any, device: Any) -> Tensor:
        limit = torch.tensor([image[1], image[0]] * 2, device=device)
        return torch.minimum(super().level(h, w, stride, image, device).clamp(min=0), limit)


@legal
class Corner(Grid):
    """Centred on the upper left corners, as torchvision."""

    def centers(self, h: int, w: int, stride: float, image: Any, device: Any) -> Tensor:
        return super().centers(h, w, stride, image, device) - stride / 2


@legal
class Staggered(Grid):
    """Odd rows lie half a cell to the left."""

    def centers(self, h: int, w: int, stride: float, image: Any, device: Any) -> Tensor:
        shift = (torch.arange(h, device=device) % 2) * stride / 2
        center = super().centers(h, w, stride, image, device)
        return center - torch.stack([shift, shift * 0], -1)[:, None]


@legal
class Perspective(Grid):
    """Rows further down have larger boxes."""

    def level(self, h: int, w: int, stride: int, image: Any, device: Any) -> Tensor:
        boxes = super().level(h, w, stride, image, device)
        center, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
        half = half * torch.linspace(0.5, 1.5, h, device=device)[:, None, None, None]
        return torch.cat([center - half, center + half], -1)


@legal
class MoreOnFine(Grid):
    """Another number of anchors on each level."""

    def __init__(self, *, strides: tuple[int, ...]) -> None:
        super().__init__(strides=strides)
        self.num_anchors = tuple(2 if level == 0 else 1 for level in range(len(strides)))

    def __call__(self, sizes: Any, image: Any, device: Any) -> list[Tensor]:
        whole = super().__call__(sizes, image, device)
        return [whole[0], *(boxes[::2] for boxes in whole[1:])]


@broken("in pixels of the image")
class Shares(Grid):
    """Boxes as shares of the image."""

    def level(self, h: int, w: int, stride: int, image: Any, device: Any) -> Tensor:
        return super().level(h, w, stride, image, device) / torch.tensor(
            [image[1], image[0]] * 2, device=device
        )


@broken("in pixels of the image")
class Cells(Grid):
    """Boxes in cells."""

    def level(self, h: int, w: int, stride: int, image: Any, device: Any) -> Tensor:
        return super().level(h, w, stride, image, device) / stride


@broken("no area|in pixels|move by")
class CentreFormat(Grid):
    """Gives cx, cy, w, h."""

    def level(self, h: int, w: int, stride: int, image: Any, device: Any) -> Tensor:
        b = super().level(h, w, stride, image, device)
        return torch.cat([(b[..., :2] + b[..., 2:]) / 2, b[..., 2:] - b[..., :2]], -1)


@broken("ordered y, x, anchor")
class ColumnMajor(Grid):
    """Order x, y, anchor."""

    def level(self, h: int, w: int, stride: int, image: Any, device: Any) -> Tensor:
        return super().level(h, w, stride, image, device).transpose(0, 1)


@broken("ordered y, x, anchor|move by")
class AnchorMajor(Grid):
    """Order anchor, y, x."""

    def level(self, h: int, w: int, stride: int, image: Any, device: Any) -> Tensor:
        return super().level(h, w, stride, image, device).permute(2, 0, 1, 3)


@broken("ordered y, x, anchor|must grow")
class BottomUp(Grid):
    """Rows counted from the bottom."""

    def level(self, h: int, w: int, stride: int, image: Any, device: Any) -> Tensor:
        return super().level(h, w, stride, image, device).flip(0)


@broken("move sideways|must grow|move by|ordered")
class SwappedAxes(Grid):
    """y, x in the place of x, y."""

    def level(self, h: int, w: int, stride: int, image: Any, device: Any) -> Tensor:
        return super().level(h, w, stride, image, device)[..., [1, 0, 3, 2]]


@broken("shape jumps")
class Alternating(Grid):
    """Every second cell has its anchors the other way round."""

    def level(self, h: int, w: int, stride: int, image: Any, device: Any) -> Tensor:
        boxes = super().level(h, w, stride, image, device).clone()
        boxes[:, 1::2] = boxes[:, 1::2].flip(2)
        return boxes


@broken("the middle of all anchors|move by")
class WidthForHeight(Grid):
    """Spaces rows by the image's width."""

    def centers(self, h: int, w: int, stride: float, image: Any, device: Any) -> Tensor:
        center = super().centers(h, w, 1, image, device)
        return center * torch.tensor([image[0] / w, image[1] / h], device=device)


@broken("the middle of all anchors")
class OffsetInPixels(Grid):
    """An offset of a whole cell and more."""

    def centers(self, h: int, w: int, stride: float, image: Any, device: Any) -> Tensor:
        return super().centers(h, w, stride, image, device) + 1.5 * stride


@broken("move by|the middle")
class StrideOfNextLevel(Grid):
    """Off by one in the levels: cells are twice as far apart."""

    def centers(self, h: int, w: int, stride: float, image: Any, device: Any) -> Tensor:
        return super().centers(h, w, stride * 2, image, device)


@broken("smaller than that of the finest")
class LevelsReversed(Grid):
    """The largest boxes on the finest level."""

    def sides(self, stride: float, device: Any) -> Tensor:
        return torch.tensor(self.shapes, device=device) * max(self.strides) * min(self.strides) / stride


@broken("wide and high at stride")
class TinyShares(Grid):
    """Centres in pixels, sides as shares of the image."""

    def sides(self, stride: float, device: Any) -> Tensor:
        return torch.tensor(self.shapes, device=device) * 0.2


@broken("no area")
class Inverted(Grid):
    """x2 < x1."""

    def level(self, h: int, w: int, stride: int, image: Any, device: Any) -> Tensor:
        return super().level(h, w, stride, image, device)[..., [2, 3, 0, 1]]


@broken("cells with")
class WrongCount(Grid):
    """num_anchors counts one too many."""

    def __init__(self, *, strides: tuple[int, ...]) -> None:
        super().__init__(strides=strides)
        self.num_anchors = (len(self.shapes) + 1,) * len(strides)


@broken("tuple `num_anchors`")
class OneNumber(Grid):
    """num_anchors as one number for all levels."""

    def __init__(self, *, strides: tuple[int, ...]) -> None:
        super().__init__(strides=strides)
        self.num_anchors = 2  # type: ignore[assignment]


@broken("one entry for each")
class ThreeLevels(Grid):
    """Three levels, however many there are."""

    def __init__(self, *, strides: tuple[int, ...]) -> None:
        super().__init__(strides=strides)
        self.num_anchors = (2, 2, 2)


@broken("list of one tensor per level")
class OneTensor(Grid):
    """All levels in one tensor."""

    def __call__(self, sizes: Any, image: Any, device: Any) -> Any:
        return torch.cat(super().__call__(sizes, image, device))


@broken("must grow|cells with|the middle")
class CachedOnce(Grid):
    """A cache that forgets the image's size."""

    kept: Any = None

    def __call__(self, sizes: Any, image: Any, device: Any) -> list[Tensor]:
        self.kept = self.kept or super().__call__(sizes, image, device)
        return self.kept  # type: ignore[no-any-return]


@broken("global random generator")
class Jitter(Grid):
    """Random centres."""

    def centers(self, h: int, w: int, stride: float, image: Any, device: Any) -> Tensor:
        return super().centers(h, w, stride, image, device) + torch.rand(1)


@broken("CPU")
class OnCPU(Grid):
    """Ignores the device."""

    def __call__(self, sizes: Any, image: Any, device: Any) -> list[Tensor]:
        return super().__call__(sizes, image, "cpu")


@broken("float32")
class Double(Grid):
    """float64."""

    def level(self, h: int, w: int, stride: int, image: Any, device: Any) -> Tensor:
        return super().level(h, w, stride, image, device).double()


@broken("NaN|no area")
class NotANumber(Grid):
    """0/0 on a level of one column."""

    def level(self, h: int, w: int, stride: int, image: Any, device: Any) -> Tensor:
        return super().level(h, w, stride, image, device) + torch.tensor(0.0, device=device) / (h - 2)


@pytest.mark.parametrize(("factory", "sentence", "arguments"), BROKEN)
def test_broken(factory: Any, sentence: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        check_anchors(factory, **arguments)


@pytest.mark.parametrize("factory", LEGAL)
def test_legal(factory: Any) -> None:
    check_anchors(factory)
