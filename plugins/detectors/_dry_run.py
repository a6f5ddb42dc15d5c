"""The dense detector's dry run: a forward pass on the meta device while a recipe loads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from densedet.core.contracts import Backbone, Neck
from densedet.core.errors import PartError, author_place
from densedet.core.types import Branch, Level, Prediction, Targets

if TYPE_CHECKING:
    from densedet.plugins.detectors.dense import DenseDetector


def dry_run(detector: DenseDetector, channels: int, image_hw: tuple[int, int]) -> None:
    """Run the network on shapes alone. Raises PartError, naming the part, where parts do not fit together."""
    state, features, where = _features(detector, channels, image_hw)
    prediction = _forward(detector.head, "head", state, features, f"maps {shapes(features)} of {where}")
    _check_predictions(detector, prediction, features, image_hw)


def map_sizes(detector: DenseDetector, channels: int, image_hw: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (height, width) in cells of each level for images of (height, width), without computing
    numbers."""
    _, features, _ = _features(detector, channels, image_hw)
    return [(feature.shape[-2], feature.shape[-1]) for feature in features]


def _features(
    detector: DenseDetector, channels: int, image_hw: tuple[int, int]
) -> tuple[dict[str, Tensor], list[Tensor], str]:
    """Run backbone and neck on the meta device. Returns the detector's state there, the maps, and the images
    in words."""
    named = (*detector.named_parameters(), *detector.named_buffers())
    state = {name: value.to("meta") for name, value in named}
    images = torch.empty(2, channels, *image_hw, device="meta")
    where = f"{image_hw[1]}x{image_hw[0]} images"
    features = _forward(detector.backbone, "backbone", state, images, where)
    _check_maps("backbone", features, detector.backbone, image_hw)
    if detector.neck is not None:
        where_maps = f"the backbone's maps {shapes(features)} of {where}"
        features = _forward(detector.neck, "neck", state, features, where_maps)
        _check_maps("neck", features, detector.neck, image_hw)
    return state, features, where


class _ShapesOfNorms(TorchFunctionMode):
    """Give a batch norm's input as its output: on the meta device torch composes the norm of twenty Python
    functions, which take longer than all other layers together."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is functional.batch_norm:
            maps, *values = args  # mean and variance
            values += [(kwargs or {}).get(name) for name in ("weight", "bias")]
            if all(value is None or value.shape == maps.shape[1:2] for value in values):
                return maps
        return function(*args, **(kwargs or {}))


def shapes(features: list[Tensor]) -> str:
    """Return '32x16, 16x8': widths and heights, for messages."""
    return ", ".join(f"{f.shape[-1]}x{f.shape[-2]}" for f in features)


def _forward(part: Any, kind: str, state: dict[str, Tensor], given: Any, where: str) -> Any:
    """Run a part with its parameters on the meta device; ``given`` is its input, ``where`` names that."""
    own = {
        name.removeprefix(f"{kind}."): value for name, value in state.items() if name.startswith(f"{kind}.")
    }
    training = part.training
    try:
        part.eval()
        with torch.no_grad(), _ShapesOfNorms():
            return torch.func.functional_call(part, own, (given,))
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        place = author_place(error)
        if not place and "size" in reason.lower():
            place = " (the image is probably too small for this many stages)"
        raise PartError(f"the {kind} cannot take {where}: {reason}{place}", part=kind) from error
    finally:
        part.train(training)


ROUNDING = 2.01
"""Cells by which a map may miss side / stride: each stage may round either way, and valid padding takes up to
two cells."""
FEW = 6
"""A map of which fewer cells are expected may be much smaller: SSD300's last stages take two cells each."""


def _check_maps(kind: str, features: list[Tensor], part: Backbone | Neck, image_hw: tuple[int, int]) -> None:
    given = tuple(f.shape[1] for f in features)
    if given != tuple(part.channels) or len(part.strides) != len(features):
        raise PartError(
            f"the {kind} gives maps of {given} channels but declares channels={tuple(part.channels)}, "
            f"strides={tuple(part.strides)}",
            part=kind,
        )
    for level, feature in enumerate(features):
        if 0 in feature.shape[-2:]:
            side = max(part.strides)
            raise PartError(
                f"level {level} (stride {part.strides[level]}) has no cells: images need sides of "
                f"at least {side} pixels",
                part=kind,
            )
        stride = part.strides[level]
        for cells, pixels in zip(feature.shape[-2:], image_hw):
            expected = pixels / stride
            if cells - expected > ROUNDING or (expected >= FEW and expected - cells > ROUNDING):
                raise PartError(
                    f"level {level} of the {kind} has {cells} cells for {pixels} pixels, but declares a "
                    f"stride of {stride}: its strides {tuple(part.strides)} are not those of its maps",
                    part=kind,
                )


