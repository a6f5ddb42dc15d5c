"""Backbones and necks that keep their contract in a way of their own, and some that break it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from densedet.core.conformance import ConformanceError, check_part
from densedet.core.errors import PartError

BROKEN: list[Any] = []
LEGAL: list[Any] = []


def broken(sentence: str, kind: str = "backbone") -> Any:
    def add(factory: Any) -> Any:
        BROKEN.append(pytest.param(kind, factory, sentence, id=f"{kind}-{factory.__name__}"))
        return factory

    return add


def legal(factory: Any) -> Any:
    kind = "neck" if issubclass(factory, Neck) else "backbone"
    LEGAL.append(pytest.param(kind, factory, id=f"{kind}-{factory.__name__}"))
    return factory


class Net(nn.Module):
    """Strides 4 and 8, in pieces that the classes below break."""

    channels: Any = (8, 12)
    strides: Any = (4, 8)

    def __init__(self, *, in_channels: int) -> None:
        super().__init__()
        self.mean, self.std = (0.45,) * in_channels, (0.22,) * in_channels
        self.first = nn.Conv2d(in_channels, 8, 7, stride=4, padding=3)
        self.second = nn.Conv2d(8, 12, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Any:
        fine = functional.relu(self.first(images))
        return [fine, functional.relu(self.second(fine))]


class Neck(nn.Module):
    """A convolution per level."""

    def __init__(self, *, in_channels: tuple[int, ...], in_strides: tuple[int, ...]) -> None:
        super().__init__()
        self.channels, self.strides = (8,) * len(in_channels), in_strides
        self.lateral = nn.ModuleList(nn.Conv2d(c, 8, 3, padding=1) for c in in_channels)

    def forward(self, features: list[Tensor]) -> Any:
        return [layer(f) for layer, f in zip(self.lateral, features)]


@legal
class Plain(Net):
    pass


@legal
class ColourOnly(Net):
    def __init__(self, *, in_channels: int) -> None:
        if in_channels != 3:
            raise PartError("these weights are for colour images: write data.color: rgb")
        super().__init__(in_channels=in_channels)


@legal
class OneLevel(Net):
    channels, strides = (12,), (8,)

    def forward(self, images: Tensor) -> Any:
        return super().forward(images)[1:]


@legal
class Frozen(Net):
    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.first.requires_grad_(False)


@legal
class BatchNorm(Net):
    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, images: Tensor) -> Any:
        fine = functional.relu(self.norm(self.first(images)))
        return [fine, functional.relu(self.second(fine))]


@legal
class PlainNeck(Neck):
    pass


@legal
class ThreeMapsOnly(Neck):
    def __init__(self, *, in_channels: tuple[int, ...], in_strides: tuple[int, ...]) -> None:
        if len(in_channels) != 3:
            raise PartError("this neck takes three maps")
        super().__init__(in_channels=in_channels, in_strides=in_strides)


@legal
class DropsTheFinest(Neck):
    def __init__(self, *, in_channels: tuple[int, ...], in_strides: tuple[int, ...]) -> None:
        keep = -1 if len(in_channels) == 1 else 1 - len(in_channels)
        super().__init__(in_channels=in_channels[keep:], in_strides=in_strides[keep:])

    def forward(self, features: list[Tensor]) -> Any:
        return super().forward(features[-len(self.lateral) :])


@legal
class AddsLevels(Neck):
    def __init__(self, *, in_channels: tuple[int, ...], in_strides: tuple[int, ...]) -> None:
        super().__init__(in_channels=in_channels, in_strides=in_strides)
        self.channels, self.strides = (*self.channels, 8), (*in_strides, in_strides[-1] * 2)

    def forward(self, features: list[Tensor]) -> Any:
        maps = super().forward(features)
        return [*maps, functional.max_pool2d(maps[-1], 2, ceil_mode=True)]


@broken("at stride 8")
class LyingStrides(Net):
    """Says 8 and 16."""

    strides = (8, 16)


@broken("channels=")
class LyingChannels(Net):
    """One entry too many."""

    channels, strides = (8, 12, 16), (4, 8, 16)


@broken("12 channels|8 channels")
class SwappedChannels(Net):
    """Channels in the wrong order."""

    channels = (12, 8)


@broken("fine to coarse")
class CoarseToFine(Net):
    """The coarsest map first."""

    channels, strides = (12, 8), (8, 4)

    def forward(self, images: Tensor) -> Any:
        return super().forward(images)[::-1]


@broken("tuple `channels`")
class ListOfChannels(Net):
    """Attributes as lists."""

    channels = [8, 12]


@broken("tuple `strides`")
class StridesLater(Net):
    """Known only after a forward."""

    strides = None

    def forward(self, images: Tensor) -> Any:
        self.strides = (4, 8)
        return super().forward(images)


@broken("scaled to 0..1")
class MeanOf255(Net):
    """mean and std for 0..255."""

    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.mean, self.std = (123.7,) * in_channels, (58.4,) * in_channels


@broken("tuple `mean` of 1 values")
class AlwaysThreeMeans(Net):
    """Three means for a grey image."""

    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.mean = (0.45,) * 3


@broken("list of maps")
class OneMap(Net):
    """A bare tensor."""

    def forward(self, images: Tensor) -> Any:
        return super().forward(images)[-1]


@broken("list of maps")
class DictOfMaps(Net):
    """A dict, as torchvision's extractors give."""

    def forward(self, images: Tensor) -> Any:
        return dict(enumerate(super().forward(images)))


