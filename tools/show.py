"""Look inside: parts, plug-ins, a recipe with the origin of every value, the recipes' JSON Schema, and a
detector's network, data, anchors, matches, score maps and mistakes, trained or not."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from densedet.core.text import json_text, say
from densedet.tools.show_environment import environment
from densedet.tools.show_explain import add_explain
from densedet.tools.show_missed import add_judged
from densedet.tools.show_views import add_views


def add_parser(subparsers: Any) -> None:
    """densedet show components | plugins | recipe | environment | schema, and a detector's pictures"""
    parser = subparsers.add_parser(
        "show", help="look at parts, recipes, and into a detector", description=__doc__
    )
    topics = parser.add_subparsers(dest="topic", metavar="TOPIC", required=True)
    parts = topics.add_parser(
        "components", help="list and search parts; one part's arguments", description=components.__doc__
    )
    parts.add_argument("kind", nargs="?", default="*", help="e.g. head, or a wildcard")
    parts.add_argument("name", nargs="?", default="*", help="e.g. retinanet, or a wildcard such as 's*'")
    parts.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="list the parts of this plug-in file too",
    )
    parts.add_argument("--json", action="store_true", help="print as JSON")
    parts.set_defaults(run=components)
    loaded = topics.add_parser(
        "plugins", help="what is loaded, from where, and what failed", description=plugins.__doc__
    )
    loaded.add_argument("--plugin", action="append", default=[], metavar="FILE", help="a plug-in file to try")
    loaded.add_argument("--json", action="store_true", help="print as JSON")
    loaded.set_defaults(run=plugins)
    one = topics.add_parser(
        "recipe", help="the resolved recipe, with the origin of each value", description=recipe.__doc__
    )
    one.add_argument(
        "recipe", nargs="?", help="a YAML file or a shipped recipe's name; without it: the shipped ones"
    )
    one.add_argument("overrides", nargs="*", metavar="path=value")
    one.add_argument("--plain", action="store_true", help="the YAML alone, complete and loadable")
    one.add_argument("--json", action="store_true", help="the values as JSON")
    one.set_defaults(run=recipe)
    machine = topics.add_parser(
        "environment",
        help="versions, machine and plug-ins, for a bug report",
        description=environment.__doc__,
    )
    machine.add_argument("--json", action="store_true", help="print as JSON")
    machine.set_defaults(run=environment)
    add_views(topics)
    add_judged(topics)
    add_explain(topics)
    scheme = topics.add_parser("schema", help="a JSON Schema for editors", description=schema.__doc__)
    scheme.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="include the parts of this plug-in file"
    )
    scheme.add_argument("--output", metavar="FILE", help="write it to this new file instead of printing it")
    scheme.set_defaults(run=schema)


def components(arguments: argparse.Namespace) -> int:
    """List parts by kind and name (wildcards allowed); where one is left, its arguments, docstring,
    origin and the recipes that use it."""
    from densedet.core.recipe.catalog import find_components, list_components
    from densedet.registry import KINDS

    rows = find_components(arguments.kind, arguments.name, arguments.plugin)
    if len(rows) == 1 and (arguments.name != "*" or arguments.kind not in KINDS):
        return one_component(rows[0].kind, rows[0].name, arguments.plugin, arguments.json)
    if arguments.json:
        say(json_text(list_components(arguments.kind, arguments.name, plugins=arguments.plugin), indent=1))
        return 0
    width = max(len(c.name) for c in rows)
    for kind in dict.fromkeys(c.kind for c in rows):
        say(f"{kind}: {KINDS[kind]}")
        for row in (c for c in rows if c.kind == kind):
            stranger = "" if row.origin.startswith("densedet ") else f"  [{row.origin}]"
            say(f"  {row.name:<{width}}  {row.summary}{stranger}")
    return 0


def one_component(kind: str, name: str, plugins: list[str], as_json: bool) -> int:
    """Print all about one part."""
    from densedet.core.recipe.catalog import describe

    facts = describe(kind, name, plugins=plugins)
    users = recipes_using(kind, name)
    if as_json:
        say(json_text({**facts, "recipes": users}, indent=1))
    else:
        say(f"{facts}\n\nused by: {', '.join(users) or 'no shipped recipe'}")
    return 0


