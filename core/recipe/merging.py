"""From recipe files and overrides to one merged mapping, before anything is checked.

The rule: mappings merge; lists and scalars replace; a mapping whose ``name`` changes replaces the old one
whole; so does ``train.budget``, of which exactly one key counts; ``data.val`` and ``data.holdout``, of which
one may be given, take each other's place. ``base``, ``plugins`` and ``expects`` are no values: bases are
merged in order, the plug-ins of every file are collected, and what a recipe is expected to reach holds for
its own file alone.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densedet.core.recipe.faults import Fault, Origin, RecipeError
from densedet.core.recipe.sections import SECTIONS, ModelValues
from densedet.core.recipe.signatures import part_of_field
from densedet.core.recipe.yaml_marks import MAX_BYTES, Node, from_plain, parse_yaml

CONFIGS = Path(__file__).parent.parent.parent / "configs"
MAX_DEEP, MAX_FILES = 50, 1000
"""Most bases below one another, and most files of a recipe, each counted as often as it is a base."""
REPLACED_WHOLE = {"train.budget"}
ONE_OF_TWO = {"data": ("val", "holdout")}
"""Where the later file or override gives one of the two, it takes the other's place."""
COMMAND_LINE = "command line"
Overrides = Sequence[str] | Mapping[str, Any]
"""Changes to a recipe, as on the command line (``["train.batch_size=8"]``) or as plain values
(``{"train.batch_size": 8, "model.head": {"name": "fcos"}}``)."""


