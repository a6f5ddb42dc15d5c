"""One part from its mapping in a recipe, with its wired arguments and nested parts."""

from __future__ import annotations

from typing import Any

from densedet.core.errors import DataError, PartError
from densedet.core.recipe.loading import Recipe
from densedet.core.recipe.signatures import MISSING, arguments_of, typed_arguments
from densedet.core.recipe.wiring import RESERVED
from densedet.registry import RegistryError


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


def build_list(recipe: Recipe, path: str, kind: str, wired: dict[str, Any]) -> list[Any]:
    """The parts of a list such as ``data.transforms``, in order."""
    section, key = path.split(".")
    specs = getattr(getattr(recipe, section), key)
    return [build_component(recipe, f"{path}.{i}", kind, spec, wired) for i, spec in enumerate(specs)]
