"""Matchers."""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from torch import Tensor

from densedet.core import boxes as box_ops
from densedet.core.conformance.networks import strides_for
from densedet.core.conformance.requirements import Factory, accepted, check, require, same, steady, wire
from densedet.core.errors import PartError
from densedet.core.examples import CLASSES, example_grid

LAYOUTS = ((3, False), (3, True), (1, True), (5, False))
"""(levels, with one anchor per cell instead of two) that a matcher is offered."""


@check("matcher")
def check_matcher(factory: Factory, **arguments: Any) -> None:
    """Check empty images, padding, far-away objects, alphabets, that objects get anchors that lie on them,
    whatever their order and slots, and the same for an image alone and in a batch.

    A matcher without background, which ignores all anchors that match nothing, is legal.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """

    def build(layout: tuple[int, bool]) -> Any:
        return wire(factory, arguments, num_classes=CLASSES, strides=strides_for(layout[0]))

    refusals = []
    built = accepted(build, LAYOUTS)
    for (count, points), part in built:
        uses = getattr(part, "uses_predictions", None)
        require(
            uses in (True, False, "adjusted"),
            "a matcher says whether it wants predictions: `uses_predictions` is False, True (scores of the "
            f'class loss) or "adjusted" (scores after branches), not {uses!r}',
        )
        rising = "progress" in inspect.signature(part).parameters
        for progress in (0.0, 1.0) if rising else (None,):
            trial, spare = (_Trial(part, strides_for(count), points, progress) for _ in range(2))
            try:
                spare.match(spare.boxes, spare.labels, spare.valid)
            except (PartError, ValueError) as error:
                refusals.append(str(error))
                break
            trial.run()
    require(len(refusals) < len(built), f"it refuses every grid that it was offered: {refusals[:1]}")


