"""Heads that keep their contract in a way of their own, and some that break it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from densedet.core import boxes as box_ops
from densedet.core.conformance import ConformanceError, check_head
from densedet.core.errors import PartError
from densedet.core.layers import flatten_cells
from densedet.core.types import Branch, Prediction, Targets

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


def overlap_loss(values: Tensor, targets: Targets) -> Tensor:
    wanted = box_ops.iou(targets.anchors, targets.boxes)
    loss = functional.binary_cross_entropy_with_logits(values.squeeze(-1), wanted, reduction="none")
    return loss * targets.positive


def times(scores: Tensor, values: Tensor) -> Tensor:
    return (scores * values.sigmoid()).sqrt()


class Shared(nn.Module):
    """One convolution per output, shared by the levels; in pieces that the classes below break."""

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        num_anchors: tuple[int, ...],
        class_channels: int,
        box_channels: int,
        class_bias: float,
    ) -> None:
        super().__init__()
        if len(set(zip(in_channels, num_anchors))) > 1:
            raise PartError("all levels share this head: put neck fpn before it")
        self.outputs, self.anchors, self.bias = (class_channels, box_channels), num_anchors[0], class_bias
        width = in_channels[0]
        self.logits = nn.Conv2d(width, self.anchors * class_channels, 3, padding=1)
        self.box = nn.Conv2d(width, self.anchors * box_channels, 3, padding=1)
        self.quality = nn.Conv2d(width, self.anchors, 3, padding=1)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.constant_(self.logits.bias, class_bias)
        self.branches: dict[str, Branch] = {"quality": self.branch()}

    def branch(self) -> Branch:
        return Branch(loss=overlap_loss, adjust=times)

    def class_of(self, x: Tensor) -> Tensor:
        return flatten_cells(self.logits(x), self.outputs[0])

    def box_of(self, x: Tensor) -> Tensor:
        return flatten_cells(self.box(x), self.outputs[1])

    def quality_of(self, x: Tensor) -> Tensor:
        return flatten_cells(self.quality(x), 1)

    def forward(self, features: list[Tensor]) -> Prediction:
        return Prediction(
            [self.class_of(x) for x in features],
            [self.box_of(x) for x in features],
            {"quality": [self.quality_of(x) for x in features]},
        )


@legal
class IoUAware(Shared):
    pass


@legal
class Objectness(Shared):
    """The class logits carry an objectness of the anchor."""

    def class_of(self, x: Tensor) -> Tensor:
        return super().class_of(x) + 0.1 * self.quality_of(x)


@legal
class ZeroInit(Shared):
    """All box outputs start at 0."""

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        num_anchors: tuple[int, ...],
        class_channels: int,
        box_channels: int,
        class_bias: float,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            num_anchors=num_anchors,
            class_channels=class_channels,
            box_channels=box_channels,
            class_bias=class_bias,
        )
        nn.init.zeros_(self.box.weight)
        nn.init.zeros_(self.box.bias)


@legal
class LevelAttention(Shared):
    """Levels see each other's mean."""

    def forward(self, features: list[Tensor]) -> Prediction:
        mean = torch.stack([f.mean((2, 3), keepdim=True) for f in features]).mean(0)
        return super().forward([f + 0.3 * mean for f in features])


@legal
class SqueezeExcite(Shared):
    """Channels are weighed by their mean over the map."""

    def forward(self, features: list[Tensor]) -> Prediction:
        return super().forward([f * (1 + 0.5 * f.mean((2, 3), keepdim=True).tanh()) for f in features])


@legal
class PerCell(Shared):
    """The branch is one number a cell, the same for its anchors."""

    def quality_of(self, x: Tensor) -> Tensor:
        own = self.quality(x).mean(1, keepdim=True).expand(-1, self.anchors, -1, -1)
        return flatten_cells(own, 1)


@legal
class Dropout(Shared):
    """Random in training, not in evaluation."""

    def forward(self, features: list[Tensor]) -> Prediction:
        return super().forward([functional.dropout2d(f, 0.2, self.training) for f in features])


@broken("the logits of level 0")
class LogitsReversed(Shared):
    """Cells from the last to the first."""

    def class_of(self, x: Tensor) -> Tensor:
        return super().class_of(x).flip(1)


@broken("the box of level 0")
class BoxReversed(Shared):
    """The same for the boxes alone."""

    def box_of(self, x: Tensor) -> Tensor:
        return super().box_of(x).flip(1)


@broken(r"the extra\['quality'\] of level 0")
class BranchReversed(Shared):
    """The same for the branch alone."""

    def quality_of(self, x: Tensor) -> Tensor:
        return super().quality_of(x).flip(1)