def _check_predictions(
    detector: DenseDetector, prediction: Prediction, features: list[Tensor], image_hw: tuple[int, int]
) -> None:
    counts = tuple(detector.anchors.num_anchors)
    if len(counts) != len(features):
        raise PartError(
            f"the anchors are for {len(counts)} levels but the features have {len(features)}",
            part="anchors",
        )
    sizes = [(f.shape[-2], f.shape[-1]) for f in features]
    per_level = detector.anchors(sizes, image_hw, "cpu")
    classes = detector.num_classes + (detector.class_loss.background_channel != "none")
    for level, ((height, width), boxes) in enumerate(zip(sizes, per_level)):
        logits, regressed = prediction.logits[level].shape, prediction.box[level].shape
        name = f"level {level} ({width}x{height} cells, stride {detector.strides[level]})"
        if len(boxes) != height * width * counts[level]:
            raise PartError(
                f"{name}: {len(boxes)} anchors, but {counts[level]} per cell make "
                f"{height * width * counts[level]}",
                part="anchors",
            )
        if logits[1] != len(boxes) or regressed[1] != len(boxes):
            raise PartError(
                f"{name}: the head predicts {logits[1]} anchors, there are {len(boxes)}", part="head"
            )
        if logits[2] != classes or regressed[2] != detector.coder.box_channels:
            raise PartError(
                f"{name}: the head gives {logits[2]} class and {regressed[2]} box channels, wanted "
                f"are {classes} and {detector.coder.box_channels}",
                part="head",
            )
    missing = set(detector.head.branches) - set(prediction.extra)
    if missing:
        raise PartError(
            f"the head declares branches {sorted(missing)} but gives none in Prediction.extra",
            part="head",
        )
    for name, branch in detector.head.branches.items():
        values = prediction.extra[name][-1].shape
        if len(values) != 3 or values[1] != len(per_level[-1]):
            raise PartError(
                f"branch {name!r} predicts {tuple(values)} on the last level, not (B, h*w*A, E) with "
                f"{len(per_level[-1])} anchors",
                part="head",
            )
        _check_branch(detector, name, branch, per_level[-1], values[2])


FEW_CELLS = 16
"""Cells of the last level on which a branch's functions are tried."""


def _check_branch(detector: DenseDetector, name: str, branch: Branch, boxes: Tensor, channels: int) -> None:
    """Call a branch's functions on a few anchors, every third of which is positive."""
    count = detector.anchors.num_anchors[-1]
    boxes = boxes[: FEW_CELLS * count]
    n, classes = len(boxes), detector.num_classes
    positive = (torch.arange(n) % 3 == 0).expand(2, -1)
    index = torch.where(positive, 0, -1)
    labels = torch.where(positive, 0, classes)
    levels = (Level(1, n // count, count, detector.strides[-1]),)
    count = int(positive.sum())
    targets = Targets(
        boxes,
        levels,
        index,
        positive,
        labels,
        boxes.expand(2, -1, -1),
        positive * 0.5,
        {needed: torch.zeros(count, *extra.shape) for needed, extra in branch.needs.items()},
        dict.fromkeys(branch.needs, torch.ones(count, dtype=torch.bool)),
    )
    values, scores = torch.zeros(2, n, channels), torch.full((2, n, classes), 0.5)
    calls: dict[str, tuple[Callable[[], Tensor] | None, tuple[int, ...]]] = {
        "loss": (lambda: branch.loss(values, targets), (2, n)),
        "adjust": (branch.adjust and (lambda: branch.adjust(scores, values)), (2, n, classes)),  # type: ignore[misc]
        "weight": (branch.weight and (lambda: branch.weight(targets)), (2, n)),  # type: ignore[misc]
        "predict": (branch.predict and (lambda: branch.predict(values[0], boxes)), (n,)),  # type: ignore[misc]
    }
    for function, (call, wanted) in calls.items():
        if call is None:
            continue
        try:
            shape = tuple(call().shape)
        except Exception as error:
            raise PartError(
                f"branch {name!r} of the head: {function} raised {type(error).__name__}: "
                f"{error}{author_place(error)}",
                part="head",
            ) from error
        if function == "predict":  # one value a detection, of any shape
            shape = shape[:1]
        if shape != wanted:
            raise PartError(
                f"branch {name!r} of the head: {function} gives {shape}, not {wanted}", part="head"
            )