@broken("cells for")
class Transposed(Net):
    """Height and width swapped."""

    def forward(self, images: Tensor) -> Any:
        return [m.transpose(2, 3) for m in super().forward(images)]


@broken("must lie as in the image")
class Mirrored(Net):
    """Columns from right to left."""

    def forward(self, images: Tensor) -> Any:
        return [m.flip(3) for m in super().forward(images)]


@broken("must lie as in the image")
class UpsideDown(Net):
    """Rows from the bottom."""

    def forward(self, images: Tensor) -> Any:
        return [m.flip(2) for m in super().forward(images)]


@broken("never get a gradient")
class PastTheLastTap(Net):
    """A stage that nothing reads."""

    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.classifier = nn.Linear(12, 1000)


@broken("cut off from the parameters|never get a gradient")
class NoGrad(Net):
    """A forgotten no_grad."""

    def forward(self, images: Tensor) -> Any:
        with torch.no_grad():
            return super().forward(images)


@broken("NaN")
class NotANumber(Net):
    """0/0 on a black channel."""

    def forward(self, images: Tensor) -> Any:
        return [m / (m - m) for m in super().forward(images)]


@broken("in place")
class InPlace(Net):
    """Subtracts the mean from the caller's images."""

    def forward(self, images: Tensor) -> Any:
        with torch.no_grad():
            images.sub_(0.1)
        return super().forward(images)


@broken("other images of the batch")
class BatchMean(Net):
    """Normalises by the batch in eval mode too."""

    def forward(self, images: Tensor) -> Any:
        return super().forward(images - images.mean())


@broken("global random generator")
class Noise(Net):
    """Noise in eval mode too."""

    def forward(self, images: Tensor) -> Any:
        return super().forward(images + 0.1 * torch.randn_like(images))


@broken("float32")
class Half(Net):
    """Half precision whatever the images are."""

    def forward(self, images: Tensor) -> Any:
        return [m.half() for m in super().forward(images)]


@broken("not registered")
class Hidden(Net):
    """A layer in a list."""

    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.extra = [nn.Conv2d(12, 12, 1)]

    def forward(self, images: Tensor) -> Any:
        fine, coarse = super().forward(images)
        return [fine, self.extra[0](coarse)]


@broken("raised")
class GreyFails(Net):
    """Three channels, whatever the recipe says."""

    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.first = nn.Conv2d(3, 8, 7, stride=4, padding=3)