@broken("the box of level 0")
class BoxOneOff(Shared):
    """Boxes of the anchor before."""

    def box_of(self, x: Tensor) -> Tensor:
        return super().box_of(x).roll(1, 1)


@broken("the box of level 0")
class BoxColumnMajor(Shared):
    """Boxes in the order x, y, anchor."""

    def box_of(self, x: Tensor) -> Tensor:
        return flatten_cells(self.box(x).transpose(2, 3), self.outputs[1])


@broken("the box of level 0")
class BoxAnchorMajor(Shared):
    """Boxes in the order anchor, y, x."""

    def box_of(self, x: Tensor) -> Tensor:
        maps = self.box(x).unflatten(1, (self.anchors, self.outputs[1]))
        return maps.permute(0, 1, 3, 4, 2).flatten(1, 3)


@broken("of level 0")
class PlainView(Shared):
    """A view of the convolution's output, without a permutation."""

    def class_of(self, x: Tensor) -> Tensor:
        return self.logits(x).reshape(len(x), -1, self.outputs[0])


@broken("the box of level 0")
class BoxView(Shared):
    """The same for the boxes alone."""

    def box_of(self, x: Tensor) -> Tensor:
        return self.box(x).reshape(len(x), -1, self.outputs[1])


@broken("another image of the batch|other images")
class BatchFlipped(Shared):
    """Boxes of the other image."""

    def box_of(self, x: Tensor) -> Tensor:
        return super().box_of(x.flip(0))


@broken("first and the last of the anchors|box should be")
class OneBoxPerCell(Shared):
    """All anchors of a cell share a box."""

    def box_of(self, x: Tensor) -> Tensor:
        own = self.box(x)[:, : self.outputs[1]]
        return flatten_cells(own.repeat(1, self.anchors, 1, 1), self.outputs[1])


@broken("do not depend on the level's features|wrong|of level|should be")
class LevelsReversed(Shared):
    """Levels from coarse to fine."""

    def forward(self, features: list[Tensor]) -> Prediction:
        right = super().forward(features)
        return replace(right, logits=right.logits[::-1], box=right.box[::-1])


@broken("logits should be")
class TooNarrow(Shared):
    """One class channel is missing."""

    def class_of(self, x: Tensor) -> Tensor:
        return super().class_of(x)[..., :-1]


@broken("box should be")
class Transposed(Shared):
    """(B, channels, N)."""

    def box_of(self, x: Tensor) -> Tensor:
        return super().box_of(x).mT


@broken("returns densedet.core.types.Prediction")
class ATuple(Shared):
    """A tuple of logits and boxes."""

    def forward(self, features: list[Tensor]) -> Any:
        right = super().forward(features)
        return right.logits, right.box


@broken("logits start around class_bias")
class NoPrior(Shared):
    """The prior is not used."""

    def class_of(self, x: Tensor) -> Tensor:
        return super().class_of(x) - self.bias


@broken("logits start around class_bias")
class PriorSign(Shared):
    """The prior's sign is turned."""

    def class_of(self, x: Tensor) -> Tensor:
        return super().class_of(x) - 2 * self.bias


@broken("never get a gradient")
class Idle(Shared):
    """A layer that nothing uses."""

    def quality_of(self, x: Tensor) -> Tensor:
        return super().box_of(x)[..., :1]


@broken("cut off|never get a gradient")
class BoxDetached(Shared):
    """Boxes of detached features and output."""

    def box_of(self, x: Tensor) -> Tensor:
        return super().box_of(x).detach()


@broken("are cut off from the features|do not depend")
class FeaturesDetached(Shared):
    """The box loss does not reach the backbone."""

    def box_of(self, x: Tensor) -> Tensor:
        return super().box_of(x.detach())


@broken("not registered|never get")
class HiddenLayers(Shared):
    """Layers in a plain list: neither trained nor saved."""

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        num_anchors: tuple[int, ...],
        class_channels: int,
        box_channels: int,
        class_bias: float,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            num_anchors=num_anchors,
            class_channels=class_channels,
            box_channels=box_channels,
            class_bias=class_bias,
        )
        self.hidden = [nn.Conv2d(in_channels[0], in_channels[0], 3, padding=1)]

    def box_of(self, x: Tensor) -> Tensor:
        return super().box_of(self.hidden[0](x))


@broken("in place")
class InPlace(Shared):
    """ReLU on the neck's maps for good."""

    def forward(self, features: list[Tensor]) -> Prediction:
        if not self.training and not torch.is_grad_enabled():
            for f in features:
                f.relu_()
        return super().forward(features)


@broken("depends on the other images|depend on another image")
class BatchStatistics(Shared):
    """Normalises over the batch in eval mode too."""

    def forward(self, features: list[Tensor]) -> Prediction:
        return super().forward([(f - f.mean((0, 2, 3), keepdim=True) * 3) for f in features])


