"""Checks a merged recipe against the signatures of its parts and the tables of its sections, and fills in
every default.

Nothing stops at the first fault: all of them are collected, each at the place of the value that is wrong.
"""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from densedet import registry as registry_module
from densedet.core.arguments import Section
from densedet.core.errors import PluginError
from densedet.core.hookspecs import check_hooks
from densedet.core.recipe.faults import Fault, Origin
from densedet.core.recipe.merging import COMMAND_LINE, merge
from densedet.core.recipe.plugin_loading import VARIABLE, PluginSet, registered_beside
from densedet.core.recipe.sections import SECTIONS, Expectation, ModelValues, section_of_field
from densedet.core.recipe.signatures import (
    MISSING,
    Argument,
    Slot,
    arguments_of,
    field_hint,
    part_of_field,
    reserved_arguments,
)
from densedet.core.recipe.yaml_marks import Node, from_plain
from densedet.registry import KINDS, Component, RegistryError, UnknownComponent, suggest

TOP_LEVEL = ("description", "expects", "base", "plugins", "model", *SECTIONS)
ALSO_CALLED = {"learning_rate": "lr", "batch": "batch_size", "image_size": "input_size_wh"}
"""Names that people try -> the key of a recipe."""
MANY = 4
"""More places of a key than this are not suggested."""


