"""Resizes, and transforms of samples and of batches: do boxes go where the pixels go?

Objects are painted into an image one after the other; the difference of two images that went the same way,
one with the object and one without, is where the object went.
"""

from __future__ import annotations

import random
import warnings
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from densedet.core.conformance.requirements import (
    ConformanceError,
    Factory,
    check,
    finite,
    random_states,
    require,
    same,
    wire,
)
from densedet.core.examples import example_batch
from densedet.core.placement import Placement
from densedet.core.types import Batch, Extra

SIZE = (96, 128)
"""(height, width) of the painted images."""
BOXES = ((10.0, 16.0, 46.0, 40.0), (70.0, 44.0, 114.0, 84.0))
LABELS, IGNORE = (2, 0), (False, True)
SEEDS = 6


@check("resize")
def check_resize(factory: Factory, **arguments: Any) -> None:
    """Check that a placement lies on its canvas, for any source size, that a landscape image stays one, and
    that boxes find back to the source.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    part = wire(factory, arguments, size_wh=(96, 64))
    sizes = ((640, 480), (48, 64), (96, 64), (1000, 10), (1, 1), (64, 1000))
    given = [part(*size) for size in sizes]
    require(
        given == [part(*size) for size in reversed(sizes)][::-1],
        "a resize depends on the size alone: asked in another order it gave other placements",
    )
    for (width, height), placement in zip(sizes, given):
        require(
            isinstance(placement, Placement),
            f"a resize gives a densedet.core.placement.Placement, not {type(placement).__name__}",
        )
        numbers = (placement.width, placement.height, *placement.canvas_wh)
        require(all(isinstance(n, int) for n in numbers), f"a placement is in whole pixels, not {numbers}")
        canvas_width, canvas_height = placement.canvas_wh
        require(
            1 <= placement.width <= canvas_width and 1 <= placement.height <= canvas_height,
            f"{width}x{height} is placed as {placement}, off its canvas_wh",
        )
        box = torch.tensor([[0.0, 0.0, width, height], [width / 4, 0.0, width / 2, height / 3]])
        x, y, left, top = placement.to_source((width, height))
        moved = placement.boxes_to_input(box, (width, height))
        back = moved * torch.tensor([x, y, x, y]) + torch.tensor([left, top, left, top])
        require(same(back, box, 1e-3), "boxes_to_input and to_source are not inverse: boxes do not find back")
    wide = part(960, 640)
    require(
        wide.width >= wide.height and wide.canvas_wh[0] >= wide.canvas_wh[1],
        f"with size_wh (96, 64), an image of 960x640 becomes {wide.width}x{wide.height} on {wide.canvas_wh}: "
        f"sizes are (width, height)",
    )


def painted(objects: tuple[int, ...], channels: int = 3, strength: float = 1.0) -> Tensor:
    """uint8 (channels, *SIZE): a grey texture over the whole range of pixels, with these of BOXES on it."""
    generator = torch.Generator().manual_seed(5)
    image = torch.randint(60, 110, (1, *SIZE), generator=generator).repeat(channels, 1, 1)
    image[:, ::16, ::16], image[:, 8::16, 8::16] = 0, 255
    for index in objects:
        x1, y1, x2, y2 = (int(v) for v in BOXES[index])
        image[:, y1:y2, x1:x2] = int(60 + 150 * strength)
    return image.to(torch.uint8)


def where_it_went(with_it: Tensor, without: Tensor) -> Tensor:
    """bool (h,w): pixels in which two images (ch,h,w) differ about as much as they differ at most."""
    difference = (with_it.float() - without.float()).abs().amax(0)
    return difference > max(0.5 * float(difference.max()), 20.0 if with_it.amax() > 2 else 0.08)


def inside(mask: Tensor, box: Tensor, margin: float = 3.0) -> float:
    """Share of a mask's pixels (h,w) whose middle lies in a box (4,), grown by a margin in pixels."""
    y, x = mask.nonzero(as_tuple=True)
    x1, y1, x2, y2 = (box + torch.tensor([-margin, -margin, margin, margin])).tolist()
    held = (x + 0.5 > x1) & (x + 0.5 < x2) & (y + 0.5 > y1) & (y + 0.5 < y2)
    return float(held.float().mean()) if len(x) else 1.0


def filled(mask: Tensor, box: Tensor) -> float:
    """Share of a box (4,), cut to the image, that the bounding box of a mask (h,w) takes."""
    y, x = mask.nonzero(as_tuple=True)
    height, width = mask.shape
    left, top = max(float(box[0]), 0.0), max(float(box[1]), 0.0)
    right, bottom = min(float(box[2]), width), min(float(box[3]), height)
    if right <= left or bottom <= top:
        return 1.0
    if not len(x):
        return 0.0
    across = min(right, float(x.max()) + 1) - max(left, float(x.min()))
    down = min(bottom, float(y.max()) + 1) - max(top, float(y.min()))
    return max(across, 0.0) * max(down, 0.0) / ((right - left) * (bottom - top))


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 1.0