@broken("global random generator|random numbers")
class AlwaysDropout(Shared):
    """Dropout in eval mode too."""

    def forward(self, features: list[Tensor]) -> Prediction:
        return super().forward([functional.dropout(f, 0.5, True) for f in features])


@broken("float32")
class Half(Shared):
    """bfloat16 outputs whatever the features are."""

    def class_of(self, x: Tensor) -> Tensor:
        return super().class_of(x).bfloat16()


@broken("NaN")
class NotANumber(Shared):
    """The logarithm of a negative number."""

    def box_of(self, x: Tensor) -> Tensor:
        return super().box_of(x).log()


@broken("must name the same")
class Announces(Shared):
    """A branch without values."""

    def forward(self, features: list[Tensor]) -> Prediction:
        return replace(super().forward(features), extra={})


@broken("must name the same")
class Hides(Shared):
    """Values without a branch."""

    def branch(self) -> Any:
        return None

    def forward(self, features: list[Tensor]) -> Prediction:
        self.branches = {}
        return super().forward(features)


@broken("dict `branches`")
class NoBranches(Shared):
    """No dict of branches."""

    def forward(self, features: list[Tensor]) -> Prediction:
        self.branches = None  # type: ignore[assignment]
        return super().forward(features)


@broken(r"should be \(B, h\*w\*A, E\)")
class FlatBranch(Shared):
    """The branch's last axis is lost."""

    def quality_of(self, x: Tensor) -> Tensor:
        return super().quality_of(x).squeeze(-1)


@broken(r"loss gives \(B,N\)")
class BranchLossScalar(Shared):
    """The branch's loss is summed."""

    def branch(self) -> Branch:
        return Branch(loss=lambda values, targets: overlap_loss(values, targets).sum())


@broken("0 on ignored anchors")
class BranchCountsIgnored(Shared):
    """The branch's loss counts everywhere but on positives."""

    def branch(self) -> Branch:
        return Branch(loss=lambda values, targets: values.square().sum(-1))


@broken("not finite")
class BranchNaN(Shared):
    """A logarithm of raw values."""

    def branch(self) -> Branch:
        return Branch(loss=lambda values, targets: values.log().squeeze(-1) * targets.positive)


@broken("cut off from the values")
class BranchDetached(Shared):
    """The branch learns nothing."""

    def branch(self) -> Branch:
        return Branch(loss=lambda values, targets: overlap_loss(values.detach(), targets))


@broken("not come out lower")
class AdjustReversed(Shared):
    """A good score comes out low."""

    def branch(self) -> Branch:
        return Branch(loss=overlap_loss, adjust=lambda scores, values: (1 - scores) * values.sigmoid())


@broken("nor as another class")
class AdjustRolled(Shared):
    """Classes are shifted by one."""

    def branch(self) -> Branch:
        return Branch(loss=overlap_loss, adjust=lambda scores, values: scores.roll(1, -1) * values.sigmoid())


@broken("stay in 0..1")
class AdjustAdds(Shared):
    """score + quality reaches 2."""

    def branch(self) -> Branch:
        return Branch(loss=overlap_loss, adjust=lambda scores, values: scores + values.sigmoid())


@broken("in place")
class AdjustInPlace(Shared):
    """Changes the scores that others read."""

    def branch(self) -> Branch:
        return Branch(loss=overlap_loss, adjust=lambda scores, values: scores.mul_(values.sigmoid()))


@broken("different anchors")
class AdjustMixes(Shared):
    """Divides by the best score of the image."""

    def branch(self) -> Branch:
        return Branch(loss=overlap_loss, adjust=lambda s, v: s * v.sigmoid() / s.amax((1, 2), keepdim=True))


@broken("not negative")
class WeightNegative(Shared):
    """A weight below 0 turns the box loss around."""

    def branch(self) -> Branch:
        return Branch(loss=overlap_loss, weight=lambda targets: targets.positive.float() - 0.5)


@broken(r"weight gives finite \(B,N\)")
class WeightPerPositive(Shared):
    """(P,) in the place of (B,N)."""

    def branch(self) -> Branch:
        return Branch(loss=overlap_loss, weight=lambda targets: targets.boxes[targets.positive].sum(-1))


@broken("is a densedet.core.types.Branch")
class BranchIsFunction(Shared):
    """A bare loss function."""

    def branch(self) -> Any:
        return overlap_loss


@pytest.mark.parametrize(("factory", "sentence", "arguments"), BROKEN)
def test_broken(factory: Any, sentence: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        check_head(factory, **arguments)


@pytest.mark.parametrize("factory", LEGAL)
def test_legal(factory: Any) -> None:
    check_head(factory)