def recipes_using(kind: str, name: str) -> list[str]:
    """Names of shipped recipes in which a part stands anywhere."""
    from densedet.core.recipe.loading import RecipeError, load_recipe
    from densedet.core.recipe.merging import shipped_recipes

    places = {
        "source": "data",
        "resize": "data",
        "transform": "data",
        "batch_transform": "data",
        "optimizer": "train",
        "schedule": "train",
    }
    section = places.get(kind, {"evaluator": "evaluate", "hook": "run"}.get(kind, "model"))
    keys = {
        "transform": ("transforms",),
        "batch_transform": ("batch_transforms",),
        "hook": ("hooks",),
        "source": ("train", "val"),
    }.get(kind, (kind,))
    users = []
    for shipped in shipped_recipes():
        try:
            values: dict[str, Any] = load_recipe(shipped).values.get(section) or {}
        except RecipeError:
            continue
        slots = [values.get(key) for key in keys]
        specs = [spec for slot in slots for spec in (slot if isinstance(slot, list) else [slot])]
        if any(isinstance(spec, dict) and spec.get("name") == name for spec in specs):
            users.append(shipped)
    return users


def plugins(arguments: argparse.Namespace) -> int:
    """Which plug-ins are loaded, their versions, where they come from, which hooks they have, and why one
    failed."""
    from densedet.core.recipe.plugin_loading import load_plugins

    rows = list(load_plugins(arguments.plugin, strict=False))
    if arguments.json:
        keys = ("name", "version", "origin", "status", "reason")
        say(
            json.dumps([{**{k: getattr(r, k) for k in keys}, "hooks": list(r.hooks)} for r in rows], indent=1)
        )
    else:
        for row in rows:
            say(f"{row.name} {row.version}".rstrip() + f": {row.status}, from {row.origin}")
            if row.hooks:
                say(f"  hooks: {', '.join(row.hooks)}")
            if row.reason:
                say(f"  {row.reason}")
    return 2 if any(row.status == "failed" and row.name in arguments.plugin for row in rows) else 0


def recipe(arguments: argparse.Namespace) -> int:
    """The resolved recipe: every value with the file and line it was written at, or whose default it is.
    Without RECIPE: the shipped ones."""
    from densedet.core.recipe.loading import load_recipe

    if arguments.recipe is None:
        from densedet.core.recipe.merging import shipped_recipes

        for name in shipped_recipes():
            say(f"{name:<36} {' '.join((load_recipe(name).values.get('description') or '').split())}")
        return 0
    loaded = load_recipe(arguments.recipe, arguments.overrides)
    from densedet.core.training.fit import check_fit  # imports torch: what is wrong in the text comes first

    check_fit(loaded)
    if arguments.json:
        say(json_text(loaded.values, indent=1))
    elif arguments.plain:
        say(loaded.to_yaml().rstrip("\n"))
    else:
        for path, value in leaves(loaded.values):
            say(f"{path} = {json.dumps(value, ensure_ascii=False)}".ljust(70) + f"  # {loaded.origin(path)}")
    return 0


def leaves(values: Any, path: str = "") -> Any:
    """(dotted path, value) of every scalar, and of every list without mappings in it."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(values, list) and any(isinstance(v, (dict, list)) for v in values):
        for index, value in enumerate(values):
            yield from leaves(value, f"{path}.{index}")
    else:
        yield path, values


def schema(arguments: argparse.Namespace) -> int:
    """A JSON Schema of recipes, installed plug-ins' parts included, so that an editor completes names and
    arguments and marks mistakes."""
    from densedet.core.files import write_text
    from densedet.core.recipe.plugin_loading import load_plugins
    from densedet.core.recipe.schema import json_schema

    text = json_text(json_schema(load_plugins(arguments.plugin).components), indent=1)
    if arguments.output:
        write_text(Path(arguments.output), text + "\n", overwrite=False)
        say(
            f'{arguments.output} written; in VS Code: "yaml.schemas": {{"{arguments.output}": "*.yaml"}}',
            error=True,
        )
    else:
        say(text)
    return 0


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
