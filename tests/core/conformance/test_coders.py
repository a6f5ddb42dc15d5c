"""Coders that keep their contract in a way of their own, and some that break it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from densedet.core.boxes import centers
from densedet.core.conformance import ConformanceError, check_coder
from densedet.plugins.coders.delta import DeltaCoder
from densedet.plugins.coders.distribution import DistributionCoder
from densedet.plugins.coders.ltrb import LTRBCoder

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


@legal
class Corners:
    """The two corners' shifts, in anchor sides: a space of its own."""

    box_channels, spaces = 4, ("deltas", "boxes")

    def sides(self, anchors: Tensor) -> Tensor:
        return (anchors[..., 2:] - anchors[..., :2]).clamp(min=1e-3).repeat(*[1] * (anchors.ndim - 1), 2)

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        return (boxes - anchors) / self.sides(anchors)

    def deltas(self, raw: Tensor) -> Tensor:
        return raw

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        moved = anchors + raw * self.sides(anchors)
        low, high = (
            torch.minimum(moved[..., :2], moved[..., 2:]),
            torch.maximum(moved[..., :2], moved[..., 2:]),
        )
        return torch.cat([low, high], -1)


@legal
class YoloCoder:
    """Sigmoid shift of the centre, exponential sides."""

    box_channels, spaces = 4, ("deltas", "boxes")

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        sides = (anchors[..., 2:] - anchors[..., :2]).clamp(min=1e-3)
        shift = (centers(boxes) - centers(anchors)) / sides + 0.5
        return torch.cat([shift, ((boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-3) / sides).log()], -1)

    def deltas(self, raw: Tensor) -> Tensor:
        return torch.cat([raw[..., :2].sigmoid(), raw[..., 2:]], -1)

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        said, sides = self.deltas(raw), anchors[..., 2:] - anchors[..., :2]
        middle, half = (
            centers(anchors) + (said[..., :2] - 0.5) * sides,
            sides * said[..., 2:].clamp(max=8).exp() / 2,
        )
        return torch.cat([middle - half, middle + half], -1)


@legal
class DecodesOnly(DeltaCoder):
    """Serves losses on boxes alone: nobody calls encode."""

    spaces = ("boxes",)

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        raise NotImplementedError


@legal
class Pixels(LTRBCoder):
    def __init__(self) -> None:
        super().__init__(activation="softplus", normalise=False)


@legal
class FewBins(DistributionCoder):
    def __init__(self) -> None:
        super().__init__(bins=7, bin_size=0.5)


@broken("not the inverse|decode\\(encode")
class SignOfY(DeltaCoder):
    """encode's dy points up."""

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        return super().encode(boxes, anchors) * torch.tensor([1.0, -1, 1, 1])


@broken("not the inverse|decode\\(encode")
class WidthForHeight(DeltaCoder):
    """decode takes the anchor's width for its height."""

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        width = anchors[..., 2:3] - anchors[..., :1]
        return super().decode(raw, torch.cat([anchors[..., :2], anchors[..., :2] + width], -1))


@broken("not the inverse")
class WeightsOnce(DeltaCoder):
    """encode multiplies by the weights, decode does not divide."""

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        return super().encode(boxes, anchors) * torch.tensor([10.0, 10, 5, 5]).to(boxes.device)


@broken("not the inverse")
class Swapped(DeltaCoder):
    """dh, dw in the place of dw, dh."""

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        return super().encode(boxes, anchors)[..., [0, 1, 3, 2]]


@broken("moved must move its box|elsewhere")
class CentreFormat(DeltaCoder):
    """Takes anchors for cx, cy, w, h."""

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        half = anchors[..., 2:].abs() / 2
        return super().decode(raw, torch.cat([anchors[..., :2] - half, anchors[..., :2] + half], -1))


@broken("moved must move its box")
class Normalised(DeltaCoder):
    """Boxes as shares of an image of 96 x 64."""

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        return super().decode(raw, anchors) / torch.tensor([96.0, 64, 96, 64]).to(raw.device)


@broken("x2 >= x1|elsewhere|inverse")
class GivesCentreFormat(DeltaCoder):
    """Gives cx, cy, w, h."""

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        b = super().decode(raw, anchors)
        return torch.cat([centers(b), b[..., 2:] - b[..., :2]], -1)


@broken("infinite or inverted")
class NoClamp(DeltaCoder):
    """exp overflows."""

    def __init__(self) -> None:
        super().__init__(clamp=1e9)