class Checker:
    """One pass over one recipe.

    Attributes:
        faults: what was found.
        sections: the validated sections by name, without those that are null or faulty.
        plugins: the plug-ins that this recipe may use.
    """

    def __init__(
        self, plugins: PluginSet, absent_plugins: Iterable[str] = (), *, spared: Iterable[str] = ()
    ) -> None:
        self.components = plugins.components
        self.plugins = plugins
        self.absent_plugins = tuple(absent_plugins)
        self.spared = tuple(spared)
        self.faults: list[Fault] = []
        self.sections: dict[str, Section] = {}
        self.home = Origin("recipe")
        self._unknown: list[tuple[Origin, str, str, list[str], str]] = []

    def add(self, origin: Origin, path: str, message: str) -> None:
        """Note a fault."""
        self.faults.append(Fault.at(origin if origin.file else self.home, path, message))

    def recipe(self, root: Node) -> Node:
        """Resolve the whole recipe. The result counts only where `faults` stays empty."""
        self.home = root.origin
        self._nul_characters(root, "")
        given, result = root.mapping, {}
        for key, node in given.items():
            if key not in TOP_LEVEL:
                said = f"a recipe has no section {key!r}."
                self._unknown.append(
                    (node.key, key, said, list(TOP_LEVEL), f" Sections: {', '.join(TOP_LEVEL)}")
                )
        if "description" in given:
            result["description"] = self.value(
                given["description"], "description", Argument("description", str | None, None), "a recipe"
            )
        if "model" not in given or given["model"].value is None or not _written(given["model"]):
            self.add(
                root.origin, "model", "the section 'model' is missing: it names the parts of the detector"
            )
        else:
            result["model"] = self.model(given["model"])
        for name, section in SECTIONS.items():
            optional = name not in ("data", "train")
            written = given.get(name)
            if written is not None and written.value is None:
                result[name] = written
            elif (written is None or not _written(written)) and not optional:
                self.add(
                    root.origin,
                    name,
                    f"the section {name!r} is missing: write it, or {name}: null to do without it",
                )
            else:
                result[name] = self.section(
                    written or Node.make({}, root.origin.default("default of densedet")), name, section
                )
        resolved = Node.make(result, root.origin)
        self._suggest(resolved)
        return resolved

    def expectation(self, node: Node) -> Expectation | None:
        """Check what a recipe says that it reaches. The result counts only where `faults` stays empty."""
        self.home = node.origin
        self._suggest(self.section(node, "expects", Expectation))
        found = self.sections.pop("expects", None)
        return found if isinstance(found, Expectation) else None

    def part(self, node: Node, kind: str) -> Node:
        """Resolve one part that stands in no recipe. The result counts only where `faults` stays empty."""
        self.home = node.origin
        resolved = self.component(node, kind, kind)
        self._suggest(resolved)
        return resolved

    def _suggest(self, resolved: Node) -> None:
        """Note the unknown keys, each with the places of the recipe where such a key stands."""
        paths = list(_paths(resolved))
        ends = [path.rpartition(".")[2] for path in paths]
        for origin, path, said, siblings, listing in self._unknown:
            key = path.rpartition(".")[2]
            key = ALSO_CALLED.get(key, key)
            found = [place for place, end in zip(paths, ends) if end == key]
            close = suggest(key, siblings)
            if not found and not close:
                nearest = difflib.get_close_matches(key, ends, n=1, cutoff=0.8)
                found = [place for place, end in zip(paths, ends) if [end] == nearest]
            if 0 < len(found) <= MANY:
                close = f" Did you mean {' or '.join(found)}?"
            self.add(origin, path, f"{said}{close}{listing}")

    def _nul_characters(self, node: Node, path: str) -> None:
        """Note texts with a NUL character: no file can have such a name."""
        if isinstance(node.value, dict | list):
            pairs = node.value.items() if isinstance(node.value, dict) else enumerate(node.value)
            for key, child in pairs:
                self._nul_characters(child, f"{path}.{key}" if path else str(key))
        elif isinstance(node.value, str) and "\0" in node.value:
            self.add(node.origin, path, "the text holds a NUL character: leave it out")

    def section(self, node: Node, path: str, section: type[Section]) -> Node:
        """Resolve the parts of a section, fill in its defaults and validate it as a whole.

        The validated object is kept in `sections`, unless the section is faulty.
        """
        before = len(self.faults)
        resolved = self._filled(node, path, section)
        told = {fault.path for fault in self.faults[before:]}
        try:
            self.sections[path] = section.model_validate_json(json.dumps(resolved.plain()), strict=True)
        except ValidationError as error:
            self._section_faults(resolved, path, section, error, told)
        return resolved

    def _filled(self, node: Node, path: str, section: type[Section]) -> Node:
        """Return a mapping of all fields of ``section``; its plain values are not checked yet."""
        if not isinstance(node.value, dict):
            self.add(
                node.origin, path, f"is a mapping of {', '.join(section.model_fields)}, given {_shown(node)}"
            )
            return node
        result = {}
        self._unknown_keys(node, path, list(section.model_fields), f"{path!r}")
        for name, info in section.model_fields.items():
            below = f"{path}.{name}"
            slot, given, nested = part_of_field(info), node.value.get(name), section_of_field(info)
            argument = Argument(name, field_hint(info), MISSING if info.is_required() else info.default)
            if given is None:
                if info.is_required():
                    self.add(node.key, path, f"{name!r} is missing: {info.description}")
                    continue
                # A section within a section fills in its own defaults.
                plain = {} if nested else argument.default_value()
                given = from_plain(plain, node.origin.default(f"default of {path}"))
            if nested:
                result[name] = self._filled(given, below, nested)
            else:
                given = self._onto_default(given, below, argument)
                result[name] = self.slot(given, below, slot) if slot else given
        return Node.make(result, node.origin, node.key)

    def _section_faults(
        self, node: Node, path: str, section: type[Section], error: ValidationError, told: set[str]
    ) -> None:
        """Note pydantic's complaints about a section, each at its value, but for the paths in ``told``."""
        fields: dict[str, tuple[Node, Argument, str, list[ErrorDetails]]] = {}
        for fault in error.errors():
            table, at, where, steps = section, node, path, list(fault["loc"])
            while steps and (nested := section_of_field(table.model_fields.get(str(steps[0])))):
                step = str(steps.pop(0))
                table, at, where = nested, at.child(step) or at, f"{where}.{step}"
            if not steps:
                if where not in told:
                    self.add(at.origin, where, _sentence(fault["msg"]))
                continue
            name = str(steps.pop(0))
            info, value = table.model_fields.get(name), at.child(name)
            # Unknown and missing keys and what stands where a part belongs were told before.
            if info is not None and value is not None and not part_of_field(info):
                argument = Argument(name, field_hint(info), MISSING if info.is_required() else info.default)
                entry = fields.setdefault(f"{where}.{name}", (value, argument, f"{where!r}", []))
                entry[3].append({**fault, "loc": tuple(steps)})
        for where, (value, argument, owner, faults) in fields.items():
            self._value_faults(value, where, argument, owner, faults)

    def model(self, node: Node) -> Node:
        """Resolve the section ``model``: the detector, and the parts that its constructor names."""
        if not isinstance(node.value, dict):
            self.add(node.origin, "model", f"is a mapping of parts, given {_shown(node)}")
            return node
        result: dict[str, Node] = {}
        detector = node.value.get(
            "detector", from_plain({"name": "dense"}, node.origin.default("default of densedet"))
        )
        result["detector"] = self.component(detector, "model.detector", "detector")
        row = self.find(detector)
        parts = (
            {n: a for n, a in arguments_of(row).items() if n in KINDS and n != "detector"} if row else None
        )
        for key, given in node.value.items():
            if key == "detector":
                continue
            below = f"model.{key}"
            if key in ModelValues.model_fields:
                continue
            if key not in KINDS:
                self._unknown_part(given, key, row, parts)
            elif parts is not None and key not in parts:
                if given.value is not None and row:
                    takes = f"it takes {', '.join(parts)}" if parts else "it takes no parts"
                    self.add(
                        given.key,
                        below,
                        f"detector {row.name!r} takes no {key}: delete this section; {takes}",
                    )
            elif given.value is None:
                slot = parts[key].slot if parts else None
                if parts and parts[key].default is MISSING and not (slot and slot.optional):
                    self.add(
                        given.key,
                        below,
                        f"detector {row.name if row else ''!r} needs a {key}, it cannot be null: "
                        f"{self._names(key)}",
                    )
            else:
                result[key] = self.slot(
                    given, below, Slot(key, many=False), lists=key == "box_loss" or _takes_list(parts, key)
                )
        if row and parts is not None:
            for key, argument in parts.items():
                if key not in node.value and argument.default is MISSING:
                    self.add(
                        node.key,
                        "model",
                        f"{key!r} is missing: detector {row.name!r} needs one; {self._names(key)}",
                    )
        for key, info in ModelValues.model_fields.items():
            given = node.value.get(key, from_plain(info.default, node.origin.default("default of densedet")))
            result[key] = self.value(
                given, f"model.{key}", Argument(key, field_hint(info), info.default), "'model'"
            )
        return Node.make(result, node.origin, node.key)

    def _unknown_part(
        self, given: Node, key: str, row: Component | None, parts: dict[str, Argument] | None
    ) -> None:
        below = f"model.{key}"
        if row and key in arguments_of(row):
            self.add(
                given.key, below, f"is an argument of detector {row.name!r}: write it as model.detector.{key}"
            )
        else:
            names = [
                "detector",
                *ModelValues.model_fields,
                *(parts if parts is not None else (k for k in KINDS if k != "detector")),
            ]
            said = f"the model has no part {key!r}."
            self._unknown.append((given.key, below, said, names, f" Parts: {', '.join(names)}"))

    def _names(self, kind: str) -> str:
        return f"registered: {', '.join(self.components.names(kind)) or 'none'}"

    def slot(self, node: Node, path: str, slot: Slot, *, lists: bool = False) -> Node:
        """Resolve a part, a list of parts, or null, as the slot wants."""
        if node.value is None:
            if not slot.optional:
                none = "write [] for none" if slot.many else f"name one; {self._names(slot.kind)}"
                self.add(node.origin, path, f"cannot be null: {none}")
            return node
        if isinstance(node.value, list) and (slot.many or lists):
            if lists and not node.value:
                self.add(node.origin, path, f"an empty list: name at least one {slot.kind}")
            items = [self.component(n, f"{path}.{i}", slot.kind) for i, n in enumerate(node.value)]
            return Node.make(items, node.origin, node.key)
        if slot.many:
            self.add(node.origin, path, f"is a list of {slot.kind}, given {_shown(node)}: put it in [ ]")
            return node
        return self.component(node, path, slot.kind)

    def find(self, node: Node) -> Component | None:
        """Return the detector that a node names, or None where it cannot be had."""
        name = node.value.get("name") if isinstance(node.value, dict) else node
        try:
            row = self.components.get("detector", str(name.value if name else ""))
            arguments_of(row)
        except RegistryError:
            return None
        return row

    def component(self, node: Node, path: str, kind: str) -> Node:
        """Resolve ``{name: ..., arguments}`` or a bare name to the mapping with all arguments."""
        if isinstance(node.value, str):
            node = Node.make({"name": node}, node.origin, node.key)
        if not isinstance(node.value, dict):
            self.add(
                node.origin,
                path,
                f"a {kind} is written {{name: ..., argument: ...}} or as its name alone, given "
                f"{_shown(node)}",
            )
            return node
        name = node.value.get("name")
        if name is None or not isinstance(name.value, str):
            given = f"given {_shown(name)}" if name else "there is none below to take it from"
            place = name.origin if name else node.origin
            self.add(
                place,
                f"{path}.name" if name else path,
                f"the {kind} has no name, {given}: write name: ...; {self._names(kind)}",
            )
            return node
        try:
            row = self.components.get(kind, name.value)
            arguments = arguments_of(row)
            if kind == "hook" and not row.arguments_read and inspect.isclass(row.load()):
                check_hooks(row.load())  # a built-in one that was only read need not be imported for it
        except UnknownComponent as error:
            if not any(f"{path}.".startswith(f"{place}.") for place in self.spared):
                known = self._forgotten_plugin(name.origin, kind, name.value) + self._failed_plugins()
                self.add(name.origin, f"{path}.name", f"{error}{known}")
            return node
        except (RegistryError, PluginError) as error:
            self.add(name.origin, f"{path}.name", str(error))
            return node
        return self.arguments(node, path, row, arguments | reserved_arguments(kind))

    def arguments(self, node: Node, path: str, row: Component, arguments: dict[str, Argument]) -> Node:
        """Resolve the arguments of a part that is known."""
        what, given = f"{row.kind} {row.name!r}", node.mapping
        result = {"name": given["name"]}
        free = {n: a for n, a in arguments.items() if not a.wired}
        for key, child in given.items():
            if key != "name" and key in arguments and key not in free:
                self.add(
                    child.key,
                    f"{path}.{key}",
                    f"{key} is wired from {arguments[key].wired}: delete this line",
                )
        unwired = Node.make(
            {k: n for k, n in given.items() if k != "name" and (k not in arguments or k in free)}, node.origin
        )
        accepted = "\n".join(a.summary for a in free.values()) or "it takes no arguments"
        from_where = f" (from {row.origin})" if row.origin else ""
        self._unknown_keys(unwired, path, list(free), f"{what}{from_where}", accepted)
        for name, argument in free.items():
            below = f"{path}.{name}"
            if name in given:
                child = self._onto_default(given[name], below, argument)
                result[name] = (
                    self.slot(child, below, argument.slot)
                    if argument.slot
                    else self.value(child, below, argument, what)
                )
            elif argument.required:
                self.add(node.origin, path, f"{what} needs {name!r}\n{argument.summary}")
            elif (value := argument.default_value()) is not MISSING:
                default = from_plain(value, node.origin.default(f"default of {what}"))
                result[name] = (
                    self.slot(default, below, argument.slot) if argument.slot and value else default
                )
        return Node.make(result, node.origin, node.key)

    def _onto_default(self, node: Node, path: str, argument: Argument) -> Node:
        """Let an override such as ``data.input_size_wh.0=64`` reach into the default list where no file
        writes one."""
        default = argument.default_value()
        if (
            node.origin.file != COMMAND_LINE
            or not isinstance(node.value, dict)
            or not isinstance(default, list)
        ):
            return node
        below = from_plain(default, node.origin.default(f"default of {path}"))
        return merge(below, node, path, indices=True, faults=self.faults)

    def value(self, node: Node, path: str, argument: Argument, owner: str) -> Node:
        """Check a plain value against a hint, as strictly as JSON."""
        if node.origin.note and not isinstance(node.value, dict | list):
            return node
        try:
            argument.adapter.validate_json(json.dumps(node.plain()), strict=True)
        except ValidationError as error:
            self._value_faults(node, path, argument, owner, error.errors())
        return node

    def _value_faults(
        self, node: Node, path: str, argument: Argument, owner: str, faults: list[ErrorDetails]
    ) -> None:
        # pydantic puts the alternative of a union into the location; the alternatives with the fewest
        # complaints are what was meant.
        branches: dict[tuple[Any, ...], list[tuple[Node, str, str]]] = {}
        for fault in faults:
            at, where, branch = node, path, []
            for step in fault["loc"]:
                child = at.child(step)
                if child is None:
                    branch.append(step)
                else:
                    at, where = child, f"{where}.{step}"
            said = "is no key here" if fault["type"] == "extra_forbidden" else _sentence(fault["msg"])
            branches.setdefault(tuple(branch), []).append((at, where, said))
        fewest = min(len(found) for found in branches.values())
        places: dict[str, tuple[Node, list[str]]] = {}
        for at, where, said in (f for found in branches.values() if len(found) == fewest for f in found):
            places.setdefault(where, (at, []))[1].append(said)
        for where, (at, messages) in places.items():
            first, *others = dict.fromkeys(messages)
            said = " or ".join([first, *(m.removeprefix("should be ") for m in others)])
            # Another alternative may complain of the whole where one complains of an item of it: the item
            # says more.
            if not any(other.startswith(f"{where}.") for other in places):
                self.add(at.origin, where, f"{said}, given {_shown(at)}\n{owner} takes {argument.summary}")

    def _unknown_keys(self, node: Node, path: str, known: list[str], owner: str, accepted: str = "") -> None:
        for key, child in node.mapping.items():
            if key not in known:
                what, listing = (
                    ("argument", f"\n{accepted}") if accepted else ("key", f" Keys: {', '.join(known)}")
                )
                said = f"{owner} has no {what} {key!r}."
                self._unknown.append((child.key, f"{path}.{key}", said, known, listing))

    def _forgotten_plugin(self, origin: Origin, kind: str, name: str) -> str:
        """Where the part is that a recipe names without naming its plug-in."""
        places = (origin.file, self.home.file)
        for folder in dict.fromkeys(Path(place).parent for place in places if Path(place).is_file()):
            file = registered_beside(folder, kind, name)
            if file and str((folder / file).resolve()) not in [p.origin for p in self.plugins]:
                return f"\n{file} beside the recipe registers it: write plugins: [{file}] in the recipe"
        row = registry_module.components.snapshot().get((kind, name))
        if row is not None and row.origin:
            return f"\n{row.origin} registers it: name that under plugins: in this recipe too"
        return ""

    def _failed_plugins(self) -> str:
        off = [p.name for p in self.plugins.plugins if p.status == "disabled"]
        failed = [f"{p.name} ({p.reason})" for p in self.plugins.plugins if p.status == "failed"]
        text = f"\nplug-ins that did not load: {'; '.join(failed)}" if failed else ""
        text += f"\nplug-ins that {VARIABLE} switches off: {', '.join(off)}" if off else ""
        if self.absent_plugins:
            text += f"\n{plugin_hint(self.absent_plugins)}"
        return text


