"""Heads and their branches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from densedet.core.conformance.networks import strides_for
from densedet.core.conformance.requirements import (
    Factory,
    accepted,
    centroid,
    check,
    check_gradients,
    check_rows,
    check_state_dict,
    finite,
    require,
    same,
    shaken,
    steady,
    wire,
)
from densedet.core.examples import CLASSES, example_targets
from densedet.core.types import Branch, Prediction

BOX_CHANNELS = 4
LAYOUTS = (
    ((16,) * 3, (2,) * 3),
    ((16,), (2,)),
    ((16,) * 2, (2,) * 2),
    ((16,) * 4, (2,) * 4),
    ((16,) * 5, (2,) * 5),
    ((16,) * 3, (1,) * 3),
    ((16,), (1,)),
)
"""(channels, anchors per cell) of each level that a head is offered."""
UNEQUAL = ((16, 24, 16), (2, 1, 3))
"""A layout that a head need not take."""


@check("head")
def check_head(factory: Factory, **arguments: Any) -> None:
    """Check shapes, the order of logits, boxes and branches, gradients, the class bias, independence of the
    images of a batch, the state dict, and every branch's loss, adjust, weight and predict. A head may refuse
    some layouts of levels.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """

    def build(layout: Any, bias: float = -2.0, classes: int = CLASSES + 1) -> Any:
        channels, anchors = layout
        return wire(
            factory,
            arguments,
            in_channels=channels,
            in_strides=strides_for(len(channels)),
            num_anchors=anchors,
            class_channels=classes,
            box_channels=BOX_CHANNELS,
            class_bias=bias,
        )

    for layout, part in [*_unequal(build), *accepted(build, LAYOUTS)[:3]]:
        features = _features(layout)
        prediction = part.train()(features)
        _check_shapes(part, prediction, features, layout[1], CLASSES + 1)
        outputs = tensors_of(prediction)
        check_gradients(part, torch.stack([o.sum() for o in outputs]).sum(), "the head")
        _check_order(shaken(part), layout)
        _check_channels(shaken(part), layout)
    with torch.no_grad():
        _check_bias([build(layout, bias).train()(features) for bias in (-2.0, -4.0)])
        more = build(layout, classes=1)
        _check_shapes(more, more.train()(features), features, layout[1], 1)
        output = steady("the head in eval mode", part.eval(), features)
        check_rows("the head", lambda *maps: part(list(maps)), features, output)
        check_state_dict("the head", part, lambda: build(layout), lambda p: p([f[:1] for f in features]))
    for name, branch in part.branches.items():
        _check_branch(name, branch, prediction)


def _unequal(build: Any) -> list[tuple[Any, Any]]:
    """The unequal layout and its part where the part takes it; a dry run names one that does not."""
    try:
        part = build(UNEQUAL)
        features = _features(UNEQUAL)
        _check_shapes(part, part(features), features, UNEQUAL[1], CLASSES + 1)
    except Exception:
        return []
    return [(UNEQUAL, part)]


def _features(layout: Any, scale: int = 1) -> list[Tensor]:
    count = len(layout[0])
    sizes = [(-(-12 * scale // 2**level), -(-20 * scale // 2**level)) for level in range(count)]
    return [torch.randn(2, channels, *size) for channels, size in zip(layout[0], sizes)]


def tensors_of(prediction: Prediction) -> list[Tensor]:
    """Every output of a head: logits, box, then each branch's values, of all levels."""
    return [*prediction.logits, *prediction.box, *(v for values in prediction.extra.values() for v in values)]


def _check_shapes(
    part: Any, prediction: Any, features: list[Tensor], anchors: tuple[int, ...], classes: int
) -> None:
    require(
        isinstance(prediction, Prediction),
        f"a head returns densedet.core.types.Prediction, not {type(prediction).__name__}",
    )
    counts = [f.shape[2] * f.shape[3] * a for f, a in zip(features, anchors)]
    groups = {"logits": (prediction.logits, classes), "box": (prediction.box, BOX_CHANNELS)}
    for name, (values, channels) in groups.items():
        shapes = [tuple(v.shape) for v in values]
        wanted = [(2, count, channels) for count in counts]
        require(shapes == wanted, f"{name} should be {wanted} (B, h*w*A, channels), got {shapes}")
    branches: Any = getattr(part, "branches", None)
    require(isinstance(branches, dict), "a head has a dict `branches`, empty where it brings none")
    require(
        set(branches) == set(prediction.extra),
        f"branches {sorted(branches)} and Prediction.extra {sorted(prediction.extra)} must name the same",
    )
    for name, values in prediction.extra.items():
        shapes = [tuple(v.shape) for v in values]
        require(
            [s[:2] for s in shapes] == [(2, c) for c in counts] and all(len(s) == 3 for s in shapes),
            f"extra[{name!r}] should be (B, h*w*A, E) per level, got {shapes}",
        )
    outputs = tensors_of(prediction)
    require(finite(outputs), "a head's output holds NaN or infinity")
    kinds = {o.dtype for o in outputs}
    require(kinds == {torch.float32}, f"a head keeps the dtype of its features, float32, not {kinds}")


