"""From a recipe to built parts: the one file that knows the order in which parts learn of their neighbours.

data -> backbone -> neck -> anchors, class loss, coder -> head -> matcher, box loss, postprocess -> detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from densedet.core.annotations.filters import filtered
from densedet.core.annotations.views import hold_out
from densedet.core.annotations.where import WhereError
from densedet.core.class_table import EMPTY
from densedet.core.errors import DataError, PartError
from densedet.core.recipe.loading import Recipe
from densedet.core.recipe.signatures import MISSING, arguments_of, typed_arguments
from densedet.core.recipe.wiring import RESERVED
from densedet.registry import KINDS, RegistryError, suggest

ORDER = ("backbone", "neck", "anchors", "class_loss", "coder", "head", "matcher", "box_loss", "postprocess")


def build_component(recipe: Recipe, path: str, kind: str, spec: dict[str, Any], wired: dict[str, Any]) -> Any:
    """One part from its mapping ``{name: ..., arguments}`` at the dotted ``path`` of the recipe.

    ``wired`` values reach the constructor where it names them. Whatever goes wrong in a constructor becomes
    the recipe's error, with the position of the part and the cause chained.
    """
    try:
        component = recipe.plugins.components.get(kind, spec["name"])
        known = arguments_of(component)
    except RegistryError as error:
        raise recipe.error(f"{path}.name", str(error)) from error
    arguments = typed_arguments(
        component,
        {n: v for n, v in spec.items() if n in known and n not in RESERVED.get(kind, ()) and n != "name"},
    )
    for name, argument in known.items():
        if argument.wired and name in wired:
            arguments[name] = wired[name]
        elif argument.slot is not None and arguments.get(name) is not None:
            arguments[name] = _build_nested(
                recipe, f"{path}.{name}", argument.slot.kind, arguments[name], wired
            )
    for name, argument in known.items():
        if argument.default is MISSING and name not in arguments:
            raise recipe.error(
                path,
                f"{kind} {spec['name']!r} needs {name}, which comes from "
                f"{argument.wired or 'the recipe'}, and this recipe has none: add it",
            )
    try:
        return component.load()(**arguments)
    except DataError:
        raise
    except PartError as error:
        at, who = (f"model.{error.part}", "") if error.part else (path, f"{kind} {spec['name']!r}: ")
        raise recipe.error(at, f"{who}{error}") from error
    except Exception as error:
        raise recipe.error(path, f"{kind} {spec['name']!r}: {sentence(error)}") from error


def _build_nested(recipe: Recipe, path: str, kind: str, value: Any, wired: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [build_component(recipe, f"{path}.{i}", kind, item, wired) for i, item in enumerate(value)]
    return build_component(recipe, path, kind, value, wired)


def sentence(error: BaseException) -> str:
    """An exception's text in one line; its type in front where the text alone would not tell."""
    text = " ".join(str(error).split())
    known = isinstance(error, (PartError, RegistryError, ValueError))
    return text if known and text else f"{type(error).__name__}: {text}".rstrip(": ")