@broken("raised")
class EvenSizesOnly(Net):
    """A view that divides by 8."""

    def forward(self, images: Tensor) -> Any:
        height, width = images.shape[2:]
        images.unflatten(2, (height // 8, 8)).unflatten(4, (width // 8, 8))
        return super().forward(images)


@broken("does not depend|never get")
class Constant(Net):
    """A map of the parameters alone."""

    def forward(self, images: Tensor) -> Any:
        fine, coarse = super().forward(images)
        return [fine, coarse.detach() * 0 + self.second.weight.mean()]


@broken("at stride", "neck")
class NeckDoubles(Neck):
    """Upsamples and says nothing."""

    def forward(self, features: list[Tensor]) -> Any:
        return [functional.interpolate(m, scale_factor=2) for m in super().forward(features)]


@broken("maps but channels", "neck")
class NeckLosesOne(Neck):
    """One map is lost."""

    def forward(self, features: list[Tensor]) -> Any:
        return super().forward(features)[1:] if len(features) > 1 else []


@broken("at stride", "neck")
class NeckReversed(Neck):
    """Coarse to fine."""

    def forward(self, features: list[Tensor]) -> Any:
        return super().forward(features)[::-1]


@broken("in place", "neck")
class NeckPops(Neck):
    """Eats the caller's list."""

    def forward(self, features: list[Tensor]) -> Any:
        maps = super().forward(features)
        features.append(maps[-1])
        return maps


@broken("in place", "neck")
class NeckInPlace(Neck):
    """ReLU on the backbone's maps."""

    def forward(self, features: list[Tensor]) -> Any:
        with torch.no_grad():
            for f in features:
                f.clamp_(min=0)
        return super().forward(features)


@broken("must lie as in the image", "neck")
class NeckMirrors(Neck):
    """Columns from right to left."""

    def forward(self, features: list[Tensor]) -> Any:
        return [m.flip(3) for m in super().forward(features)]


@broken("never get a gradient", "neck")
class NeckIdle(Neck):
    """A convolution without use."""

    def __init__(self, *, in_channels: tuple[int, ...], in_strides: tuple[int, ...]) -> None:
        super().__init__(in_channels=in_channels, in_strides=in_strides)
        self.idle = nn.Conv2d(8, 8, 1)


@broken("does not depend|cut off", "neck")
class NeckDetaches(Neck):
    """The backbone gets no gradient."""

    def forward(self, features: list[Tensor]) -> Any:
        return super().forward([f.detach() for f in features])


@broken("other images of the batch", "neck")
class NeckBatchMean(Neck):
    """Attention over the batch."""

    def forward(self, features: list[Tensor]) -> Any:
        return super().forward([f - f.mean(0, keepdim=True) for f in features])


@broken("not registered", "neck")
class NeckHides(Neck):
    """Learned weights in a plain tensor."""

    def __init__(self, *, in_channels: tuple[int, ...], in_strides: tuple[int, ...]) -> None:
        super().__init__(in_channels=in_channels, in_strides=in_strides)
        self.weight = torch.rand(1)

    def forward(self, features: list[Tensor]) -> Any:
        return [m * self.weight for m in super().forward(features)]


@broken("tuple `channels`", "neck")
class NeckNumber(Neck):
    """channels as one number."""

    def __init__(self, *, in_channels: tuple[int, ...], in_strides: tuple[int, ...]) -> None:
        super().__init__(in_channels=in_channels, in_strides=in_strides)
        self.channels = 8  # type: ignore[assignment]


@broken("NaN", "neck")
class NeckNaN(Neck):
    """The L2 norm of nothing."""

    def forward(self, features: list[Tensor]) -> Any:
        return [m / (m * 0).norm(dim=1, keepdim=True) for m in super().forward(features)]


@pytest.mark.parametrize(("kind", "factory", "sentence"), BROKEN)
def test_broken(kind: str, factory: Any, sentence: str) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        check_part(kind, factory)


@pytest.mark.parametrize(("kind", "factory"), LEGAL)
def test_legal(kind: str, factory: Any) -> None:
    check_part(kind, factory)
