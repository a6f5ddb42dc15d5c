"""Does a part keep its contract? One check per kind, for the tests of whoever writes one.

    from densedet.core.conformance import check_head
    def test_my_head():
        check_head(MyHead, depth=2)

Each takes the class (or function) and its recipe arguments, wires the rest itself, and raises
ConformanceError with a sentence that says what was expected. The contracts are in `densedet.core.contracts`.
"""

from __future__ import annotations

import inspect
import math
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from densedet.core import boxes as box_ops
from densedet.core.examples import (
    CLASSES,
    IMAGE_SIZE,
    STRIDES,
    example_batch,
    example_grid,
    example_targets,
    level_sizes,
)
from densedet.core.types import Branch, Detections, Fate, Prediction

Factory = Callable[..., Any]


class ConformanceError(AssertionError):
    """A part breaks its contract."""


def require(condition: object, message: str) -> None:
    """Raise ConformanceError with ``message`` unless ``condition``."""
    if not condition:
        raise ConformanceError(message)


def wire(factory: Factory, arguments: dict[str, Any], **wired: Any) -> Any:
    """Build a part the way the assembly does: wired values where the constructor names them."""
    names = inspect.signature(factory).parameters
    return factory(**{name: value for name, value in wired.items() if name in names}, **arguments)


def _check_gradients(part: nn.Module, output: Tensor, what: str) -> None:
    part.zero_grad()
    output.backward()
    idle = [name for name, p in part.named_parameters() if p.requires_grad and p.grad is None]
    require(not idle, f"{what}: {', '.join(idle[:3])} never get a gradient: build only what is used")


def _check_maps(part: Any, maps: list[Tensor], size: tuple[int, int], what: str) -> None:
    require(isinstance(maps, list), f"{what} must give a list of maps, gave {type(maps).__name__}")
    shapes = [tuple(m.shape) for m in maps]
    require(
        len(maps) == len(part.channels) == len(part.strides),
        f"{what}: {len(maps)} maps but channels={part.channels}, strides={part.strides}",
    )
    for shape, channels, stride in zip(shapes, part.channels, part.strides):
        require(
            shape[1] == channels,
            f"{what}: a map {shape} should have {channels} channels, as its `channels` says",
        )
        for cells, side in zip(shape[2:], size):
            # Half-way sizes may be rounded either way by each stage, and valid padding takes up to two cells.
            require(
                abs(cells - side / stride) <= 2.01,
                f"{what}: {cells} cells for {side} pixels at stride {stride} ({shape})",
            )
    require(
        list(part.strides) == sorted(part.strides),
        f"{what}: levels go from fine to coarse, strides={part.strides}",
    )


def check_backbone(
    factory: Factory,
    *,
    sizes: tuple[tuple[int, int], ...] = ((64, 96), (75, 101), (128, 64)),
    **arguments: Any,
) -> None:
    """Grey and colour, odd and non-square sizes, attributes before forward, a gradient for every
    parameter."""
    for channels in (1, 3):
        part = wire(factory, arguments, in_channels=channels)
        for name in ("channels", "strides", "mean", "std"):
            require(
                isinstance(getattr(part, name, None), tuple),
                f"a backbone has a tuple `{name}` before any forward",
            )
        require(
            len(part.mean) == len(part.std) == channels,
            f"mean and std need {channels} values for {channels} image channels",
        )
        part.train()
        for size in sizes:
            maps = part(torch.rand(2, channels, *size))
            _check_maps(part, maps, size, "the backbone")
        _check_gradients(part, torch.stack([m.mean() for m in maps]).sum(), "the backbone")