@dataclass
class Merged:
    """A recipe before its check.

    Attributes:
        root: the merged mapping.
        plugins: (file or module as written, folder that it is relative to, place) of each plug-in.
        faults: what was wrong with the files.
        documents: the content of each file that was read.
        count: files that were merged, each as often as it is a base.
        expects: what the file itself says that it reaches; that of a base says nothing about another recipe.
    """

    root: Node
    plugins: list[tuple[str, Path, Origin]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    documents: dict[Path, Node] = field(default_factory=dict)
    count: int = 0
    expects: Node | None = None


def component_slots() -> set[str]:
    """Return the dotted paths outside ``model`` where one part stands."""
    slots = set()
    for name, section in SECTIONS.items():
        for key, info in section.model_fields.items():
            slot = part_of_field(info)
            if slot and not slot.many:
                slots.add(f"{name}.{key}")
    return slots


def default_root() -> Node:
    """Return what every recipe stands on: the default parts, so that ``optimizer: {lr: 0.01}`` needs no
    name."""
    values: dict[str, dict[str, object]] = {"model": {"detector": {"name": "dense"}}}
    for name, section in SECTIONS.items():
        for key, info in section.model_fields.items():
            slot = part_of_field(info)
            if slot and not slot.many and isinstance(info.default, dict):
                values.setdefault(name, {})[key] = info.default
    return from_plain(values, Origin("", note="default of densedet"))


def with_names(node: Node, path: str = "", slots: set[str] | None = None) -> Node:
    """Turn a part that is written as its bare name into ``{name: ...}``, so that it merges like one."""
    slots = component_slots() if slots is None else slots
    part = (
        path.startswith("model.")
        and path.count(".") == 1
        and path.removeprefix("model.") not in ModelValues.model_fields
    )
    if isinstance(node.value, str) and (path in slots or part):
        return Node.make({"name": Node.make(node.value, node.origin, node.key)}, node.origin, node.key)
    if isinstance(node.value, dict) and path.count(".") < 1:
        below = {k: with_names(n, f"{path}.{k}" if path else k, slots) for k, n in node.value.items()}
        return Node.make(below, node.origin, node.key)
    return node


def merge(
    old: Node | None, new: Node, path: str = "", *, indices: bool = False, faults: list[Fault] | None = None
) -> Node:
    """Put ``new`` over ``old``.

    Args:
        old: the node below; None: nothing.
        new: the node above, which wins.
        path: where both stand, dotted.
        indices: keys such as "0" reach into a list, as those of overrides do.
        faults: a list for indices past the end of a list.
    """
    if old is None:
        return new
    if indices and isinstance(old.value, list) and isinstance(new.value, dict) and new.value:
        return _merge_items(old, new, path, faults if faults is not None else [])
    if not isinstance(old.value, dict) or not isinstance(new.value, dict) or path in REPLACED_WHOLE:
        return new
    name_before, name_now = old.value.get("name"), new.value.get("name")
    if name_before is not None and name_now is not None and name_before.value != name_now.value:
        return new
    merged = dict(old.value)
    for key, child in new.value.items():
        merged[key] = merge(
            merged.get(key), child, f"{path}.{key}" if path else key, indices=indices, faults=faults
        )
    given = [key for key in ONE_OF_TWO.get(path, ()) if key in new.value and new.value[key].value is not None]
    if len(given) == 1:
        for key in ONE_OF_TWO[path]:
            if key not in new.value:
                merged.pop(key, None)
    # The place of a merged mapping is the one of the file that has it last: missing arguments are asked for
    # there.
    return Node.make(merged, new.origin, new.key)


def _merge_items(old: Node, new: Node, path: str, faults: list[Fault]) -> Node:
    assert isinstance(old.value, list)
    items = list(old.value)
    for key, child in new.mapping.items():
        if not key.isdecimal() or int(key) >= len(items):
            there = f"its items are 0 to {len(items) - 1}" if items else "it is empty"
            faults.append(
                Fault.at(child.key, f"{path}.{key}", f"{path} is a list: {there}, there is no {key!r}")
            )
        else:
            items[int(key)] = merge(items[int(key)], child, f"{path}.{key}", indices=True, faults=faults)
    return Node.make(items, old.origin, old.key)


def read_overrides(overrides: Overrides, faults: list[Fault]) -> Node | None:
    """Merge overrides into one mapping, or None where there are none. The place of each is
    "command line":number:column."""
    if isinstance(overrides, str):
        start = Origin(COMMAND_LINE, 1, 1)
        faults.append(Fault.at(start, "", f"write a list, [{overrides!r}], or a mapping of path to value"))
        return None
    if not isinstance(overrides, Mapping) and not all(isinstance(text, str) for text in overrides):
        odd = next(text for text in overrides if not isinstance(text, str))
        start = Origin(COMMAND_LINE, 1, 1)
        how = "write a list of texts, ['train.batch_size=8'], or a mapping, {'train.batch_size': 8}"
        faults.append(Fault.at(start, "", f"{odd!r} is no override: {how}"))
        return None
    root: Node | None = None
    for number, (dotted, given, node) in enumerate(_override_nodes(overrides, faults), start=1):
        start = Origin(COMMAND_LINE, number, 1)
        keys = dotted.strip().split(".")
        if not all(keys):
            faults.append(Fault.at(start, "", f"{given} is no override: it has no path"))
        elif keys[0] in ("base", "plugins"):
            faults.append(
                Fault.at(start, keys[0], f"{keys[0]} cannot be overridden: write a recipe that names it")
            )
        elif node is not None:
            for key in reversed(keys):
                node = Node.make({key: node.with_key(start)}, start)
            root = merge(root, with_names(node))
    return root


def override_texts(overrides: Overrides) -> list[str]:
    """Return each override as it would be typed."""
    if isinstance(overrides, Mapping):
        return [f"{path}={value!r}" for path, value in overrides.items()]
    return [overrides] if isinstance(overrides, str) else [str(text) for text in overrides]


def _override_nodes(overrides: Overrides, faults: list[Fault]) -> Iterator[tuple[str, str, Node | None]]:
    """Yield (dotted path, the override as text, its value) of each override. The value is None where it
    cannot be read; its faults are noted."""
    if isinstance(overrides, Mapping):
        texts = override_texts(overrides)
        split = [(str(k), text, True, value) for text, (k, value) in zip(texts, overrides.items())]
    else:
        split = [(text.partition("=")[0], text, "=" in text, text.partition("=")[2]) for text in overrides]
    for number, (dotted, text, complete, value) in enumerate(split, start=1):
        start = Origin(COMMAND_LINE, number, 1)
        node = None
        try:
            if not complete:
                example = "write path=value, e.g. train.batch_size=8"
                faults.append(Fault.at(start, "", f"{text!r} is no override: {example}"))
            elif isinstance(overrides, Mapping):
                node = from_plain(value, start, dotted)
            else:
                node = parse_yaml(value, COMMAND_LINE, line=number - 1, column=len(dotted) + 1, faults=faults)
        except RecipeError as error:
            faults += [
                Fault(f.file, number, f.column, f.path or dotted, f"{f.message} (in {text!r})")
                for f in error.faults
            ]
        yield dotted, repr(text), node


def load_merged(path: str | Path) -> Merged:
    """Read a file with all its bases below it. Raises RecipeError where a file cannot be read at all."""
    merged = Merged(default_root())
    _add_file(find_recipe(path), merged, (), None)
    return merged


def _add_file(file: Path, merged: Merged, chain: tuple[Path, ...], named_at: Origin | None) -> None:
    node = merged.documents.get(file)
    if node is None:
        node = merged.documents[file] = read_file(file, named_at, merged.faults)
    merged.count += 1
    shown = str(file)
    if node.value is None:
        merged.faults.append(
            Fault(shown, 1, 1, "", "the file is empty: a recipe is a mapping with at least 'model'")
        )
        return
    if not isinstance(node.value, dict):
        kind = "list" if isinstance(node.value, list) else "single value"
        merged.faults.append(
            Fault.at(node.origin, "", f"a recipe is a mapping (model: ..., data: ...), this is a {kind}")
        )
        return
    entries = dict(node.value)
    expects = entries.pop("expects", None)
    if not chain:
        merged.expects = expects
    here = (*chain, file.resolve())
    for text, place in _names(entries.pop("base", None), "base", "a file, or a list of files", merged.faults):
        try:
            base = find_file(text, file.parent)
        except ValueError as error:
            merged.faults.append(Fault.at(place, "base", str(error)))
            continue
        if os.path.isfile(base) and base.suffix.lower() not in (".yaml", ".yml"):
            merged.faults.append(Fault.at(place, "base", f"{base} is not a .yaml file: a base is a recipe"))
            continue
        if merged.count >= MAX_FILES:
            too_many = f"more than {MAX_FILES:,} bases are merged, each as often as it is named: name it once"
            raise RecipeError([Fault.at(place, "base", too_many)])
        if base.resolve() in here or len(here) > MAX_DEEP:
            ring = " -> ".join(p.name for p in (*here, base.resolve()))
            merged.faults.append(Fault.at(place, "base", f"the bases go in a circle: {ring}"))
            continue
        try:
            _add_file(base, merged, here, place)
        except RecipeError as error:
            if merged.count >= MAX_FILES:
                raise
            merged.faults += error.faults
    for text, place in _names(
        entries.pop("plugins", None), "plugins", "a list of files and modules", merged.faults
    ):
        merged.plugins.append((text, file.parent, place))
    merged.root = merge(merged.root, with_names(Node.make(entries, node.origin)))


def _names(node: Node | None, path: str, wanted: str, faults: list[Fault]) -> list[tuple[str, Origin]]:
    if node is None or node.value is None:
        return []
    items = node.value if isinstance(node.value, list) else [node]
    for item in items:
        if not isinstance(item.value, str) or not item.value.strip():
            faults.append(Fault.at(item.origin, path, f"'{path}' is {wanted}, given {item.plain()!r}"))
    return [(i.value, i.origin) for i in items if isinstance(i.value, str) and i.value.strip()]


def read_file(file: Path, named_at: Origin | None, faults: list[Fault]) -> Node:
    """Read the document in ``file``; ``named_at`` is where a base is named, for the case that there is no
    such file."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        place = named_at or Origin(str(file), 1, 1)
        what = (
            f"there is no file {file}.{_near(str(file))}"
            if isinstance(error, FileNotFoundError)
            else f"{file} cannot be read: {error.strerror or error}"
        )
        raise RecipeError([Fault.at(place, "base" if named_at else "", what)]) from error
    if len(data) > MAX_BYTES:
        raise RecipeError(
            [Fault(str(file), 1, 1, "", f"is larger than {MAX_BYTES:,} bytes: is this a recipe?")]
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        message = f"byte 0x{data[error.start]:02x} is no UTF-8: is this a text file? Save it as UTF-8"
        raise RecipeError([Fault(str(file), line, column, "", message)]) from error
    return parse_yaml(text, str(file), faults=faults)


def resolve_path(text: str, folder: Path) -> Path:
    """Resolve a path as a recipe writes it: relative to ``folder``, absolute, or ``package:path``. Raises
    ValueError for an unknown package."""
    if "\0" in text:
        raise ValueError(f"{text!r} holds a NUL character: leave it out")
    package, colon, inside = text.partition(":")
    if not colon or len(package) == 1:  # one letter is a Windows drive
        return Path(os.path.normpath(folder / Path(text).expanduser()))
    if package == "densedet":
        return CONFIGS / inside
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{text!r} names the package {package!r}, which is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / inside


def shipped_recipes() -> list[str]:
    """Return the names that `load_recipe` takes without a path."""
    files = (f.relative_to(CONFIGS).with_suffix("") for f in CONFIGS.rglob("*.yaml"))
    return sorted(f.as_posix() for f in files if f.parts[0] != "base")


def find_recipe(path: str | Path, missing: str = "there is no such recipe file") -> Path:
    """Find the file of a recipe.

    Args:
        path: a path, ``package:path``, or a shipped recipe's bare name.
        missing: begins the message where there is none.

    Raises:
        RecipeError: there is none.
    """
    text = str(path)
    if os.path.exists(path):
        return Path(path)
    try:
        file = find_file(text, Path())
    except ValueError as error:
        raise RecipeError([Fault(text, 0, 0, "", str(error))]) from None
    if not os.path.exists(file) and ":" not in text:
        raise RecipeError([Fault(text, 0, 0, "", f"{missing}.{_near(text)}")])
    return file


def find_file(text: str, folder: Path) -> Path:
    """Resolve a path; where there is no such file, take the shipped recipe of that bare name."""
    file, named = resolve_path(text, folder), Path(text)
    shipped = CONFIGS / (text if named.suffix in (".yaml", ".yml") else f"{text}.yaml")
    bare = not named.is_absolute() and ".." not in named.parts and ":" not in text
    return shipped if bare and not os.path.exists(file) and os.path.isfile(shipped) else file


def _near(text: str) -> str:
    """Name the shipped recipes, and the one whose name is closest to ``text``."""
    names = shipped_recipes()
    close = difflib.get_close_matches(Path(text).stem, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Shipped recipes: {', '.join(names) or 'none'}"