@broken("inverted|x2 >= x1")
class Inverts(Corners):
    """Corners may cross."""

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        return anchors + raw * self.sides(anchors)


@broken("finite")
class NoArea(Corners):
    """Divides by a side of 0."""

    def sides(self, anchors: Tensor) -> Tensor:
        return (anchors[..., 2:] - anchors[..., :2]).repeat(*[1] * (anchors.ndim - 1), 2)


@broken("finite for a box without area")
class LogZero(DeltaCoder):
    """log(0) of a box without width."""

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        shift = super().encode(boxes, anchors)[..., :2]
        ratio = (boxes[..., 2:] - boxes[..., :2]) / (anchors[..., 2:] - anchors[..., :2]).clamp(min=1e-3)
        return torch.cat([shift, ratio.log()], -1)


@broken("cuts the gradient off")
class Cut(DeltaCoder):
    """Detached."""

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        return super().decode(raw.detach(), anchors)


@broken("does not depend on the output|no gradient")
class HalfCut(LTRBCoder):
    """left and top are constants."""

    def deltas(self, raw: Tensor) -> Tensor:
        said = super().deltas(raw)
        return torch.cat([said[..., :2].detach(), said[..., 2:]], -1)


@broken("not the inverse")
class OtherActivation(LTRBCoder):
    """deltas and decode disagree: the loss trains other numbers than those that are decoded."""

    def deltas(self, raw: Tensor) -> Tensor:
        return torch.nn.functional.softplus(raw)

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        return LTRBCoder().decode(raw, anchors)


@broken("not the inverse")
class StrideOnce(LTRBCoder):
    """decode multiplies by the anchor's sides, encode does not divide."""

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        return LTRBCoder(normalise=False).encode(boxes, anchors)


@broken("not the inverse")
class BinsFromOne(DistributionCoder):
    """Targets one bin too high."""

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        return super().encode(boxes, anchors) + 1


@broken("not the inverse|elsewhere")
class BinsReversed(DistributionCoder):
    """deltas counts bins from the far end, decode from the near one."""

    def deltas(self, raw: Tensor) -> Tensor:
        return self.bins - super().deltas(raw)

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        return DistributionCoder(bins=self.bins).decode(raw, anchors)


@broken("box_channels")
class NoChannels(DeltaCoder):
    """Channels as a float."""

    box_channels = 4.0  # type: ignore[assignment]


@broken("spaces: of")
class OtherSpaces(DeltaCoder):
    """A space that no loss has."""

    spaces = ("xywh",)  # type: ignore[assignment]


@broken("raised|broadcasts")
class NoBatchAxis(DeltaCoder):
    """Works on (N,4) alone."""

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        n = len(anchors)
        return super().decode(raw.view(n, 4), anchors)


@broken("other anchors than its own")
class Relative(DeltaCoder):
    """Divides by the largest output of the batch."""

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        return super().decode(raw / raw.abs().amax().clamp(min=1) if raw.numel() else raw, anchors)


@broken("in place")
class InPlace(DeltaCoder):
    """Clamps the network's output for good."""

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        with torch.no_grad():
            raw.clamp_(max=0.5)
        return super().decode(raw, anchors)


@broken("in place")
class MovesAnchors(DeltaCoder):
    """Rounds the cached anchors."""

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        return super().encode(boxes, anchors.add_(0.5))


@broken("global random generator")
class Jitter(DeltaCoder):
    """Noise on the boxes."""

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        return super().decode(raw, anchors) + torch.rand(1)


@broken("float32")
class Double(DeltaCoder):
    """float64."""

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        return super().decode(raw.double(), anchors)


@broken("CPU")
class OnCPU(Corners):
    """A constant on the CPU."""

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        return super().encode(boxes, anchors) * torch.ones(4)


@broken("decode\\(encode|not the inverse")
class PlusOne(DeltaCoder):
    """x2 - x1 + 1, as Pascal VOC's pixels had it, in encode alone."""

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        return super().encode(boxes + boxes.new_tensor([0, 0, 1, 1]), anchors)


@pytest.mark.parametrize(("factory", "sentence", "arguments"), BROKEN)
def test_broken(factory: Any, sentence: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        check_coder(factory, **arguments)


@pytest.mark.parametrize("factory", LEGAL)
def test_legal(factory: Any) -> None:
    check_coder(factory)
