"""A recipe: a YAML file, its bases and overrides, checked and with every default filled in.

>>> recipe = load_recipe("quickstart_ssd", ["train.batch_size=8"])     # doctest: +SKIP
>>> recipe.train.batch_size                                            # doctest: +SKIP
8
>>> recipe.values["model"]["head"]                                     # doctest: +SKIP
{'name': 'ssd', ...}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from densedet import registry as registry_module
from densedet.core.arguments import Section
from densedet.core.files import name_fault
from densedet.core.recipe.checking import Checker, plugin_hint
from densedet.core.recipe.faults import Fault, Origin, RecipeError
from densedet.core.recipe.merging import (
    COMMAND_LINE,
    Merged,
    Overrides,
    default_root,
    load_merged,
    merge,
    override_texts,
    read_overrides,
    resolve_path,
    with_names,
)
from densedet.core.recipe.plugin_loading import PluginSet, is_file, load_plugins
from densedet.core.recipe.sections import (
    DataSection,
    EvaluateSection,
    Expectation,
    RunSection,
    TrainSection,
)
from densedet.core.recipe.yaml_marks import RESOLVERS, Node, from_plain
from densedet.core.text import visible
from densedet.registry import Registry

__all__ = ["Fault", "Origin", "Recipe", "RecipeError", "load_recipe", "recipe_from_dict"]

S = TypeVar("S", bound=Section)


class Recipe:
    """A recipe without faults.

    Attributes:
        name: the stem of its file.
        path: the file, or None.
        values: plain nested dicts, complete: writing them down and loading them again gives the same. A part
            is ``{name: ..., all its arguments}``; a removed section is None. They are for writing the recipe
            down, for diffs and for the parts of ``model``; other sections are read as ``recipe.train.seed``.
        plugins: the plug-ins that it may use; ``plugins.components`` is the table it was checked against.
        expects: what its file says that it reaches; None: nothing.
    """

    expects: Expectation | None = None

    def __init__(
        self,
        name: str,
        path: Path | None,
        merged: Node,
        resolved: Node,
        sections: Mapping[str, Section],
        plugins: PluginSet,
        registry: Registry,
        absent: Sequence[str] = (),
        spared: Sequence[str] = (),
        changes: Sequence[str] = (),
    ) -> None:
        self.name, self.path, self.plugins = name, path, plugins
        self._absent, self._spared, self._changes = tuple(absent), tuple(spared), tuple(changes)
        self._merged, self._resolved, self._registry = merged, resolved, registry
        self._sections = dict(sections)
        self.values: dict[str, Any] = resolved.plain()

    def __repr__(self) -> str:
        return f"Recipe({self.name!r})"

    @property
    def data(self) -> DataSection:
        """The section ``data``. Raises RecipeError where the recipe has removed it."""
        return self._section(DataSection, "data")

    @property
    def train(self) -> TrainSection:
        """The section ``train``. Raises RecipeError where the recipe has removed it."""
        return self._section(TrainSection, "train")

    @property
    def evaluate(self) -> EvaluateSection:
        """The section ``evaluate``. Raises RecipeError where the recipe has removed it."""
        return self._section(EvaluateSection, "evaluate")

    @property
    def run(self) -> RunSection:
        """The section ``run``. Raises RecipeError where the recipe has removed it."""
        return self._section(RunSection, "run")

    def _section(self, kind: type[S], name: str) -> S:
        section = self._sections.get(name)
        if not isinstance(section, kind):
            raise self.error(name, f"the section {name!r} is null, and this needs it: write it")
        return section

    def find(self, dotted: str) -> Node:
        """Return the node at a dotted path, or the nearest one above it."""
        node = self._resolved
        for key in dotted.split("."):
            child = node.child(key)
            if child is None:
                break
            node = child
        return node

    def origin(self, dotted: str) -> Origin:
        """Return where the value at a dotted path was written; ``str()`` of it names whose default it is
        where nobody wrote it."""
        return self.find(dotted).origin

    def error(self, dotted: str, message: str) -> RecipeError:
        """Make an error at the place of the value at a dotted path, to be raised."""
        origin = self.origin(dotted)
        if dotted.endswith(".name") and self._absent:
            message += f"\n{plugin_hint(self._absent)}"
        # A detector is built from the sections data and model; what else was changed does not reach it.
        near = [
            c for c in self._changes if not dotted.startswith("model") or c.startswith(("model.", "data."))
        ]
        if near and origin.file != COMMAND_LINE:
            message += f"\nwith the changes of the command line: {' '.join(near)}"
        return RecipeError([Fault.at(origin if origin.file else self._resolved.origin, dotted, message)])

    def to_yaml(self) -> str:
        """Write the complete recipe down; `load_recipe` of the text gives the same values."""
        letters = json.dumps(self.values, ensure_ascii=False)
        plain = visible(letters) == letters  # a control character is written as an escape
        return yaml.dump(self.values, Dumper=_Dumper, sort_keys=False, allow_unicode=plain, width=120)

    def with_overrides(self, overrides: Overrides) -> Recipe:
        """Return the recipe with more overrides on top, checked anew. Raises RecipeError."""
        return _resolve(
            self.name,
            self.path,
            self._merged,
            overrides,
            self.plugins,
            self.values.get("plugins") or [],
            [],
            self._registry,
            absent=self._absent,
            spared=self._spared,
            changes=self._changes,
        )


def recipe_from(recipe: Recipe | str | Path, overrides: Overrides = ()) -> Recipe:
    """Return a recipe with ``overrides``; a file or the name of a shipped recipe is loaded."""
    if not isinstance(recipe, Recipe):
        return load_recipe(recipe, overrides)
    return recipe.with_overrides(overrides) if overrides else recipe


def load_recipe(
    path: str | Path,
    overrides: Overrides = (),
    *,
    plugins: Sequence[Path | str] = (),
    registry: Registry = registry_module.components,
) -> Recipe:
    """Load the recipe in a file, or a shipped one, with its plug-ins.

    Args:
        path: a YAML file, or the bare name of a shipped recipe.
        overrides: changes on top, ``["train.batch_size=8"]`` or ``{"train.batch_size": 8}``.
        plugins: plug-in files or modules that are loaded after the recipe's own.
        registry: the table of parts.

    Raises:
        RecipeError: all faults of the recipe at once.
    """
    merged = load_merged(path)
    merged.plugins.extend((str(plugin), Path.cwd(), Origin("--plugin")) for plugin in plugins)
    faults = merged.faults
    read = {(f.file, f.line, f.column) for f in faults}
    loaded, names = _load_named(merged, registry)
    file = Path(str(path))
    stem = file.stem if ":" not in str(path) else Path(str(path).rpartition(":")[2]).stem
    if fault := name_fault(stem):
        told = f"the run's folder is called as the recipe, and {fault}: give the file another name"
        faults.append(Fault(str(path), 1, 1, "", told))
    if not merged.root.origin.line:  # nothing of the file could be read
        raise RecipeError(faults)
    expects = None
    if merged.expects is not None and merged.expects.value is not None:
        checker = Checker(loaded)
        expects = checker.expectation(merged.expects)
        faults += checker.faults
    recipe = _resolve(
        stem, file, merged.root, overrides, loaded, names, faults, registry, absent=(), already=read
    )
    recipe.expects = expects
    return recipe


def recipe_from_dict(
    values: Mapping[str, Any],
    *,
    name: str = "recipe",
    plugins: Sequence[Path | str] = (),
    overrides: Overrides = (),
    spared: Sequence[str] = (),
    registry: Registry = registry_module.components,
) -> Recipe:
    """A recipe from plain values, e.g. out of a checkpoint.

    Args:
        values: The recipe. Its own ``plugins`` are *not* imported.
        name: Stands where a file would in messages.
        plugins: Plug-in files and modules, which the user has named.
        overrides: Changes, as on the command line.
        spared: Dotted paths below which a part may be unknown, since nobody is going to build it.
        registry: The table of parts.

    Raises:
        RecipeError: With all faults.
        PluginError: A plug-in does not load.
    """
    entries = {k: v for k, v in values.items() if k not in ("base", "plugins", "expects")}
    root = merge(default_root(), with_names(from_plain(entries, Origin(name))))
    loaded = load_plugins(plugins, registry=registry)
    names = [str(Path(p).resolve()) if is_file(str(p)) else str(p) for p in plugins]
    absent = [str(p) for p in values.get("plugins") or [] if str(p) not in names]
    return _resolve(name, None, root, overrides, loaded, names, [], registry, absent=absent, spared=spared)


def _overridden(root: Node, overrides: Overrides, faults: list[Fault]) -> Node:
    given = read_overrides(overrides, faults)
    if given is None:
        return root
    merged = merge(root, given, indices=True, faults=faults)
    return Node.make(merged.value, root.origin)


def _load_named(merged: Merged, registry: Registry) -> tuple[PluginSet, list[str]]:
    """Load what ``plugins:`` names in the file and its bases. Faults go into ``merged``.

    Returns:
        The plug-ins, and their absolute names.
    """
    places: dict[str, tuple[str, Origin]] = {}
    for text, folder, place in merged.plugins:
        try:
            named = str(resolve_path(text, folder.resolve())) if is_file(text) else text
        except ValueError as error:
            merged.faults.append(Fault.at(place, "plugins", str(error)))
            continue
        places.setdefault(named, (text, place))
    loaded = load_plugins(list(places), registry=registry, strict=False)
    for plugin in loaded:
        if plugin.status == "failed" and plugin.name in places:
            text, place = places[plugin.name]
            merged.faults.append(Fault.at(place, "plugins", f"plug-in {text} does not load: {plugin.reason}"))
    return loaded, list(places)


def _resolve(
    name: str,
    path: Path | None,
    below: Node,
    overrides: Overrides,
    plugins: PluginSet,
    names: list[str],
    faults: list[Fault],
    registry: Registry,
    *,
    absent: Sequence[str],
    spared: Sequence[str] = (),
    already: set[tuple[str, int, int]] = frozenset(),  # type: ignore[assignment]
    changes: Sequence[str] = (),
) -> Recipe:
    def check(overrides: Overrides) -> tuple[Node, Node, Checker, list[Fault]]:
        found: list[Fault] = []
        merged = _overridden(below, overrides, found)
        checker = Checker(plugins, absent, spared=spared)
        resolved = checker.recipe(merged)
        # A value that could not even be read needs no second complaint about its type.
        unread = already | {(f.file, f.line, f.column) for f in found}
        found += [f for f in checker.faults if (f.file, f.line, f.column) not in unread]
        return merged, resolved, checker, found

    merged, resolved, checker, found = check(overrides)
    faults = faults + [_blamed(fault, overrides, lambda others: check(others)[-1]) for fault in found]
    if faults:
        cause = next((p.error for p in plugins if p.error is not None and p.name in names), None)
        raise RecipeError(faults) from cause
    if names:
        entries = {"plugins": from_plain(names, merged.origin), **resolved.mapping}
        resolved = Node.make(entries, resolved.origin)
    changes = [*changes, *override_texts(overrides)]
    return Recipe(name, path, merged, resolved, checker.sections, plugins, registry, absent, spared, changes)


def _blamed(fault: Fault, overrides: Overrides, check: Callable[[Overrides], list[Fault]]) -> Fault:
    """Move a fault to the override without which it would not be; it stays where there is no such one."""
    if fault.file == COMMAND_LINE:
        return fault
    for number, text in enumerate(override_texts(overrides), start=1):
        keep = [place for place in range(len(overrides)) if place != number - 1]
        if isinstance(overrides, Mapping):
            pairs = list(overrides.items())
            others: Overrides = dict(pairs[place] for place in keep)
        else:
            others = [overrides[place] for place in keep]
        if fault not in check(others):
            place = Origin(fault.file, fault.line, fault.column).place
            said = f"{fault.message}\n{text} does not go with what stands at {place}"
            return Fault(COMMAND_LINE, number, 1, fault.path, said)
    return fault


class _Dumper(yaml.SafeDumper):
    """Writes what `yaml_marks` reads back to the same values."""

    yaml_implicit_resolvers = RESOLVERS

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.SequenceNode:
    flat = not any(isinstance(i, dict | list) for i in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flat)


_Dumper.add_representer(list, _represent_list)