def check_neck(factory: Factory, **arguments: Any) -> None:
    """As `check_backbone`, on three maps of 16, 24 and 32 channels."""
    channels = (16, 24, 32)
    part = wire(factory, arguments, in_channels=channels, in_strides=STRIDES)
    for size in ((128, 192), (136, 72)):
        features = [
            torch.rand(2, c, -(-size[0] // s), -(-size[1] // s), requires_grad=True)
            for c, s in zip(channels, STRIDES)
        ]
        maps = part(list(features))
        _check_maps(part, maps, size, "the neck")
    total = torch.stack([m.float().mean() for m in maps]).sum()
    if any(p.requires_grad for p in part.parameters()):
        _check_gradients(part, total, "the neck")


def check_anchors(factory: Factory, **arguments: Any) -> None:
    """(h*w*A,4) per level, x2 > x1, in the order y, x, anchor."""
    part = wire(factory, arguments, strides=STRIDES)
    require(
        len(part.num_anchors) == len(STRIDES),
        f"num_anchors={part.num_anchors} should have one entry for each of {len(STRIDES)} levels",
    )
    sizes = level_sizes()
    levels = part(sizes, IMAGE_SIZE, "cpu")
    require(len(levels) == len(sizes), f"{len(levels)} levels of anchors for {len(sizes)} maps")
    for (height, width), count, boxes in zip(sizes, part.num_anchors, levels):
        require(
            boxes.shape == (height * width * count, 4),
            f"{height}x{width} cells with {count} anchors need {(height * width * count, 4)}, got "
            f"{tuple(boxes.shape)}",
        )
        require(boxes.dtype == torch.float32, f"anchors are float32, not {boxes.dtype}")
        require(bool((boxes[:, 2:] > boxes[:, :2]).all()), "an anchor has no area (x2 <= x1 or y2 <= y1)")
        centers = box_ops.centers(boxes).view(height, width, count, 2).mean(dim=2)
        require(
            bool((centers[:, 1:, 0] > centers[:, :-1, 0]).all()),
            "anchors are ordered y, x, anchor: x must grow along a row",
        )
        require(
            bool((centers[1:, :, 1] > centers[:-1, :, 1]).all()),
            "anchors are ordered y, x, anchor: y must grow from row to row",
        )


def check_head(factory: Factory, **arguments: Any) -> None:
    """Shapes, the anchors' order, gradients, the class bias, and every branch's loss, adjust and weight."""
    torch.manual_seed(0)
    anchors, classes, box_channels, bias = (2, 2, 2), CLASSES + 1, 4, -2.0
    part = wire(
        factory,
        arguments,
        in_channels=(16, 16, 16),
        in_strides=STRIDES,
        num_anchors=anchors,
        class_channels=classes,
        box_channels=box_channels,
        class_bias=bias,
    )
    part.train()
    sizes = [(6, 10), (3, 5), (2, 3)]
    features = [torch.randn(2, 16, *size) for size in sizes]
    prediction = part(features)
    require(
        isinstance(prediction, Prediction),
        f"a head returns densedet.core.types.Prediction, not {type(prediction).__name__}",
    )
    counts = [h * w * a for (h, w), a in zip(sizes, anchors)]
    groups = {"logits": (prediction.logits, classes), "box": (prediction.box, box_channels)}
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
    outputs = [
        *prediction.logits,
        *prediction.box,
        *(v for values in prediction.extra.values() for v in values),
    ]
    _check_gradients(part, torch.stack([o.float().sum() for o in outputs]).sum(), "the head")
    near = float(torch.cat([v.detach().flatten() for v in prediction.logits]).median())
    require(
        abs(near - bias) < 2.0,
        f"logits start around class_bias ({bias}), theirs are around {near:.2f}: initialise the class "
        f"bias with it",
    )
    _check_order(part, anchors)
    for name, branch in branches.items():
        _check_branch(name, branch, prediction, counts)


def _check_order(part: nn.Module, anchors: tuple[int, ...]) -> None:
    part.eval()
    height, width = 12, 20
    first = torch.randn(1, 16, height, width, requires_grad=True)
    logits = (
        part([first, torch.randn(1, 16, 6, 10), torch.randn(1, 16, 3, 5)])
        .logits[0]
        .view(height, width, anchors[0], -1)
    )
    rows, columns = torch.arange(height).view(-1, 1), torch.arange(width)
    for y, x in (
        (9, 4),
        (3, 15),
    ):  # away from the border and the diagonal, so that every other order ends up cells away
        for anchor in range(anchors[0]):
            (gradient,) = torch.autograd.grad(logits[y, x, anchor].sum(), first, retain_graph=True)
            require(bool(gradient.any()), "the logits of the first level do not depend on its features")
            share = (gradient / gradient.abs().amax()).square().sum(dim=(0, 1))
            share = share / share.sum()
            # The middle of what a cell listens to, not its peak: a wide kernel may weigh a neighbour most.
            at_y, at_x = float((share * rows).sum()), float((share * columns).sum())
            require(
                abs(at_y - y) < 2 and abs(at_x - x) < 2,
                f"the logits for cell (y {y}, x {x}) come from around (y {at_y:.0f}, x {at_x:.0f}): "
                f"outputs must be in the order "
                "y, x, anchor (use densedet.core.layers.flatten_cells)",
            )


def _check_branch(name: str, branch: Branch, prediction: Prediction, counts: list[int]) -> None:
    require(
        isinstance(branch, Branch),
        f"branches[{name!r}] is a densedet.core.types.Branch, not {type(branch).__name__}",
    )
    values = torch.cat(prediction.extra[name], dim=1).detach().requires_grad_()
    require(
        values.ndim == 3 and values.shape[:2] == (2, sum(counts)),
        f"extra[{name!r}] should be (B, h*w*A, E) per level, got {tuple(values.shape)}",
    )
    for positives in (True, False):
        targets = example_targets(counts, positives)
        loss = branch.loss(values, targets)
        require(
            loss.shape == (2, sum(counts)),
            f"branch {name!r}: loss gives (B,N)={(2, sum(counts))}, got {tuple(loss.shape)}",
        )
        require(bool(torch.isfinite(loss).all()), f"branch {name!r}: its loss is not finite")
        require(
            bool((loss[targets.matched_idxs == -2] == 0).all()),
            f"branch {name!r}: its loss must be 0 on ignored anchors",
        )
    loss.sum().backward()
    if branch.adjust is not None:
        scores = branch.adjust(torch.rand(2, sum(counts), CLASSES), values.detach())
        require(
            scores.shape == (2, sum(counts), CLASSES),
            f"branch {name!r}: adjust keeps (B,N,C), got {tuple(scores.shape)}",
        )
        require(bool(((scores >= 0) & (scores <= 1)).all()), f"branch {name!r}: adjusted scores stay in 0..1")
    if branch.weight is not None:
        weight = branch.weight(example_targets(counts))
        require(
            weight.shape == (2, sum(counts)) and bool((weight >= 0).all()),
            f"branch {name!r}: weight gives (B,N), not negative",
        )


def check_matcher(factory: Factory, **arguments: Any) -> None:
    """Empty images, padding, far-away objects, alphabets, and the same answer for an image alone and in a
    batch."""
    part = wire(factory, arguments, num_classes=CLASSES, strides=STRIDES)
    anchors, levels = example_grid()
    boxes = torch.tensor(
        [
            [[8.0, 8, 40, 40], [50, 10, 90, 60], [0, 0, 96, 64]],
            [[30, 20, 47, 37], [1e4, 1e4, 1e4 + 9, 1e4 + 9], [0, 0, 5, 5]],
        ]
    )
    labels = torch.tensor([[0, 1, 2], [1, 2, 0]])
    valid = torch.tensor([[True, True, False], [True, True, False]])
    uses = bool(getattr(part, "uses_predictions", None))
    require(
        getattr(part, "uses_predictions", None) in (True, False),
        "a matcher says whether it wants predictions: `uses_predictions = False`",
    )
    torch.manual_seed(0)
    predictions = (
        (torch.rand(2, len(anchors), CLASSES), anchors + torch.rand(2, len(anchors), 4)) if uses else None
    )

    def match(b: Tensor, la: Tensor, v: Tensor, p: Any = predictions) -> Any:
        return part(b, la, v, anchors, levels, p)

    answer = match(boxes, labels, valid)
    _check_assignment(answer, valid, len(anchors))
    require(
        not bool((answer.matched_idxs[1] == 1).any()),
        "an object that touches no anchor got one: force only where the IoU is above 0",
    )
    require(
        bool((answer.matched_idxs >= 0).any(dim=1).all()),
        "an ordinary object (32 px on strides 8-32) got no anchor at all",
    )
    for image in range(2):
        alone = match(
            boxes[image : image + 1],
            labels[image : image + 1],
            valid[image : image + 1],
            tuple(t[image : image + 1] for t in predictions) if predictions else None,
        )
        require(
            torch.equal(alone.matched_idxs[0], answer.matched_idxs[image]),
            "an image alone and in a batch must get the same assignment",
        )
    nothing = match(
        torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.bool)
    )
    require(
        bool((nothing.matched_idxs == -1).all()), "without objects (G = 0) every anchor is background, -1"
    )
    padding = match(boxes, labels, torch.zeros_like(valid))
    require(
        bool((padding.matched_idxs == -1).all()),
        "slots with valid=False are no objects: every anchor is background, -1",
    )


def _check_assignment(answer: Any, valid: Tensor, count: int) -> None:
    index, quality = answer
    require(
        index.dtype == torch.int64 and index.shape == (2, count),
        f"index is int64 (B,N)={(2, count)}, got {index.dtype} {tuple(index.shape)}",
    )
    require(
        int(index.min()) >= -2 and int(index.max()) < valid.shape[1],
        "index holds slots, -1 (background) or -2 (ignore)",
    )
    matched = index.clamp(min=0)
    require(bool(valid.gather(1, matched)[index >= 0].all()), "a slot with valid=False got an anchor")
    if quality is not None:
        require(quality.shape == index.shape and quality.dtype == torch.float32, "quality is float32 (B,N)")
        require(bool(((quality >= 0) & (quality <= 1 + 1e-6)).all()), "quality lies in 0..1")
        require(bool((quality[index < 0] == 0).all()), "quality is 0 off the positives")


def check_coder(factory: Factory, **arguments: Any) -> None:
    """Shapes, broadcasting, finite numbers wherever the anchor lies, boxes that stay boxes."""
    part = wire(factory, arguments, num_classes=CLASSES, strides=STRIDES)
    anchors, _ = example_grid()
    boxes = anchors.flip(0)
    target = part.encode(boxes, anchors)
    require(target.shape == anchors.shape, f"encode gives (...,4), got {tuple(target.shape)}")
    require(
        bool(torch.isfinite(target).all()), "encode must be finite for every anchor, inside the box or not"
    )
    empty = anchors.clone()
    empty[:, 2:] = empty[:, :2]
    require(
        bool(torch.isfinite(part.encode(empty, anchors)).all()),
        "encode must be finite for a box without area",
    )
    require(
        part.box_channels >= 4 and set(part.spaces) <= {"boxes", "deltas", "bins"} and part.spaces,
        "spaces: of boxes, deltas, bins",
    )
    for shape in ((len(anchors),), (2, len(anchors))):
        raw = torch.randn(*shape, part.box_channels, requires_grad=True)
        decoded = part.decode(raw, anchors)
        require(
            decoded.shape == (*shape, 4),
            f"decode broadcasts anchors over {shape}: expected {(*shape, 4)}, got {tuple(decoded.shape)}",
        )
        require(bool((decoded[..., 2:] >= decoded[..., :2]).all()), "decode gives x2 >= x1, y2 >= y1")
        require(part.deltas(raw).shape == (*shape, 4), "deltas(raw) gives (...,4)")
        decoded.sum().backward()
        require(
            raw.grad is not None and bool(torch.isfinite(raw.grad).all()), "decode's gradient must be finite"
        )
    none = part.decode(torch.zeros(0, part.box_channels), anchors[:0])
    require(none.shape == (0, 4), "decode takes no anchors at all (P = 0)")


def check_class_loss(factory: Factory, **arguments: Any) -> None:
    """(B,N), exactly 0 where ignored, finite at extreme logits, scores in 0..1, images without objects."""
    part = wire(factory, arguments, num_classes=CLASSES)
    require(part.background_channel in ("none", "first", "last"), "background_channel is none, first or last")
    require(part.quality in ("unused", "optional", "required"), "quality is unused, optional or required")
    require(math.isfinite(float(part.initial_bias)), "initial_bias is a finite number")
    channels = CLASSES + (part.background_channel != "none")
    torch.manual_seed(0)
    labels = torch.full((2, 12), CLASSES)
    labels[0, :3], labels[:, -1] = torch.arange(3), -1
    quality = (labels < CLASSES) * (labels >= 0) * 0.6
    for scale in (1.0, 100.0):
        logits = (torch.randn(2, 12, channels) * scale).requires_grad_()
        loss = part(logits, labels, None if part.quality == "unused" else quality)
        require(
            loss.shape == (2, 12),
            f"a class loss keeps (B,N), got {tuple(loss.shape)}: sum over channels only",
        )
        require(
            bool(torch.isfinite(loss).all()) and bool((loss >= 0).all()),
            f"the loss is negative or not finite at logits of scale {scale:g}",
        )
        require(bool((loss[:, -1] == 0).all()), "the loss is exactly 0 where the label is -1")
        loss.sum().backward()
        require(
            logits.grad is not None and bool(torch.isfinite(logits.grad).all()),
            f"the gradient is not finite at logits of scale {scale:g}",
        )
        require(
            logits.grad is not None and bool((logits.grad[:, -1] == 0).all()),
            "an ignored anchor gets no gradient",
        )
        scores = part.scores(logits.detach())
        require(
            scores.shape == (2, 12, CLASSES),
            f"scores gives (B,N,C) without background, got {tuple(scores.shape)}",
        )
        require(bool(((scores >= 0) & (scores <= 1)).all()), "scores lie in 0..1")
    negatives = part(
        torch.zeros(2, 12, channels),
        torch.full((2, 12), CLASSES),
        None if part.quality == "unused" else torch.zeros(2, 12),
    )
    require(
        float(negatives.sum()) > 0,
        "images without objects must teach too: their loss is 0 (3:1 of no positives is none; keep a floor)",
    )


def check_box_loss(factory: Factory, **arguments: Any) -> None:
    """(P,), least where prediction and target agree, finite without area, P = 0."""
    part = wire(factory, arguments)
    require(part.space in ("boxes", "deltas", "bins"), "space is boxes, deltas or bins")
    target = torch.tensor([[2.0, 3.0, 7.0, 9.0], [1.0, 1.0, 4.0, 5.0]])
    if part.space == "bins":
        sharp = torch.full((2, 4, 17), -20.0)
        sharp.scatter_(2, target.long().clamp(max=16).unsqueeze(-1), 20.0)
        perfect, wrong, empty = sharp.view(2, -1), torch.zeros(2, 68), torch.zeros(0, 68)
    else:
        perfect, wrong, empty = target.clone(), target + 1.5, torch.zeros(0, 4)
    wrong.requires_grad_()
    at_best, at_worse = part(perfect, target), part(wrong, target)
    require(
        at_worse.shape == (2,), f"a box loss gives (P,), got {tuple(at_worse.shape)}: sum over coordinates"
    )
    require(bool((at_worse > at_best).all()), "the loss must be smaller where prediction and target agree")
    at_worse.sum().backward()
    require(wrong.grad is not None and bool(torch.isfinite(wrong.grad).all()), "its gradient is not finite")
    require(part(empty, torch.zeros(0, 4)).shape == (0,), "P = 0 gives (0,)")
    if part.space == "boxes":
        point = torch.full((1, 4), 5.0, requires_grad=True)
        loss = part(point, torch.full((1, 4), 5.0))
        loss.sum().backward()
        require(
            bool(torch.isfinite(loss).all())
            and point.grad is not None
            and bool(torch.isfinite(point.grad).all()),
            "boxes without area give NaN",
        )


def check_postprocess(factory: Factory, **arguments: Any) -> None:
    """Sorted, clipped, finite; nothing found; the trace names each candidate's fate."""
    part = wire(factory, arguments, num_classes=CLASSES, strides=STRIDES)
    anchors, levels = example_grid()
    torch.manual_seed(0)
    scores, sizes = torch.rand(2, len(anchors), CLASSES), torch.tensor([[64, 96], [40, 50]])
    boxes = (anchors + torch.randn(2, len(anchors), 4)).clone()
    trace: dict[str, Any] = {}
    found = part(scores, boxes, levels, sizes, trace)
    require(len(found) == 2 and all(isinstance(d, Detections) for d in found), "one Detections an image")
    for detections, (height, width) in zip(found, sizes.tolist()):
        require(bool((detections.scores[:-1] >= detections.scores[1:]).all()), "detections come best first")
        limit = torch.tensor([width, height, width, height])
        require(
            bool(((detections.boxes >= 0) & (detections.boxes <= limit)).all()),
            "boxes are clipped to the image's valid size",
        )
        require(
            detections.labels.dtype == torch.int64 and bool((detections.labels < CLASSES).all()),
            "labels are int64, 0..C-1",
        )
        require(
            len(detections.boxes)
            == len(detections.scores)
            == len(detections.labels)
            == len(detections.anchors),
            "fields of equal length",
        )
    require(
        len(part(torch.zeros_like(scores), boxes, levels, sizes)[0]) == 0, "scores of 0 give no detections"
    )
    fate: Any = trace.get("fate")
    require(
        isinstance(fate, list) and len(fate) == 2 and all(f.shape == (len(anchors), CLASSES) for f in fate),
        "trace['fate'] holds an (N,C) tensor an image",
    )
    kept = int((fate[0] == Fate.KEPT).sum())
    require(
        kept == len(found[0]),
        f"the trace says {kept} candidates were kept, there are {len(found[0])} detections",
    )


def check_source(factory: Factory, **arguments: Any) -> None:
    """Tables, boxes, images, pickling. Arguments: a small data set's (root too, if it needs one)."""
    from densedet.core.data.decoding import decode
    from densedet.core.placement import Placement

    part = factory(**arguments)
    require(len(part) > 0, "the source has no images")
    require(
        len(part.classes) == len(part.category_ids) == len(set(part.classes)),
        "classes and category_ids: one id a class, names unique",
    )
    copy = pickle.loads(pickle.dumps(part))
    require(copy.fingerprint() == part.fingerprint(), "a pickled copy must have the same fingerprint")
    for index in {0, len(part) // 2, len(part) - 1}:
        truth, again = part.annotation(index), copy.annotation(index)
        count = len(truth.boxes)
        require(
            truth.boxes.shape == (count, 4) and truth.boxes.dtype == torch.float32, "boxes are float32 (G,4)"
        )
        require(bool((truth.boxes[:, 2:] > truth.boxes[:, :2]).all()), "boxes are xyxy with x2 > x1, y2 > y1")
        for name in ("labels", "ignore", "crowd", "area"):
            require(
                len(getattr(truth, name)) == count,
                f"{name} has {len(getattr(truth, name))} entries for {count} boxes",
            )
        require(
            bool(((truth.labels >= -1) & (truth.labels < len(part.classes))).all()),
            "labels are 0..C-1, or -1",
        )
        require(torch.equal(truth.boxes, again.boxes), "a pickled copy must give the same boxes")
        _, size = decode(part.image(index), color="rgb", placement_of=lambda w, h: Placement(8, 8, (8, 8)))
        require(
            size == (truth.width, truth.height),
            f"the image is {size}, its annotation says {(truth.width, truth.height)}",
        )


def check_batch_transform(factory: Factory, **arguments: Any) -> None:
    """Shapes and alphabets stay, boxes stay in their images, random numbers come from the generator alone, no
    objects."""
    part = wire(factory, arguments, size_wh=(IMAGE_SIZE[1], IMAGE_SIZE[0]))
    for channels, objects in ((1, 2), (3, 2), (3, 0)):
        batch = example_batch(channels, objects)
        state = torch.get_rng_state()
        first, second = (
            part(example_batch(channels, objects), torch.Generator().manual_seed(3)) for _ in range(2)
        )
        require(
            torch.equal(torch.get_rng_state(), state),
            "random numbers come from the generator alone, the global state moved",
        )
        require(
            torch.equal(first.images, second.images) and torch.equal(first.boxes, second.boxes),
            "the same generator must give the same batch",
        )
        require(
            first.images.dtype == torch.uint8 and first.images.shape[:2] == batch.images.shape[:2],
            "images stay uint8 (B,ch,H,W)",
        )
        live = first.boxes[first.valid]
        require(bool((live[:, 2:] > live[:, :2]).all()), "a valid box has no area: drop it")
        limit = first.valid_hw.flip(1).repeat(1, 2).unsqueeze(1).expand_as(first.boxes)[first.valid]
        require(
            bool(((live >= -1e-3) & (live <= limit + 1e-3)).all()), "a valid box leaves its image: clip it"
        )


def check_resize(factory: Factory, **arguments: Any) -> None:
    """A placement that lies on its canvas_wh, for any source size."""
    part = wire(factory, arguments, size_wh=(96, 64))
    for width, height in ((640, 480), (48, 64), (96, 64), (1000, 10), (1, 1)):
        placement = part(width, height)
        canvas_width, canvas_height = placement.canvas_wh
        require(
            1 <= placement.width <= canvas_width and 1 <= placement.height <= canvas_height,
            f"{width}x{height} is placed as {placement}, off its canvas_wh",
        )


def check_schedule(factory: Factory, **arguments: Any) -> None:
    """Stateless, not negative, 1 at most after the warm-up."""
    part = wire(factory, arguments)
    table = [(f / 20, 50 * f) for f in range(21)]
    first = [part(*row) for row in table]
    require(
        first == [part(*row) for row in reversed(table)][::-1],
        "a schedule is a function of progress: asked in another order it answered differently",
    )
    require(all(0 <= value <= 1 for value in first), f"factors lie in 0..1: {first}")


def check_detector(factory: Factory, **arguments: Any) -> None:
    """Losses finite, connected, for every parameter; predictions for every image; images without objects.
    Arguments: built parts too."""
    part = wire(factory, arguments, num_classes=CLASSES)
    for objects in (2, 0):
        batch = example_batch(objects=objects)
        losses = part.train().losses(batch)
        require(
            losses and all(v.ndim == 0 and bool(torch.isfinite(v)) for v in losses.values()),
            f"losses are finite scalars by name, got {losses}",
        )
        _check_gradients(part, torch.stack(list(losses.values())).sum(), "the detector")
        require(
            set(part(batch)) == set(losses),
            "forward(batch) is losses(batch): DistributedDataParallel wraps forward",
        )
        found = part.eval().predict(batch)
        require(
            len(found) == 2 and all(isinstance(d, Detections) for d in found),
            "predict gives one Detections an image",
        )
