"""YAML 1.2 core, read safely and strictly, every value with its place in the file.

PyYAML composes; this file says what a scalar means: ``1e-4`` and ``.5`` are numbers, ``no`` and ``on`` are
strings, there are no octals, base-60 numbers, dates or merge keys, and no tag constructs an object.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Union

import yaml

from densedet.core.recipe.faults import Fault, Origin, RecipeError

MAX_BYTES = 256_000
"""Of one recipe file: recipes take a few KB, and PyYAML reads about 100 KB a second."""
MAX_DEPTH = 40
MAX_NODES = 100_000
"""Values in one file after aliases are written out: a recipe has hundreds, a "billion laughs" has
billions."""

LARGEST_INT = 2**63
"""What a whole number is below, in its absolute value: an array holds no larger one."""

CORE = "tag:yaml.org,2002:"
PATTERNS = {
    "null": re.compile(r"(?:null|Null|NULL|~|)\Z"),
    "bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"),
    "int": re.compile(r"[-+]?[0-9]+\Z"),
    "float": re.compile(
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
    ),
}
"""Plain scalars of YAML 1.2's core schema by tag; the first that fits counts, and all others are strings."""

RESOLVERS: dict[Any, list[tuple[str, re.Pattern[str]]]] = {
    None: [(CORE + kind, pattern) for kind, pattern in PATTERNS.items()]
}
"""`PATTERNS` as ``yaml_implicit_resolvers`` of a PyYAML loader or dumper; None: for any first letter."""

Scalar = Union[None, bool, int, float, str]