def _check_bias(predictions: list[Prediction]) -> None:
    """The medians of the logits at class_bias -2 and -4."""
    low, lower = (float(torch.cat([v.flatten() for v in p.logits]).median()) for p in predictions)
    require(
        abs(low + 2) < 2 and abs(lower + 4) < 2,
        f"logits start around class_bias: at -2 theirs are around {low:.2f}, at -4 around {lower:.2f}: "
        f"initialise the class bias with it",
    )


def _check_order(part: nn.Module, layout: Any) -> None:
    """Every output must come from its own cell of its own level, and differ from its neighbours'."""
    features = [f.requires_grad_() for f in _features(layout)]
    prediction = part(features)
    groups = {"logits": prediction.logits, "box": prediction.box}
    for name, values in (groups | {f"extra[{n!r}]": v for n, v in prediction.extra.items()}).items():
        for level, (feature, count) in enumerate(zip(features, layout[1])):
            height, width = feature.shape[-2:]
            cells = values[level].view(2, height, width, count, -1)
            where = f"the {name} of level {level}"
            require(cells.requires_grad, f"{where} are cut off from the features (detach or no_grad)")
            _check_cells(cells, features, level, where)
            if name == "logits" or name == "box":
                flat = cells.detach()
                for kind, axis in (("anchors", 3), ("channels", 4)):
                    first, second = flat.narrow(axis, 0, 1), flat.narrow(axis, flat.shape[axis] - 1, 1)
                    require(
                        flat.shape[axis] == 1 or not same(first, second, 1e-6),
                        f"{where}: the first and the last of the {kind} of a cell are the same number",
                    )


def _check_channels(part: nn.Module, layout: Any) -> None:
    """A convolution's output channel anchor * K + number is that number of that anchor, as in files."""
    features, anchors = _features(layout), layout[1]
    with torch.no_grad():
        plain = part(features)
        for name, layer in part.named_modules():
            if not isinstance(layer, nn.Conv2d) or layer.bias is None:
                continue
            layer.bias[1] += 1.0
            moved = part(features)
            layer.bias[1] -= 1.0
            for kind in ("logits", "box"):
                for old, new, count in zip(getattr(plain, kind), getattr(moved, kind), anchors):
                    if count == 1 or layer.out_channels != count * old.shape[-1]:
                        continue
                    change = (new - old).unflatten(1, (-1, count)).abs().amax((0, 1)) > 1e-4  # (A,K)
                    require(
                        bool(change[0, 1]) or int(change.sum()) != 1,
                        f"output channel 1 of {name} is not number 1 of anchor 0 of the {kind}: channels are "
                        f"laid out anchor * K + number",
                    )