def _sample(image: Tensor, boxes: Tensor) -> tuple[Any, dict[str, Any]]:
    count = len(boxes)
    canvas = (image.shape[-2], image.shape[-1])
    held = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=canvas)  # type: ignore[call-overload]
    target = {"boxes": held, "labels": torch.tensor(LABELS)[:count], "ignore": torch.tensor(IGNORE)[:count]}
    return tv_tensors.Image(image), target


@check("transform")
def check_transform(factory: Factory, **arguments: Any) -> None:
    """Check that boxes, labels and ignore go with the pixels, that dtype and channels stay, that random
    numbers come from torch's generator alone, and that inputs stay as they are; images without objects.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    part = wire(factory, arguments)
    pictures = [painted((0, 1)), painted((0, 1)).float(), painted((0, 1), 1), painted((0, 1), 1).float()]
    usable, last = [], None
    for picture in pictures:
        try:
            _check_kind(_run(part, picture, torch.tensor(BOXES), 0)[0], picture)
            usable.append(picture)
        except (TypeError, ValueError, _Unfit) as error:
            last = error  # some work on one dtype, or on colour alone
    if last is not None and not usable:
        raise last
    for picture in usable:
        _check_sample(part, picture, SEEDS if picture is usable[0] else 1)


def _run(part: Any, image: Tensor, boxes: Tensor, seed: int) -> tuple[Tensor, dict[str, Any]]:
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    given = _sample(image.clone(), boxes.clone())
    result = part(*given)
    require(
        isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict),
        "a transform gives (image, target)",
    )
    require(
        torch.equal(given[0].as_subclass(Tensor), image)
        and same(given[1]["boxes"].as_subclass(Tensor), boxes),
        "a transform changes its input in place: the image may lie in a cache",
    )
    return result  # type: ignore[no-any-return]


def _check_sample(part: Any, picture: Tensor, seeds: int) -> None:
    boxes, channels = torch.tensor(BOXES), len(picture)
    covered: dict[int, list[float]] = {0: [], 1: []}
    tight: dict[int, list[float]] = {0: [], 1: []}
    for seed in range(seeds):
        image, target = _run(part, picture, boxes, seed)
        _check_target(image, target, picture)
        random.seed(100 + seed)
        np.random.seed(100 + seed)
        torch.default_generator.manual_seed(seed)
        again = part(*_sample(picture.clone(), boxes.clone()))
        require(
            same(again, (image, target)),
            "a transform draws from numpy's or Python's generator, or keeps a state: use torch's alone",
        )
        for index in (0, 1) if seeds > 1 else ():
            without, _ = _run(part, painted((1 - index,), channels).to(picture.dtype), boxes, seed)
            mask = where_it_went(image.as_subclass(Tensor), without.as_subclass(Tensor))
            own = [
                b for b, label, ignore in _rows(target) if (label, ignore) == (LABELS[index], IGNORE[index])
            ]
            if own and bool(mask.any()):
                covered[index].append(max(inside(mask, box) for box in own))
                tight[index].append(max(filled(mask, box) for box in own))
    kept = sum(map(len, covered.values()))
    require(
        kept or seeds == 1,
        f"in {seeds} tries no object is both kept and to be seen: it is lost, or only its box is left",
    )
    for index in (0, 1):
        require(
            _median(covered[index]) > 0.8 and _median(tight[index]) > 0.3,
            f"boxes do not go with the pixels: of the object with label {LABELS[index]} and ignore "
            f"{IGNORE[index]}, {_median(covered[index]):.0%} of the pixels lie in its box and fill "
            f"{_median(tight[index]):.0%} of it",
        )
    image, target = _run(part, picture, torch.zeros(0, 4), 0)
    _check_target(image, target, picture)


class _Unfit(ConformanceError):
    """Dtype or channels of an image changed."""


def _check_kind(image: Any, picture: Tensor) -> None:
    if image.dtype != picture.dtype or image.ndim != 3 or len(image) != len(picture):
        raise _Unfit(
            f"dtype and channels must stay: {picture.dtype} of {len(picture)} channels became {image.dtype} "
            f"{tuple(image.shape)}"
        )
    if picture.amax() > 2 and image.is_floating_point() and image.amax() <= 2:
        raise _Unfit("pixels stay in 0..255, whatever their dtype: scaling is the detector's work")


def _rows(target: dict[str, Any]) -> list[tuple[Tensor, int, bool]]:
    boxes = target["boxes"].as_subclass(Tensor)
    return list(zip(boxes, target["labels"].tolist(), target["ignore"].tolist()))


def _check_target(image: Any, target: dict[str, Any], picture: Tensor) -> None:
    require(
        {"boxes", "labels", "ignore"} <= set(target),
        f"a target keeps boxes, labels and ignore: {sorted(target)}",
    )
    boxes, labels, ignore = target["boxes"], target["labels"], target["ignore"]
    require(
        len(boxes) == len(labels) == len(ignore),
        "boxes, labels and ignore are kept or dropped all three together",
    )
    _check_kind(image, picture)
    require(finite(image, boxes), "an image or box holds NaN or infinity")
    require(
        isinstance(boxes, tv_tensors.BoundingBoxes)
        and boxes.canvas_size == tuple(image.shape[-2:])
        and boxes.format is tv_tensors.BoundingBoxFormat.XYXY,
        "boxes stay tv_tensors.BoundingBoxes, XYXY, on a canvas of the image's size: otherwise later "
        "transforms do not move them",
    )
    require(labels.dtype == torch.int64 and ignore.dtype == torch.bool, "labels are int64 and ignore is bool")
    # An object of which little is left may become ignored, never the other way round.
    counted = {label for label, ignored in zip(labels.tolist(), ignore.tolist()) if not ignored}
    require(LABELS[1] not in counted, "an object with ignore True is no longer ignored")
    require(set(labels.tolist()) <= {*LABELS, -1}, f"labels {labels.tolist()} were none of the input's")


def _painted_batch(skip: int | None, channels: int) -> Batch:
    """Two images with an object each at the same place and one elsewhere, labels 0..3; ``skip`` is not
    painted."""
    rows = [[index for index in (0, 1) if 2 * image + index != skip] for image in (0, 1)]
    batch = example_batch(channels, 2, SIZE)
    return replace(
        batch,
        images=torch.stack([painted(tuple(row), channels) for row in rows]),
        valid_hw=torch.tensor([SIZE, (SIZE[0] - 8, SIZE[1] - 12)]),
        boxes=torch.tensor([[*BOXES, (0.0, 0.0, 0.0, 0.0)]] * 2),
        labels=torch.tensor([[0, 1, -1], [2, 3, -1]]),  # the last slots are empty
        valid=torch.tensor([[True, True, False]] * 2),
        ignore=torch.tensor([[False, False, False], [False, True, False]]),
    )


@check("batch_transform")
def check_batch_transform(factory: Factory, **arguments: Any) -> None:
    """Check that boxes, labels and ignore go with the pixels within each image's valid size and extras with
    their objects, that shapes and alphabets stay, that random numbers come from the generator alone, and that
    inputs stay as they are; images without objects.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    part = wire(factory, arguments, size_wh=SIZE[::-1])
    for channels in (1, 3):
        _check_batch(part, partial(_painted_batch, None, channels))
        _check_batch(part, partial(example_batch, channels, 0, SIZE))
    covered: dict[int, list[float]] = {label: [] for label in range(4)}
    filling: dict[int, list[float]] = {label: [] for label in range(4)}
    for seed in range(SEEDS):
        whole = part(_painted_batch(None, 3), torch.Generator().manual_seed(seed))
        for label in range(4):
            without = part(_painted_batch(label, 3), torch.Generator().manual_seed(seed))
            _compare(whole, without, label, covered[label], filling[label])
    for label in range(4):
        require(
            _median(covered[label]) > 0.7 and _median(filling[label]) > 0.3,
            f"boxes do not go with the pixels: of the object with label {label}, "
            f"{_median(covered[label]):.0%} of the pixels lie in its boxes and fill "
            f"{_median(filling[label]):.0%} of them",
        )
    for seed in range(SEEDS):
        before = _carrying_batch()
        after = part(before, torch.Generator().manual_seed(seed))
        if not same(after.boxes, before.boxes) and same(after.extra, before.extra):
            # Legal where objects carry nothing, which is what most recipes have.
            warnings.warn(f"{CARRIES_NOTHING}: move them by densedet.core.extras.moved_extra", stacklevel=2)
            break
        _check_extras(after)