@dataclass(frozen=True)
class Node:
    """A value with its place. Never changed once made, so that aliases and merged recipes may share it.

    Attributes:
        value: a scalar, ``{key: Node}`` or ``[Node]``.
        origin: where the value stands.
        key: where its key stands; the value's own place for an item of a list and for the whole document.
    """

    value: Scalar | dict[str, Node] | list[Node]
    origin: Origin
    key: Origin

    @staticmethod
    def make(value: Any, origin: Origin, key: Origin | None = None) -> Node:
        """Make a node around a scalar, or around children that are nodes already."""
        return Node(value, origin, key or origin)

    def with_key(self, key: Origin) -> Node:
        """The same value under a key that stands elsewhere."""
        return Node(self.value, self.origin, key)

    @property
    def mapping(self) -> dict[str, Node]:
        """The children of a mapping, by key."""
        if not isinstance(self.value, dict):
            raise TypeError(f"{self.origin.place}: not a mapping")
        return self.value

    def child(self, key: str | int) -> Node | None:
        """The child of that key or index, or None."""
        if isinstance(self.value, dict):
            return self.value.get(str(key))
        if isinstance(self.value, list) and str(key).isdecimal() and int(key) < len(self.value):
            return self.value[int(key)]
        return None

    def plain(self) -> Any:
        """The value alone: dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {k: n.plain() for k, n in self.value.items()}
        if isinstance(self.value, list):
            return [n.plain() for n in self.value]
        return self.value


def from_plain(value: Any, origin: Origin, path: str = "") -> Node:
    """Nodes for plain values, all at one origin. Raises RecipeError for what YAML could not hold and for
    nesting past MAX_DEPTH."""
    if path.count(".") > MAX_DEPTH:
        raise RecipeError([Fault.at(origin, path[:80], f"is nested more than {MAX_DEPTH} levels deep")])
    if isinstance(value, Mapping):
        if wrong := [k for k in value if not isinstance(k, str)]:
            raise RecipeError([Fault.at(origin, path, f"the key {wrong[0]!r} is no string")])
        return Node.make(
            {k: from_plain(v, origin, f"{path}.{k}" if path else k) for k, v in value.items()}, origin
        )
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return Node.make([from_plain(v, origin, f"{path}.{i}") for i, v in enumerate(value)], origin)
    if type(value) is int and abs(value) >= LARGEST_INT:
        raise RecipeError([Fault.at(origin, path, "the number has more than 64 bits")])
    if value is None or type(value) in (bool, int, float, str):
        return Node.make(value, origin)
    if isinstance(value, PurePath):
        return Node.make(str(value), origin)
    raise RecipeError([Fault.at(origin, path, f"a {type(value).__name__} is no plain value")])


def parse_yaml(
    text: str, file: str, *, line: int = 0, column: int = 0, faults: list[Fault] | None = None
) -> Node:
    """Read the one document in ``text``. An empty text is a null node.

    Args:
        text: the document.
        file: its name in messages.
        line: added to the lines of places, for text that stands inside another.
        column: the same for the columns of the first line.
        faults: a list for what is refused but leaves the rest readable (duplicate keys, tags, merge keys),
            which reads as null or as if it were not there. None: these are raised too.

    Raises:
        RecipeError: the text is not plain strict YAML.
    """
    marks = _Marks(text, file, line, column)
    try:
        loader = _Composer(text, marks)
        root = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        at = yaml.Mark(file, 0, before.count("\n"), error.position - (before.rfind("\n") + 1), None, 0)
        code = error.character if isinstance(error.character, int) else ord(error.character)
        why = f"the character U+{code:04X} may not stand in YAML: is this a text file?"
        raise marks.fault(at, why) from None
    except yaml.MarkedYAMLError as error:
        raise marks.syntax(error) from None
    except (ValueError, OverflowError) as error:  # PyYAML lets chr() complain about "\\U00110000"
        raise RecipeError([Fault(file, line + 1, column + 1, "", f"this is not YAML: {error}")]) from error
    if root is None:
        return Node.make(None, Origin(file, line + 1, column + 1))
    reader = _Reader(marks)
    node = reader.node(root, "")
    if faults is None and reader.faults:
        raise RecipeError(reader.faults)
    if faults is not None:
        faults += reader.faults
    return node


@dataclass(frozen=True)
class _Marks:
    """From PyYAML's marks to places in the user's file."""

    text: str
    file: str
    line: int
    column: int

    def origin(self, mark: Any) -> Origin:
        column = mark.column + 1 + (self.column if mark.line == 0 else 0)
        return Origin(self.file, self.line + mark.line + 1, column)

    def fault(self, mark: Any, message: str, path: str = "") -> RecipeError:
        return RecipeError([Fault.at(self.origin(mark), path, message)])

    def syntax(self, error: yaml.MarkedYAMLError) -> RecipeError:
        mark: Any = error.problem_mark or error.context_mark
        problem = str(error.problem or error.context or "cannot be read")
        line = self.text.split("\n")[mark.line] if mark.line < self.text.count("\n") + 1 else ""
        if "another document" in problem:
            return self.fault(mark, "a second document starts here ('---'): a recipe is one document")
        if "'\\t'" in problem or "\t" in line[: mark.column + 1]:
            return self.fault(mark, "a tab stands where YAML wants spaces: indent with spaces")
        hint = (
            " (a value that holds ': ' or starts with one of @ ` % & * ! needs quotes)"
            if "mapping values" in problem or "cannot start" in problem
            else ""
        )
        context = f" {error.context}" if error.context and error.problem else ""
        return self.fault(mark, f"this is not YAML: {problem}{context}{hint}")


class _Composer(yaml.SafeLoader):
    """PyYAML's composer with the core schema, which refuses what an alias could blow up."""

    yaml_implicit_resolvers = RESOLVERS

    def __init__(self, text: str, places: _Marks) -> None:
        super().__init__(text)
        self.places = places
        self.path: list[str] = []
        self.count = self.deepest = 0
        self.extents: dict[str, tuple[int, int] | None] = {}
        """By anchor: number of values and levels of nesting below it; None inside the anchor."""

    def fault(self, event: Any, message: str) -> RecipeError:
        path = ".".join(self.path)
        return self.places.fault(event.start_mark, message, path if len(path) < 80 else path[:77] + "...")

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if parent is not None and index is None:
            if not isinstance(event, yaml.ScalarEvent):
                raise self.fault(event, "a key must be a word")
            return super().compose_node(parent, index)  # type: ignore[arg-type]
        if parent is not None:
            self.path.append(index.value if isinstance(index, yaml.Node) else str(index))
        alias, count, level = isinstance(event, yaml.AliasEvent), self.count, len(self.path)
        size, height = self.extent(event) if alias else (1, 0)
        outer, self.deepest, self.count = self.deepest, level + height, count + size
        if self.deepest > MAX_DEPTH:
            raise self.fault(event, f"nested more than {MAX_DEPTH} levels deep")
        if self.count > MAX_NODES:
            raise self.fault(event, f"more than {MAX_NODES:,} values once the aliases are written out")
        if event.anchor and not alias:
            self.anchors.pop(event.anchor, None)  # a name may be used anew
            self.extents[event.anchor] = None
        node = super().compose_node(parent, index)
        if event.anchor and not alias:
            self.extents[event.anchor] = self.count - count, self.deepest - level
        self.deepest = max(outer, self.deepest)
        if parent is not None:
            self.path.pop()
        return node

    def extent(self, event: Any) -> tuple[int, int]:
        name = event.anchor
        if name not in self.extents:
            known = ", ".join(f"*{a}" for a in self.extents) or "none"
            raise self.fault(event, f"the alias *{name} has no anchor &{name} before it (there is {known})")
        extent = self.extents[name]
        if extent is None:
            raise self.fault(event, f"the alias *{name} stands inside its own anchor")
        return extent