def plugin_hint(absent: Iterable[str]) -> str:
    """What to type where a checkpoint's recipe names plug-ins."""
    named = " --plugin ".join(absent)
    return f"its recipe names plug-ins, which are not loaded by themselves here: pass --plugin {named}"


def _paths(node: Node, path: str = "") -> Iterator[str]:
    """Yield the dotted path of every key below a node."""
    children = node.value.items() if isinstance(node.value, dict) else ()
    for key, child in children:
        below = f"{path}.{key}" if path else key
        yield below
        yield from _paths(child, below)


def _takes_list(parts: dict[str, Argument] | None, key: str) -> bool:
    return bool(parts and parts[key].slot and parts[key].slot.many)  # type: ignore[union-attr]


def _written(node: Node) -> bool:
    """Whether a file or override says anything about this node: the defaults below every recipe do not
    count."""
    return not node.origin.note


def _sentence(message: str) -> str:
    text = message.removeprefix("Value error, ").replace("Input should be", "should be")
    for theirs, ours in (
        ("a valid array", "a list"),
        ("a valid list", "a list"),
        ("an object", "a mapping"),
        ("a valid dictionary", "a mapping"),
    ):
        text = text.replace(theirs, ours)
    return text


def _shown(node: Node) -> str:
    text = json.dumps(node.plain(), ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