CARRIES_NOTHING = "this batch transform leaves Batch.extra alone, so it does not suit objects with extras"


def _carrying_batch() -> Batch:
    """The painted batch, whose objects carry their label and a keypoint in the middle of their box."""
    batch = _painted_batch(None, 3)
    middle = (batch.boxes[..., :2] + batch.boxes[..., 2:]) / 2
    return replace(
        batch,
        extras={"label": Extra(), "middle": Extra((1, 3), "keypoints")},
        extra={
            "label": batch.labels.clone(),
            "middle": torch.cat([middle, torch.ones_like(middle[..., :1])], dim=-1)[:, :, None],
        },
        extra_known={"label": batch.valid.clone(), "middle": batch.valid.clone()},
    )


def _check_extras(batch: Batch) -> None:
    slots = batch.valid.shape
    shapes = [batch.extra[name].shape[:2] for name in batch.extras] if batch.extra else []
    require(
        len(shapes) == 2 and all(shape == slots for shape in shapes),
        "Batch.extra goes with the objects: one value for each slot",
    )
    known = batch.extra_known["label"]
    require(known.shape == slots and not bool((known & ~batch.valid).any()), "an empty slot carries nothing")
    held = known & (batch.labels >= 0)
    require(
        torch.equal(batch.extra["label"][held], batch.labels[held]),
        "Batch.extra goes with the objects: an object carries the value of another",
    )
    limit = batch.valid_hw.flip(1).repeat(1, 2)[:, None]
    whole = batch.valid & (batch.boxes > 0).all(-1) & (batch.boxes < limit).all(-1)
    middle = (batch.boxes[..., :2] + batch.boxes[..., 2:]) / 2
    side = (batch.boxes[..., 2:] - batch.boxes[..., :2]).amax(-1)
    off = (batch.extra["middle"][:, :, 0, :2] - middle).norm(dim=-1)
    require(
        bool((off <= 0.2 * side)[whole].all()),
        "keypoints do not go with their boxes: move them by densedet.core.extras.moved_extra",
    )


