"""The recipe's detector: its parts, in the order in which they learn of their neighbours, and its weights."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from densedet.core.assembly.class_weights import PATH, listed_weights
from densedet.core.assembly.parts import build_and_wire
from densedet.core.assembly.wiring import Wiring, in_order
from densedet.core.distributed import world
from densedet.core.errors import PartError
from densedet.core.recipe.loading import Recipe
from densedet.core.recipe.signatures import arguments_of
from densedet.core.recipe.wiring import CLASSES
from densedet.core.state_dict import for_channels, misfit, weights_follow
from densedet.core.weights.name_maps import in_our_names
from densedet.core.weights.pretrained import Loaded, state_of
from densedet.registry import KINDS


def build_detector(recipe: Recipe, num_classes: int, *, checked: bool = True) -> nn.Module:
    """Build the recipe's detector, with random weights or those of its parts.

    Args:
        recipe: what to build.
        num_classes: C.
        checked: whether to try the detector at the recipe's image sizes, without computing numbers.

    Raises:
        RecipeError: parts do not fit together, with the position of the part at fault.
    """
    model = recipe.values["model"]
    spec = model["detector"]
    weights = listed_weights(recipe, model, num_classes)
    facts = {CLASSES: num_classes, "data.color": recipe.data.channels, **_loss_weights(model), PATH: weights}
    wiring = Wiring(facts)
    taken = arguments_of(recipe.plugins.components.get("detector", spec["name"]))
    if weights is not None and "class_weights" not in taken:
        raise recipe.error(
            PATH,
            f"detector {spec['name']!r} cannot weight classes, since its constructor has no argument "
            f"class_weights: delete this line, or let it take a factor for each class, or None, by that name",
        )
    built: dict[str, Any] = {}
    for kind, given in in_order((k, model[k]) for k in taken if k in KINDS and model.get(k) is not None):
        part, wiring = build_and_wire(recipe, f"model.{kind}", kind, given, wiring)
        built[f"model.{kind}"] = [part] if kind == "box_loss" and not isinstance(given, list) else part
    wiring = Wiring({**wiring.facts, **built})
    detector, _ = build_and_wire(recipe, "model.detector", "detector", spec, wiring)
    if checked:
        _dry_run(recipe, detector)
    return detector


def _loss_weights(model: dict[str, Any]) -> dict[str, Any]:
    """The losses' reserved ``weight`` keys, as facts."""
    facts: dict[str, Any] = {}
    if isinstance(model.get("class_loss"), dict):
        facts["model.class_loss.weight"] = float(model["class_loss"].get("weight", 1.0))
    boxes = model.get("box_loss")
    if boxes is not None:
        boxes = boxes if isinstance(boxes, list) else [boxes]
        facts["model.box_loss.weight"] = tuple(float(b.get("weight", 1.0)) for b in boxes)
        facts["model.box_loss.name"] = tuple(b["name"] for b in boxes)
    return facts


def _dry_run(recipe: Recipe, detector: nn.Module) -> None:
    check = getattr(detector, "dry_run", None)
    if check is None:
        return
    for image_hw in _image_sizes(recipe):
        try:
            check(recipe.data.channels, image_hw)
        except PartError as error:
            raise recipe.error(f"model.{error.part or 'detector'}", str(error)) from error


def _image_sizes(recipe: Recipe) -> list[tuple[int, int]]:
    """Return height and width of the network's input, for each size of the recipe."""
    data, multiple = recipe.data, recipe.data.pad_to
    sizes = [data.input_size_wh, *(data.input_sizes_wh or [])]
    return [(-(-h // multiple) * multiple, -(-w // multiple) * multiple) for w, h in sizes]


def check_norms(recipe: Recipe, detector: nn.Module) -> None:
    """Refuse to train where a norm would see a single value, which has no variance: batch norm in a process
    that trains on one image at a time, of which a map has one cell, and group norm of one channel a group.

    Raises:
        RecipeError: that would happen.
    """
    check = getattr(detector, "dry_run", None)
    if check is None:
        return
    processes = world()[1]
    norms: dict[str, nn.Module] = {}
    for name, module in detector.named_modules():
        alone = isinstance(module, nn.GroupNorm) and module.num_groups == module.num_channels
        if alone or (isinstance(module, _BatchNorm) and recipe.train.images // processes < 2):
            norms[name] = module
    single: list[str] = []

    def look(name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if given[0].shape[2:].numel() == 1:
            single.append(name)

    handles = [module.register_forward_pre_hook(partial(look, name)) for name, module in norms.items()]
    for image_hw in _image_sizes(recipe) if norms else ():
        check(recipe.data.channels, image_hw)
        if single:
            where = f"{single[0]} sees one cell of {image_hw[1]}x{image_hw[0]} images"
            if isinstance(norms[single[0]], nn.GroupNorm):
                told = f"group norm {where}, and has one channel a group: use larger images or another norm"
                raise recipe.error("data.input_size_wh", told)
            told = (
                f"batch norm {where}, and one image has one value a channel, which has no variance: write "
                f"train.batch_size={2 * processes} or more, or use larger images or group norm"
            )
            raise recipe.error("train.batch_size", told)
    for handle in handles:
        handle.remove()


def build_with_weights(
    recipe: Recipe, num_classes: int, *, wanted: bool = True
) -> tuple[nn.Module, Loaded | None]:
    """Build the recipe's detector with ``model.weights`` where the recipe names some.

    The detector is in the memory format of ``train.channels_last``, so that training, evaluation and
    prediction do the same arithmetic.

    Args:
        recipe: what to build.
        num_classes: C.
        wanted: False where the weights of a checkpoint will replace all others: neither ``model.weights`` nor
            the pretrained weights of a part are then looked for.

    Returns:
        The detector, and what was loaded or None.

    Raises:
        RecipeError: the weights cannot be had or do not fit.
    """
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
    """Load weights into every entry of ``detector`` but class layers for another number of classes.

    Where the detector takes grey images and the weights are for RGB, the first convolution is summed over the
    colours.

    Raises:
        PartError: the weights are of another detector. Nothing has been changed then.
    """
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
    """Return the names of the entries whose shape depends on the number of classes: those that differ in a
    detector with one more class."""
    with torch.device("meta"), weights_follow():
        fewer, more = (
            build_detector(recipe, count, checked=False).state_dict()
            for count in (num_classes, num_classes + 1)
        )
    return frozenset(name for name in fewer if name not in more or fewer[name].shape != more[name].shape)
