"""One part from its mapping in a recipe, with its wired arguments and nested parts."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import Any

from densedet.core.assembly.wiring import Wiring, in_order
from densedet.core.errors import DataError, PartError, sentence
from densedet.core.recipe.loading import Recipe
from densedet.core.recipe.signatures import MISSING, arguments_of, typed_arguments
from densedet.core.recipe.wiring import RESERVED, facts_for
from densedet.registry import RegistryError


def build_component(recipe: Recipe, path: str, kind: str, spec: dict[str, Any], wired: dict[str, Any]) -> Any:
    """Build one part and the parts nested in it.

    Args:
        recipe: the recipe, for its plug-ins and the positions of faults.
        path: dotted path of the part in the recipe.
        kind: the part's kind.
        spec: the part's mapping ``{name: ..., arguments}``.
        wired: values of the kind's wired arguments, which reach the constructor where it names them.

    Returns:
        The part.

    Raises:
        RecipeError: where the part cannot be built, with its position and the cause chained.
        DataError: from a source, unchanged.
    """
    facts = facts_for(kind)
    return _build(recipe, path, kind, spec, Wiring({facts[name]: value for name, value in wired.items()}))


def build_and_wire(recipe: Recipe, path: str, kind: str, given: Any, wiring: Wiring) -> tuple[Any, Wiring]:
    """Build a part or a list of parts, each wired from the one before.

    Args:
        recipe: the recipe.
        path: dotted path of the part or the list.
        kind: kind of the parts.
        given: a mapping, or a list of mappings.
        wiring: what is known before the first part.

    Returns:
        The part or the list of parts, and what is known after the last.

    Raises:
        RecipeError: where a part cannot be built or lacks an attribute of its contract.
        DataError: from a source, unchanged.
    """
    if isinstance(given, list):
        parts = []
        for index, spec in enumerate(given):
            part, wiring = build_and_wire(recipe, f"{path}.{index}", kind, spec, wiring)
            parts.append(part)
        return parts, wiring
    part = _build(recipe, path, kind, given, wiring)
    if path == "model.head" and not isinstance(getattr(part, "branches", None), dict):
        raise recipe.error(
            path,
            f"head {given['name']!r} has no dict `branches`: write self.branches = {{}} in its constructor, "
            f"or in it a densedet.core.types.Branch for each output beside class and box",
        )
    try:
        return part, wiring.after(kind, part)
    except (AttributeError, TypeError, ValueError) as error:
        how = sentence(error)
        if isinstance(error, AttributeError) and error.obj is part:
            how = f"it needs self.{error.name}, set in its constructor"
        raise recipe.error(path, f"{kind} {given['name']!r} does not keep its contract: {how}") from error


def _build(recipe: Recipe, path: str, kind: str, spec: dict[str, Any], wiring: Wiring) -> Any:
    try:
        component = recipe.plugins.components.get(kind, spec["name"])
        known = arguments_of(component, built=True)
    except RegistryError as error:
        raise recipe.error(f"{path}.name", str(error)) from error
    taken = known.keys() - {"name", *RESERVED.get(kind, ())}
    arguments = typed_arguments(component, {name: v for name, v in spec.items() if name in taken})
    arguments |= {name: value for name, value in wiring.arguments(kind).items() if name in known}

    # Nested parts are wired by their place: from what is known at the outer part's place and from nested
    # parts of earlier kinds. Arguments of one kind stand side by side: they are wired from the same facts.
    slots = [
        (argument.slot.kind, name)
        for name, argument in known.items()
        if argument.slot is not None and not argument.wired and arguments.get(name) is not None
    ]
    after = wiring
    for slot_kind, side_by_side in groupby(in_order(slots), key=itemgetter(0)):
        before = after
        for _, name in side_by_side:
            nested = build_and_wire(recipe, f"{path}.{name}", slot_kind, arguments[name], before)
            arguments[name], after = nested

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


def build_list(recipe: Recipe, path: str, kind: str, wired: dict[str, Any]) -> list[Any]:
    """The parts of a list such as ``data.transforms``, in order."""
    section, key = path.split(".")
    specs = getattr(getattr(recipe, section), key)
    return [build_component(recipe, f"{path}.{i}", kind, spec, wired) for i, spec in enumerate(specs)]
