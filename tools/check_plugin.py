"""`densedet check plugin`: run the conformance kit on every part that a plug-in registers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from densedet.core.recipe.plugin_loading import Plugin, PluginSet
from densedet.core.text import json_text, say

EXAMPLE = "quickstart_retinanet"
"""The recipe whose parts a detector is built with."""

Given = dict[tuple[str, str], dict[str, Any]]
"""(kind, name) -> {argument: value} from the command line."""


@dataclass
class Verdict:
    """What the kit found. status: ok, failed, or unchecked where an argument is missing. sentence: why."""

    kind: str
    name: str
    status: str
    sentence: str = ""


def add_parser(topics: Any) -> None:
    """densedet check plugin FILE | PACKAGE [kind.name.argument=value ...]"""
    parser = topics.add_parser(
        "plugin", help="do the parts of a plug-in keep their contracts?", description=run.__doc__
    )
    parser.add_argument(
        "what", metavar="FILE|PACKAGE", help="a Python file, a module or an installed package"
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="kind.name.argument=value",
        help="what a part needs, e.g. source.photos.folder=images",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check every part that a plug-in registers; its hooks are checked while it is loaded. Exit code 1 where
    a part fails, or lacks an argument without which it cannot be checked."""
    plugins, plugin = load(arguments.what)
    given = parse(arguments.arguments, plugin)
    verdicts = []
    for verdict in check(plugins, plugin, given):
        verdicts.append(verdict)
        if not arguments.json:
            said = f": {verdict.sentence}" if verdict.sentence else ""
            say(f"{verdict.kind} {verdict.name}: {verdict.status}{said}")
    if arguments.json:
        say(json_text([asdict(verdict) for verdict in verdicts], indent=1))
    elif not verdicts:
        say(f"{plugin.name} registers no part; hooks: {', '.join(plugin.hooks) or 'none'}")
    return int(any(verdict.status != "ok" for verdict in verdicts))


def load(what: str) -> tuple[PluginSet, Plugin]:
    """The plug-ins, and the one that is meant.

    Raises:
        PluginError: It does not load.
    """
    from densedet.core.errors import PluginError
    from densedet.core.recipe.plugin_loading import is_file, load_plugins

    installed = load_plugins()
    if not is_file(what):
        for plugin in installed:
            if what in (plugin.name, plugin.origin.partition(" ")[0]):
                if plugin.status != "loaded":
                    raise PluginError(f"plug-in {what} is not loaded ({plugin.status}): {plugin.reason}")
                return installed, plugin
    plugins = load_plugins([what])
    return plugins, plugins.plugins[-1]


def parse(texts: Sequence[str], plugin: Plugin) -> Given:
    """Read ``kind.name.argument=value``; values are YAML.

    Raises:
        UsageError: A text names no part of the plug-in.
    """
    from densedet.core.errors import UsageError
    from densedet.core.recipe.yaml_marks import parse_yaml

    given: Given = {}
    for text in texts:
        path, equals, value = text.partition("=")
        kind, _, rest = path.partition(".")
        name, _, argument = rest.rpartition(".")
        if not equals or (kind, name) not in plugin.parts:
            parts = ", ".join(".".join(part) for part in plugin.parts) or "none"
            raise UsageError(
                f"{text!r} is not kind.name.argument=value with a part of {plugin.name}; its parts: {parts}"
            )
        plain = parse_yaml(f"value: {value}", "command line").plain()["value"]
        given.setdefault((kind, name), {})[argument] = plain
    return given


def check(plugins: PluginSet, plugin: Plugin, given: Given) -> Iterator[Verdict]:
    """One verdict a part, as they come."""
    from densedet.core.conformance import ConformanceError, check_part
    from densedet.core.errors import DensedetError, UsageError, sentence
    from densedet.core.recipe.signatures import arguments_of
    from densedet.registry import RegistryError

    for kind, name in plugin.parts:
        values = given.get((kind, name), {})
        try:
            row = plugins.components.get(kind, name)
            needed = [a for a in arguments_of(row).values() if a.required and a.name not in values]
            if needed:
                wanted = " ".join(f"{kind}.{name}.{a.name}=VALUE" for a in needed)
                types = ", ".join(a.summary.removesuffix(" (required)") for a in needed)
                yield Verdict(kind, name, "unchecked", f"give {wanted} ({types})")
                continue
            if kind == "detector":
                detector = example_detector(plugins, plugin, name, values)
                check_part(kind, lambda built=detector: built)
            else:
                check_part(kind, row.load(), **typed(row, values))
        except UsageError:
            raise
        except (ConformanceError, RegistryError, DensedetError) as error:
            yield Verdict(
                kind, name, "failed", sentence(error) if isinstance(error, DensedetError) else str(error)
            )
        else:
            yield Verdict(kind, name, "ok")


def typed(row: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Values as the constructor wants them.

    Raises:
        UsageError: A part has no such argument, or the value is of another type.
    """
    from pydantic import ValidationError

    from densedet.core.errors import UsageError
    from densedet.core.recipe.signatures import arguments_of, typed_arguments
    from densedet.registry import suggest

    known = arguments_of(row)
    for name in values:
        if name not in known:
            raise UsageError(
                f"it has no argument {name!r}.{suggest(name, list(known))} It takes {', '.join(known)}"
            )
    try:
        return typed_arguments(row, values)
    except ValidationError as error:
        fault = error.errors()[0]
        raise UsageError(
            f"a value that was given does not fit: {fault['msg']}, given {fault['input']!r}"
        ) from error


def example_detector(plugins: PluginSet, plugin: Plugin, name: str, values: dict[str, Any]) -> Any:
    """A detector with the parts of `EXAMPLE` that it takes."""
    from densedet.core import assembly
    from densedet.core.examples import CLASSES
    from densedet.core.recipe.loading import load_recipe
    from densedet.core.recipe.signatures import arguments_of
    from densedet.registry import KINDS

    taken = arguments_of(plugins.components.get("detector", name))
    without = {f"model.{kind}": None for kind in KINDS if kind not in taken and kind in EXAMPLE_PARTS}
    named = [] if plugin in plugins.plugins[:1] or "(entry point" in plugin.origin else [plugin.name]
    recipe = load_recipe(EXAMPLE, {"model.detector": {"name": name, **values}, **without}, plugins=named)
    return assembly.build_detector(recipe, CLASSES)


EXAMPLE_PARTS = (
    "neck",
    "anchors",
    "head",
    "matcher",
    "coder",
    "class_loss",
    "box_loss",
    "postprocess",
)
"""Parts of `EXAMPLE` that a detector may do without."""