def _check_cells(cells: Tensor, features: list[Tensor], level: int, where: str) -> None:
    """(B,h,w,A,E) of one level: each depends on the features around its cell, in its image and level."""
    height, width, count = cells.shape[1:4]
    # Away from the border and the diagonal, so that every other order ends up cells away.
    for y, x in {(height * 3 // 4, width // 5), (height // 4, width * 3 // 4)}:
        for anchor in {0, count - 1}:
            gradients = torch.autograd.grad(
                cells[0, y, x, anchor].sum(), features, retain_graph=True, allow_unused=True
            )
            own = gradients[level]
            require(own is not None and bool(own.any()), f"{where} do not depend on the level's features")
            assert own is not None
            require(not bool(own[1].any()), f"{where} of one image depend on another image of the batch")
            _check_support(own[0], (y, x), where)
            # The middle of what a cell sees, not its peak: a wide kernel may weigh a neighbour most.
            at_y, at_x = centroid(own[0])
            require(
                abs(at_y - y) < 2 and abs(at_x - x) < 2,
                f"{where} for cell (y {y}, x {x}) come from around (y {at_y:.0f}, x {at_x:.0f}): outputs "
                f"must be in the order y, x, anchor (use densedet.core.layers.flatten_cells)",
            )


def _check_support(gradient: Tensor, cell: tuple[int, int], where: str) -> None:
    """What a cell sees, where that is a window inside the map (c,h,w), lies around the cell exactly."""
    seen = gradient.abs().amax(0) > 0
    for axis, at in enumerate(cell):
        places = seen.any(1 - axis).nonzero().flatten()
        first, last = int(places.min()), int(places.max())
        if first > 0 and last < seen.shape[axis] - 1:
            require(
                abs((first + last) / 2 - at) < 0.9,
                f"{where} for cell (y {cell[0]}, x {cell[1]}) see rows or columns {first} to {last}: outputs "
                f"are one anchor or one cell off the order y, x, anchor",
            )


def _check_branch(name: str, branch: Any, prediction: Prediction) -> None:
    require(
        isinstance(branch, Branch),
        f"branches[{name!r}] is a densedet.core.types.Branch, not {type(branch).__name__}",
    )
    counts = [v.shape[1] for v in prediction.logits]
    total = sum(counts)
    values = torch.cat(prediction.extra[name], dim=1).detach().requires_grad_()
    for positives in (True, False):
        targets = example_targets(counts, positives, branch.needs)
        loss = steady(f"branch {name!r}: loss", branch.loss, values, targets)
        require(
            loss.shape == (2, total),
            f"branch {name!r}: loss gives (B,N)={(2, total)}, got {tuple(loss.shape)}",
        )
        require(finite(loss), f"branch {name!r}: its loss is not finite")
        require(
            bool((loss[targets.matched_idxs == -2] == 0).all()),
            f"branch {name!r}: its loss must be 0 on ignored anchors",
        )
        if positives:
            require(loss.requires_grad, f"branch {name!r}: its loss is cut off from the values (detach)")
            (gradient,) = torch.autograd.grad(loss.sum(), values)
            require(
                finite(gradient) and bool(gradient.any()),
                f"branch {name!r}: its loss gives no finite gradient",
            )
            lower = branch.loss((values - 0.01 * gradient / gradient.norm()).detach(), targets)
            require(
                float(lower.sum()) <= float(loss.detach().sum()) + 1e-5,
                f"branch {name!r}: its loss grows along its negative gradient",
            )
    if branch.predict is not None:
        _check_predict(name, branch, values.detach()[0], targets.anchors)
    if branch.adjust is not None:
        _check_adjust(name, branch.adjust, values.detach())
    if branch.weight is not None:
        weight = branch.weight(example_targets(counts, extras=branch.needs))
        require(
            weight.shape == (2, total) and bool((weight >= 0).all()) and finite(weight),
            f"branch {name!r}: weight gives finite (B,N), not negative",
        )


def _check_predict(name: str, branch: Branch, values: Tensor, anchors: Tensor) -> None:
    assert branch.predict is not None
    for count in (3, 0):
        carried = steady(f"branch {name!r}: predict", branch.predict, values[:count], anchors[:count])
        require(
            isinstance(carried, Tensor) and carried.ndim > 0 and len(carried) == count,
            f"branch {name!r}: predict gives one value for each of {count} detections",
        )
        require(finite(carried), f"branch {name!r}: predict gives NaN or infinity")
        require(
            branch.kind != "keypoints" or (carried.ndim == 3 and carried.shape[2] == 3),
            f"branch {name!r}: keypoints are (D,K,3), x, y and visibility, not {tuple(carried.shape)}",
        )
    if branch.kind == "keypoints":
        shift = anchors.new_tensor([64.0, 32.0])
        before, after = (
            branch.predict(values[:3], boxes)[..., :2]
            for boxes in (anchors[:3], anchors[:3] + shift.repeat(2))
        )
        require(
            same(after, before + shift, 1e-3),
            f"branch {name!r}: keypoints are in pixels: where an anchor is shifted, they are too",
        )


def _check_adjust(name: str, adjust: Any, values: Tensor) -> None:
    total = values.shape[1]
    scores = torch.rand(2, total, CLASSES) * 0.8 + 0.05
    adjusted = steady(f"branch {name!r}: adjust", adjust, scores, values)
    require(
        adjusted.shape == (2, total, CLASSES),
        f"branch {name!r}: adjust keeps (B,N,C), got {tuple(adjusted.shape)}",
    )
    require(
        finite(adjusted) and bool(((adjusted >= 0) & (adjusted <= 1)).all()),
        f"branch {name!r}: adjusted scores stay in 0..1",
    )
    for label in range(CLASSES):
        raised = scores.clone()
        raised[0, ::2, label] += 0.1
        change = adjust(raised, values) - adjusted
        require(
            bool((change[0, ::2, label] >= -1e-6).all()) and float(change[0, ::2, label].sum()) > 0,
            f"branch {name!r}: a higher score of class {label} must not come out lower, nor as another class",
        )
        change[0, ::2] = 0
        require(
            float(change.abs().max()) < 1e-5, f"branch {name!r}: adjust mixes the scores of different anchors"
        )