class _Trial:
    """One matcher on one grid: two images of four slots each, of which some are empty."""

    def __init__(self, part: Any, strides: tuple[int, ...], points: bool, progress: float | None) -> None:
        self.part = part
        self.keywords: dict[str, Any] = {} if progress is None else {"progress": progress}
        grid, levels = example_grid(strides, (8 * strides[-1], 12 * strides[-1]))
        if points:
            grid = grid[::2]
            levels = tuple(level._replace(anchors=1) for level in levels)
        self.anchors, self.levels = grid, levels
        self.boxes, self.labels, self.valid, self.fitting = self._scene()
        self.scores = torch.full((2, len(grid), CLASSES), 0.5)

    def _scene(self) -> tuple[Tensor, Tensor, Tensor, list[tuple[int, int]]]:
        """Objects that fit an anchor exactly, one far from all, and empty slots; and who must get anchors."""
        chosen = []
        for level in (0, len(self.levels) - 1):
            of = self.levels[level]
            start = sum(other.count for other in self.levels[:level])
            for y, x in ((of.height // 4, of.width // 4), (of.height * 3 // 4, of.width * 2 // 3)):
                chosen.append(self.anchors[start + (y * of.width + x) * of.anchors + of.anchors - 1])
        far = torch.tensor([1e4, 1e4, 1e4 + 40, 1e4 + 40])
        none = self.anchors[self.levels[0].count // 3] + torch.tensor([-3.0, -2.0, 1.0, 2.0])  # no meaning
        of = self.levels[0]
        loose = self.anchors[(of.height // 2 * of.width + of.width // 2) * of.anchors].clone()
        loose[[0, 2]] += 0.3 * (loose[2] - loose[0])  # IoU 0.7 / 1.3 with its anchor
        boxes = torch.stack(
            [torch.stack([chosen[0], none, chosen[3], far]), torch.stack([loose, chosen[1], chosen[2], none])]
        )
        labels = torch.tensor([[2, -1, 0, 1], [1, 0, 2, -1]])
        valid = torch.tensor([[True, False, True, True], [True, True, True, False]])
        return boxes, labels, valid, [(0, 0), (0, 2), (1, 1), (1, 2)]

    def match(self, boxes: Tensor, labels: Tensor, valid: Tensor) -> Any:
        uses = self.part.uses_predictions
        predictions = (
            (self.scores[: len(boxes)], self.anchors.expand(len(boxes), -1, -1).clone()) if uses else None
        )
        return self.part(boxes, labels, valid, self.anchors, self.levels, predictions, **self.keywords)

    def run(self) -> None:
        answer = steady(
            "the matcher",
            lambda boxes, labels, valid, anchors: self.match(boxes, labels, valid),
            *(self.boxes, self.labels, self.valid, self.anchors),
        )
        self._check_alphabet(answer)
        index = answer.matched_idxs
        require(
            not bool((index[0] == 3).any()),
            "an object that touches no anchor got one: force only where the IoU is above 0",
        )
        for image, slot in self.fitting:
            require(
                bool((index[image] == slot).any()),
                f"an object that fits an anchor exactly ({self.boxes[image, slot].tolist()}) got no anchor",
            )
        self._check_places(index)
        self._check_background(index)
        self._check_order(answer)
        self._check_quality(answer)
        self._check_reasons(answer)
        self._check_empty()

    def _check_alphabet(self, answer: Any) -> None:
        require(
            isinstance(answer, tuple) and len(answer) == 2,
            "a matcher gives an Assignment(matched_idxs, quality)",
        )
        index, quality = answer
        shape = (2, len(self.anchors))
        require(
            index.dtype == torch.int64 and index.shape == shape,
            f"index is int64 (B,N)={shape}, got {index.dtype} {tuple(index.shape)}",
        )
        require(
            int(index.min()) >= -2 and int(index.max()) < self.valid.shape[1],
            "index holds slots, -1 (background) or -2 (ignore)",
        )
        held = self.valid.gather(1, index.clamp(min=0))
        require(bool(held[index >= 0].all()), "a slot with valid=False got an anchor")
        if quality is not None:
            require(
                quality.shape == index.shape and quality.dtype == torch.float32, "quality is float32 (B,N)"
            )
            require(bool(((quality >= 0) & (quality <= 1 + 1e-6)).all()), "quality lies in 0..1")
            require(bool((quality[index < 0] == 0).all()), "quality is 0 off the positives")

    def _check_reasons(self, answer: Any) -> None:
        """A matcher that tells why has a sentence for every anchor, and a number for every place in it."""
        explain = getattr(self.part, "reasons", None)
        if explain is None:
            return
        predictions = self.scores, self.anchors.expand(2, -1, -1).clone()
        given = self.boxes, self.labels, self.valid, self.anchors, self.levels
        found = explain(answer, *given, predictions if self.part.uses_predictions else None)
        shape = answer.matched_idxs.shape
        for name, values in {"rule": found.rule, **found.values, **found.objects}.items():
            require(
                values.shape == shape,
                f"reasons: {name} has the shape {tuple(values.shape)}, not {tuple(shape)}",
            )
        require(
            int(found.rule.min()) >= 0 and int(found.rule.max()) < len(found.rules),
            f"reasons: rule is a position in rules, 0 to {len(found.rules) - 1}",
        )
        named = {name for rule in found.rules for name in re.findall(r"{(\w*)}", rule)}
        missing = named - {*found.values, *found.objects}
        require(
            not missing, f"reasons: its rules name {', '.join(sorted(missing))}, of which it has no values"
        )
        for name, slots in found.objects.items():
            held = self.valid.gather(1, slots.clamp(min=0))
            require(bool(held[slots >= 0].all()), f"reasons: {name} names a slot with valid=False")

    def _check_places(self, index: Tensor) -> None:
        """Matched anchors touch their object, or lie within some strides of it."""
        reach = torch.cat([torch.full((level.count,), 2.6 * level.stride) for level in self.levels])
        for image, slot in self.fitting:
            wide = self.boxes[image, slot] + reach[:, None] * torch.tensor([-1.0, -1, 1, 1])
            near = box_ops.intersection(wide, self.anchors) > 0
            require(
                not bool(((index[image] == slot) & ~near).any()),
                f"object {self.boxes[image, slot].tolist()} got anchors that lie elsewhere: matched_idxs "
                f"holds the slot of the anchor's own object",
            )
            away = (box_ops.centers(self.anchors) - box_ops.centers(self.boxes[image, slot])).abs().amax(-1)
            require(
                bool(((index[image] == slot) & (away <= 0.3 * reach)).any()),
                f"object {self.boxes[image, slot].tolist()}, whose middle is an anchor's, got only anchors "
                f"beside its middle: the order of matched_idxs is that of the anchors",
            )

    def _check_background(self, index: Tensor) -> None:
        """Anchors far from all objects: mostly the same, and no more ignored than those near objects."""
        near = torch.stack(
            [(box_ops.pairwise_iou(b[v], self.anchors) > 0).any(0) for b, v in zip(self.boxes, self.valid)]
        )
        require(
            not bool((index[~near] >= 0).all()), "every anchor is matched, also those far from all objects"
        )
        require(
            not (bool((index[~near] == -2).all()) and bool((index == -1).any())),
            "anchors that touch no object are ignored (-2) while others are background: background is -1",
        )

    def _check_order(self, answer: Any) -> None:
        index, quality = answer
        order = torch.tensor([2, 3, 0, 1])
        moved = self.match(self.boxes[:, order], self.labels[:, order], self.valid[:, order])
        back = torch.where(moved[0] >= 0, order[moved[0].clamp(min=0)], moved[0])
        other = back != index
        # Two objects may be equally near to an anchor; then the earlier slot may win.
        tied = int((other & (back >= 0) & (index >= 0)).sum()) <= 0.2 * int((index >= 0).sum())
        require(
            tied and not bool((other & ((back < 0) | (index < 0))).any()),
            "objects in other slots must get the same anchors",
        )
        wider = [
            torch.cat([t, torch.zeros_like(t[:, :3])], dim=1) for t in (self.boxes, self.labels, self.valid)
        ]
        require(torch.equal(self.match(*wider)[0], index), "more empty slots must not change the assignment")
        for image in range(2):
            one = slice(image, image + 1)
            alone = self.match(self.boxes[one], self.labels[one], self.valid[one])
            require(
                torch.equal(alone[0][0], index[image])
                and (quality is None or same(alone[1][0], quality[image], 1e-5)),
                "an image alone and in a batch must get the same assignment",
            )

    def _check_quality(self, answer: Any) -> None:
        """The anchor that fits its object exactly has the best quality of the object's anchors."""
        index, quality = answer
        if quality is None:
            return
        for image, slot in self.fitting:
            own = index[image] == slot
            overlap = box_ops.iou(self.boxes[image, slot], self.anchors)[own]
            of = quality[image][own]
            require(float(of.max()) > 0, "the quality of an object's best anchor is 0")
            best, worst = of[overlap == overlap.max()].mean(), of[overlap == overlap.min()].mean()
            require(
                float(best) >= float(worst) - 1e-4,
                "an anchor that fits its object has a lower quality than one that fits it badly: 1 is best",
            )

    def _check_empty(self) -> None:
        nothing = self.match(
            torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.bool)
        )
        require(
            nothing[0].shape == (2, len(self.anchors)) and bool((nothing[0] < 0).all()),
            "without objects (G = 0) no anchor is matched: -1, background",
        )
        padding = self.match(self.boxes, self.labels, torch.zeros_like(self.valid))
        require(
            bool((padding[0] < 0).all()),
            "slots with valid=False are no objects: every anchor is background, -1",
        )