class _Reader:
    """From PyYAML's nodes to ours; what leaves the rest readable is kept in ``faults``."""

    def __init__(self, marks: _Marks) -> None:
        self.marks = marks
        self.faults: list[Fault] = []
        self.made: dict[int, Node] = {}

    def note(self, node: Any, message: str, path: str) -> None:
        self.faults.append(Fault.at(self.marks.origin(node.start_mark), path, message))

    def node(self, node: Any, path: str) -> Node:
        """An alias gives the node of its anchor once more."""
        if id(node) not in self.made:
            value: Any
            if isinstance(node, yaml.ScalarNode):
                value = self.scalar(node, path)
            elif isinstance(node, yaml.SequenceNode):
                items = enumerate(node.value)
                value = [self.node(item, f"{path}.{i}" if path else str(i)) for i, item in items]
            else:
                value = self.entries(node, path)
            if not isinstance(node, yaml.ScalarNode) and node.tag != f"{CORE}{node.id[:3]}":
                self.refuse_tag(node, path)
            self.made[id(node)] = Node.make(value, self.marks.origin(node.start_mark))
        return self.made[id(node)]

    def entries(self, node: yaml.MappingNode, path: str) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for key_node, value_node in node.value:
            key, place = self.key(key_node, path), self.marks.origin(key_node.start_mark)
            below = f"{path}.{key}" if path else key
            value = self.node(value_node, below).with_key(place)
            if key in entries:
                lines = f"on line {entries[key].key.line} and on line {place.line}"
                self.note(key_node, f"the key {key!r} stands twice, {lines}: delete one", below)
            elif key:
                entries[key] = value
        return entries

    def key(self, node: yaml.ScalarNode, path: str) -> str:
        """The text of a key, empty if it is refused (the fault is noted)."""
        if node.style is None and node.value == "<<":
            merge = (
                "merge keys (<<) are not YAML 1.2: put what is shared into a file and name it "
                "under 'base', or write it out"
            )
            self.note(node, merge, path)
        elif node.tag != CORE + "str" and not _fits(node.tag.removeprefix(CORE), node.value):
            self.refuse_tag(node, path)
        elif PATTERNS["null"].match(node.value):
            self.note(node, "a key is missing before the colon", path)
        elif _broken(node.value):
            self.note(node, "the key holds half of a character pair (a lone surrogate)", path)
        else:
            return str(node.value)
        return ""

    def scalar(self, node: yaml.ScalarNode, path: str) -> Scalar:
        kind = node.tag.removeprefix(CORE)
        if kind not in ("str", *PATTERNS):
            self.refuse_tag(node, path)
            return None
        try:
            return _value(kind, node.value)
        except ValueError as error:
            self.note(node, str(error), path)
            return None

    def refuse_tag(self, node: Any, path: str) -> None:
        why = "would run code" if "python" in node.tag else "is not known here"
        tag = node.tag.replace(CORE, "!!")
        self.note(node, f"the tag {tag} {why}: a recipe holds plain values only; delete the tag", path)


def _value(kind: str, text: str) -> Scalar:
    """A scalar of this tag. Raises ValueError for a text that it cannot have, and for a number past what a
    float or 64 bits hold."""
    if _broken(text):
        raise ValueError("the text holds half of a character pair (a lone surrogate)")
    if kind == "str":
        return text
    if not _fits(kind, text):
        raise ValueError(f"{text!r} is no {kind}")
    if kind == "int":
        if len(text) > 20 or abs(int(text)) >= LARGEST_INT:
            raise ValueError(f"the number {text[:20]}{'...' if len(text) > 20 else ''} has more than 64 bits")
        return int(text)
    if kind == "float":
        number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if math.isinf(number) and "inf" not in text.lower():
            raise ValueError(f"the number {text[:40]} is too large")
        return number
    return text.lower() == "true" if kind == "bool" else None


def _fits(kind: str, text: str) -> bool:
    return kind in PATTERNS and PATTERNS[kind].match(text) is not None


def _broken(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)