class Wiring:
    """What parts have told of themselves so far, under the names that constructors use."""

    def __init__(self, recipe: Recipe, num_classes: int) -> None:
        size = tuple(recipe.values["data"]["input_size_wh"])
        self.channels = 1 if recipe.values["data"]["color"] == "grey" else 3
        self.values: dict[str, Any] = {
            "num_classes": num_classes,
            "size_wh": size,
            "in_channels": self.channels,
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
        _dry_run(recipe, detector, wiring)
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


def _dry_run(recipe: Recipe, detector: nn.Module, wiring: Wiring) -> None:
    check = getattr(detector, "dry_run", None)
    if check is None:
        return
    data = recipe.values["data"]
    multiple = data["pad_to"]
    for width, height in [data["input_size_wh"], *(data["input_sizes_wh"] or [])]:
        image_hw = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
        try:
            check(wiring.channels, image_hw)
        except PartError as error:
            raise recipe.error(f"model.{error.part or 'detector'}", str(error)) from error


def build_source(recipe: Recipe, split: str) -> Any:
    """The recipe's source for ``split`` ("train" or "val"), or None where it names none."""
    spec = recipe.values["data"].get(split)
    if spec is None:
        return None
    return build_component(recipe, f"data.{split}", "source", spec, {"root": recipe.values["data"]["root"]})


def _filtered(recipe: Recipe, split: str) -> Any:
    """The source of ``split``, or its images and boxes that the recipe's filter leaves."""
    source = build_source(recipe, split)
    key = "filter" if split == "train" else "val_filter"
    if source is None:
        return None
    rules = getattr(recipe.section("data"), key)
    try:
        return filtered(
            source, rules, classes=recipe.values["data"].get("classes"), resize=build_resize(recipe)
        )
    except WhereError as error:
        raise recipe.error(f"data.{key}.where", str(error)) from error


def build_resize(recipe: Recipe, size: Sequence[int] | None = None) -> Any:
    """The recipe's resize to ``size`` (width, height), or to data.input_size_wh."""
    data = recipe.values["data"]
    return build_component(
        recipe, "data.resize", "resize", data["resize"], {"size_wh": tuple(size or data["input_size_wh"])}
    )


def build_sources(recipe: Recipe) -> tuple[Any, Any]:
    """(training source, validation source or None), filtered; a share of the training images is held out
    where the recipe says so."""
    train, val = (_filtered(recipe, split) for split in ("train", "val"))
    share = recipe.values["data"]["holdout"]
    if share is None:
        return train, val
    if val is not None:
        raise recipe.error("data.holdout", "there is a data.val already: delete one of the two")
    if len(train) < 2:
        raise recipe.error(
            "data.holdout", f"the training source has {len(train)} images: nothing can be held out"
        )
    return hold_out(train, share, recipe.values["train"]["seed"])


def build_split(recipe: Recipe, split: str) -> Any:
    """The source of "train" or "val" alone, filtered; the other one is opened only where a share of it is
    held out. None: there is none."""
    if recipe.values["data"]["holdout"] is None:
        return _filtered(recipe, split)
    return dict(zip(("train", "val"), build_sources(recipe)))[split]


def class_table(recipe: Recipe, source: Any) -> tuple[str, ...]:
    """Class names in label order: the recipe's ``data.classes`` (`EMPTY` where that has a null), or all of
    the source's.

    Raises RecipeError for a name that the source does not have or one that is listed twice.
    """
    wanted = recipe.values["data"].get("classes")
    if wanted is None:
        return tuple(source.classes)
    for position, name in enumerate(wanted):
        if name is not None and name not in source.classes:
            raise recipe.error(
                f"data.classes.{position}",
                f"the training images have no class {name!r}.{suggest(name, list(source.classes))} "
                f"Classes: {', '.join(source.classes)}",
            )
    return listed_classes(recipe)


def listed_classes(recipe: Recipe) -> tuple[str, ...]:
    """The recipe's ``data.classes``, whatever the data. Raises RecipeError."""
    wanted = recipe.values["data"]["classes"]
    named = [name for name in wanted if name is not None]
    if len(set(named)) != len(named):
        raise recipe.error("data.classes", "a class is listed twice")
    if not named or "" in named:
        raise recipe.error(
            "data.classes", "name at least one class, none of them empty; write null for all of the source's"
        )
    return tuple(EMPTY if name is None else name for name in wanted)


def category_ids(recipe: Recipe, classes: Sequence[str], source: Any = None) -> tuple[int | None, ...]:
    """The data set's id of each of ``classes``: the source's, or without one the recipe's
    ``data.category_ids``, else 0, 1, 2 ...; None for a slot without a class, or a class that the source
    lacks. Raises RecipeError where the recipe's do not go with the classes."""
    listed = recipe.values["data"].get("category_ids")
    if listed is not None and len(listed) != len(classes):
        raise recipe.error(
            "data.category_ids",
            f"has {len(listed)} ids for {len(classes)} classes: write one for each, or "
            f"data.category_ids=null",
        )
    ids = range(len(classes)) if listed is None else listed
    if source is not None:
        known = dict(zip(source.classes, source.category_ids))
        ids = [known.get(name) for name in classes]
    return tuple(None if name == EMPTY else given for name, given in zip(classes, ids))


def build_list(recipe: Recipe, path: str, kind: str, wired: dict[str, Any]) -> list[Any]:
    """The parts of a list such as ``data.transforms``, in order."""
    specs: Any = recipe.values
    for key in path.split("."):
        specs = specs[key]
    return [build_component(recipe, f"{path}.{i}", kind, spec, wired) for i, spec in enumerate(specs or [])]