def _compare(whole: Batch, without: Batch, label: int, covered: list[float], filling: list[float]) -> None:
    for row in range(len(whole)):
        mask = where_it_went(whole.images[row], without.images[row])
        kept = whole.valid[row] & (whole.labels[row] == label)
        own = whole.boxes[row][kept]
        if label == 3:
            require(bool(whole.ignore[row][kept].all()), "an ignored object is no longer ignored")
        if len(own) and bool(mask.any()):
            # Several copies (a mosaic's) lie each in a box of its own.
            held = torch.zeros_like(mask)
            for x1, y1, x2, y2 in own.tolist():
                held[max(int(y1) - 3, 0) : int(y2) + 4, max(int(x1) - 3, 0) : int(x2) + 4] = True
            covered.append(float((mask & held).sum() / mask.sum()))
            filling.append(_median([filled(mask, box) for box in own]))
        elif len(own):
            filling.append(0.0)


def _check_batch(part: Any, make: Any) -> None:
    before, given = make(), make()
    random.seed(1)
    np.random.seed(1)
    state = random_states()
    first = part(given, torch.Generator().manual_seed(3))
    require(random_states() == state, "random numbers come from the generator alone, the global state moved")
    require(same(before, given), "a batch transform changes its input in place: work on a copy")
    second = part(make(), torch.Generator().manual_seed(3))
    require(same(first, second), "the same generator must give the same batch")
    require(
        first.images.dtype == torch.uint8 and first.images.shape[:2] == before.images.shape[:2],
        f"images stay uint8 (B,ch,H,W), they became {first.images.dtype} {tuple(first.images.shape)}",
    )
    slots = first.valid.shape
    require(
        first.boxes.shape == (*slots, 4) and first.labels.shape == first.ignore.shape == slots,
        "boxes (B,G,4), labels, valid and ignore (B,G) belong together",
    )
    require(
        first.boxes.dtype == torch.float32 and first.labels.dtype == torch.int64,
        "boxes are float32, labels int64",
    )
    require(first.valid.dtype == first.ignore.dtype == torch.bool, "valid and ignore are bool")
    require(
        first.image_ids == before.image_ids and torch.equal(first.indices, before.indices),
        "image ids and indices stay",
    )
    size = torch.tensor(first.images.shape[-2:])
    require(
        bool(((first.valid_hw >= 1) & (first.valid_hw <= size)).all()),
        "valid_hw leaves the tensor of the images",
    )
    live = first.boxes[first.valid]
    require(finite(live), "a valid box holds NaN or infinity")
    require(bool((live[:, 2:] > live[:, :2]).all()), "a valid box has no area: drop it")
    limit = first.valid_hw.flip(1).repeat(1, 2).unsqueeze(1).expand_as(first.boxes)[first.valid]
    require(bool(((live >= -1e-3) & (live <= limit + 1e-3)).all()), "a valid box leaves its image: clip it")
    allowed = {*before.labels[before.valid].tolist(), -1}
    require(set(first.labels[first.valid].tolist()) <= allowed, "labels are none of the input's")
