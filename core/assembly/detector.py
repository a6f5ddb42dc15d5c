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
from densedet.core.recipe.wiring import CLASSES, WIRED, told_by
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
    """What is known for wiring so far: values of the recipe, and attributes of the parts that are built."""

    def __init__(self, recipe: Recipe, num_classes: int) -> None:
        self.facts: dict[str, Any] = {CLASSES: num_classes, "data.color": recipe.data.channels}
        model = recipe.values["model"]
        if isinstance(model.get("class_loss"), dict):
            self.facts["model.class_loss.weight"] = float(model["class_loss"].get("weight", 1.0))
        boxes = model.get("box_loss")
        if boxes is not None:
            boxes = boxes if isinstance(boxes, list) else [boxes]
            self.facts["model.box_loss.weight"] = tuple(float(b.get("weight", 1.0)) for b in boxes)

    def for_kind(self, kind: str) -> dict[str, Any]:
        """Values by argument for a constructor of this kind, and for the parts that are nested in it."""
        tables = (*WIRED.values(), WIRED.get(kind, {}))
        return {name: self.facts[f] for table in tables for name, f in table.items() if f in self.facts}

    def learn(self, kind: str, part: Any) -> None:
        """Note the attributes of a part that was just built. Where there is no neck, what follows is wired
        from the backbone."""
        for stage in ("backbone", "neck") if kind == "backbone" else (kind,):
            for fact, attribute in told_by(stage).items():
                self.facts[fact] = self._read(part, attribute)

    def _read(self, part: Any, attribute: str) -> Any:
        if attribute == "class_channels":
            return self.facts[CLASSES] + (part.background_channel != "none")
        value = getattr(part, attribute)
        return {"box_channels": int, "initial_bias": float}.get(attribute, tuple)(value)


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
    wired = {**wiring.for_kind("detector"), **built}
    detector = build_component(recipe, "model.detector", "detector", spec, wired)
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
    except (AttributeError, TypeError, ValueError) as error:
        raise recipe.error(
            f"model.{kind}", f"{kind} {given['name']!r} does not keep its contract: {sentence(error)}"
        ) from error
    return part


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
