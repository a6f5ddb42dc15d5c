"""The recipe's detector: its parts, in the order in which they learn of their neighbours, and its weights.

data -> backbone -> neck -> anchors, class loss, coder -> head -> matcher, box loss, postprocess -> detector.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn

from densedet.core.assembly.parts import build_component, sentence
from densedet.core.errors import PartError
from densedet.core.recipe.loading import Recipe
from densedet.core.recipe.signatures import arguments_of
from densedet.core.state_dict import for_channels, misfit, weights_follow
from densedet.core.weights.pretrained import Loaded, in_our_names, state_of
from densedet.registry import KINDS

ORDER = (
    "backbone",
    "neck",
    "anchors",
    "class_loss",
    "coder",
    "head",
    "matcher",
    "box_loss",
    "postprocess",
)


class Wiring:
    """What parts have told of themselves so far, under the names that constructors use."""

    def __init__(self, recipe: Recipe, num_classes: int) -> None:
        self.values: dict[str, Any] = {
            "num_classes": num_classes,
            "size_wh": recipe.data.input_size_wh,
            "in_channels": recipe.data.channels,
        }

    def for_kind(self, kind: str) -> dict[str, Any]:
        """Values for a constructor of this kind; "strides" and "in_strides" are the same numbers seen from
        either side."""
        values = dict(self.values)
        if kind == "backbone":
            values.pop("in_strides", None)
        return values

    def learn(self, kind: str, part: Any) -> None:
        """Note what a freshly built part says of itself."""
        if kind in ("backbone", "neck"):
            self.values.update(
                in_channels=tuple(part.channels), in_strides=tuple(part.strides), strides=tuple(part.strides)
            )
        elif kind == "anchors":
            self.values["num_anchors"] = tuple(part.num_anchors)
        elif kind == "class_loss":
            background = part.background_channel != "none"
            self.values.update(
                class_channels=self.values["num_classes"] + background, class_bias=float(part.initial_bias)
            )
        elif kind == "coder":
            self.values["box_channels"] = part.box_channels


def build_detector(recipe: Recipe, num_classes: int, *, checked: bool = True) -> nn.Module:
    """The recipe's detector for ``num_classes`` classes, checked by a dry run at the recipe's image size
    (unless ``checked`` is False).

    Raises RecipeError, with the position of the part at fault, where parts do not fit together.
    """
    model = recipe.values["model"]
    spec = model["detector"]
    wiring = Wiring(recipe, num_classes)
    taken = [k for k in arguments_of(recipe.plugins.components.get("detector", spec["name"])) if k in KINDS]
    built: dict[str, Any] = {}
    for kind in sorted(taken, key=lambda k: ORDER.index(k) if k in ORDER else len(ORDER)):
        given = model.get(kind)
        if given is None:
            continue
        built[kind] = _build_part(recipe, kind, given, wiring)
    detector = build_component(
        recipe,
        "model.detector",
        "detector",
        spec,
        {**wiring.for_kind("detector"), **built, **_loss_weights(model)},
    )
    if checked:
        _dry_run(recipe, detector)
    return detector


def _build_part(recipe: Recipe, kind: str, given: Any, wiring: Wiring) -> Any:
    if kind == "box_loss":
        specs = given if isinstance(given, list) else [given]
        paths = (
            [f"model.{kind}.{i}" for i in range(len(specs))] if isinstance(given, list) else [f"model.{kind}"]
        )
        return [
            build_component(recipe, path, kind, spec, wiring.for_kind(kind))
            for path, spec in zip(paths, specs)
        ]
    part = build_component(recipe, f"model.{kind}", kind, given, wiring.for_kind(kind))
    try:
        wiring.learn(kind, part)
    except (AttributeError, TypeError) as error:
        raise recipe.error(
            f"model.{kind}", f"{kind} {given['name']!r} does not keep its contract: {sentence(error)}"
        ) from error
    return part


def _loss_weights(model: dict[str, Any]) -> dict[str, Any]:
    """The losses' reserved ``weight`` keys, as the detector's wired arguments."""
    weights: dict[str, Any] = {}
    if isinstance(model.get("class_loss"), dict):
        weights["class_loss_weight"] = float(model["class_loss"].get("weight", 1.0))
    boxes = model.get("box_loss")
    if boxes is not None:
        boxes = boxes if isinstance(boxes, list) else [boxes]
        weights["box_loss_weights"] = tuple(float(b.get("weight", 1.0)) for b in boxes)
    return weights


def _dry_run(recipe: Recipe, detector: nn.Module) -> None:
    check = getattr(detector, "dry_run", None)
    if check is None:
        return
    data, multiple = recipe.data, recipe.data.pad_to
    for width, height in [data.input_size_wh, *(data.input_sizes_wh or [])]:
        image_hw = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
        try:
            check(data.channels, image_hw)
        except PartError as error:
            raise recipe.error(f"model.{error.part or 'detector'}", str(error)) from error


def build_with_weights(
    recipe: Recipe, num_classes: int, *, wanted: bool = True
) -> tuple[nn.Module, Loaded | None]:
    """The recipe's detector in its memory format (``train.channels_last``: training, judging and predicting
    are then the same arithmetic), with ``model.weights`` where it names some. wanted: False where a
    checkpoint's weights will replace all of them: then neither these nor a part's own pretrained ones are
    looked for. Raises RecipeError where they cannot be had or do not fit."""
    weights = recipe.values["model"].get("weights")
    with contextlib.nullcontext() if weights is None and wanted else weights_follow():
        detector = build_detector(recipe, num_classes)
    if recipe.train.channels_last:
        detector.to(memory_format=torch.channels_last)
    if weights is None or not wanted:
        return detector, None
    try:
        return detector, load_into(recipe, detector, num_classes, weights)
    except PartError as error:
        raise recipe.error("model.weights", str(error)) from error


def load_into(recipe: Recipe, detector: nn.Module, num_classes: int, weights: str) -> Loaded:
    """Fill ``detector``, every entry of it but class layers of another number of classes. Where it sees grey
    images and the weights are for RGB, the first convolution is summed over the colours. Raises PartError;
    nothing is changed then."""
    own = detector.state_dict()
    state, used = in_our_names(state_of(weights), own, recipe.plugins.components, weights)
    state = {name: for_channels(value, own[name]) if name in own else value for name, value in state.items()}
    differ = [name for name in own if name in state and state[name].shape != own[name].shape]
    classes = class_layers(recipe, num_classes) if differ else frozenset()
    problem = misfit(own, state, reader="detector", may_differ=classes)
    if problem:
        named = f" (names of {used})" if used else ""
        raise PartError(
            f"the weights {weights!r}{named} are of another detector: {problem}; "
            "use the recipe that they were trained with, or model.backbone.weights for a backbone alone"
        )
    left_out = tuple(name for name in differ if name in classes)
    fitting = {name: state[name] for name in own if name in state and name not in left_out}
    detector.load_state_dict({**own, **fitting})
    return Loaded(weights, used, len(fitting), left_out)


def class_layers(recipe: Recipe, num_classes: int) -> frozenset[str]:
    """Names of the entries whose shape follows the number of classes: those that differ in a detector for one
    class more."""
    with torch.device("meta"), weights_follow():
        fewer, more = (
            build_detector(recipe, count, checked=False).state_dict()
            for count in (num_classes, num_classes + 1)
        )
    return frozenset(name for name in fewer if name not in more or fewer[name].shape != more[name].shape)
