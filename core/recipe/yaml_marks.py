"""YAML 1.2 core, read safely and strictly, every value with its place in the file.

PyYAML only scans and parses here; what a scalar means is decided by this file: ``1e-4`` and ``.5`` are
numbers, ``no`` and ``on`` are strings, there are no octals, base-60 numbers, dates or merge keys, and no tag
constructs an object.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
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

_CORE = "tag:yaml.org,2002:"
_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_SPECIAL = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")

Scalar = Union[None, bool, int, float, str]


@dataclass(frozen=True)
class Node:
    """A value with its place. Never changed once made, so that aliases and merged recipes may share it.

    value: a scalar, ``{key: Node}`` or ``[Node]``. origin: where the value stands. key: where its key stands
    (the value's own place for items of a list and the whole document). size, depth: number of values in it
    and levels of nesting.
    """

    value: Scalar | dict[str, Node] | list[Node]
    origin: Origin
    key: Origin
    size: int = 1
    depth: int = 0

    @staticmethod
    def make(value: Any, origin: Origin, key: Origin | None = None) -> Node:
        """A node around children that are nodes already, or around a scalar."""
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        size = 1 + sum(c.size for c in children)
        depth = 1 + max((c.depth for c in children), default=0) if isinstance(value, dict | list) else 0
        return Node(value, origin, key or origin, size, depth)

    def with_key(self, key: Origin) -> Node:
        """The same value under a key that stands elsewhere."""
        return Node(self.value, self.origin, key, self.size, self.depth)

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
    if value is None or type(value) in (bool, int, float, str):
        return Node.make(value, origin)
    if isinstance(value, PurePath):
        return Node.make(str(value), origin)
    raise RecipeError([Fault.at(origin, path, f"a {type(value).__name__} is no plain value")])


def read_scalar(text: str) -> Scalar:
    """What a plain scalar means by the core schema. Raises ValueError for a number past what a float or 300
    digits hold."""
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text.lower() == "true"
    if _INT.match(text):
        if len(text) > 300:
            raise ValueError(f"the number {text[:20]}... has {len(text)} digits")
        return int(text)
    if _FLOAT.match(text):
        number = float(text)
        if math.isinf(number):
            raise ValueError(f"the number {text[:40]} is too large")
        return number
    if _SPECIAL.match(text):
        return float(text.replace(".", ""))
    return text


def parse_yaml(
    text: str, file: str, *, line: int = 0, column: int = 0, faults: list[Fault] | None = None
) -> Node:
    """The one document in ``text``. line and column are added to the places, for text that stands inside
    another.

    What is refused but leaves the rest readable (duplicate keys, tags, merge keys) goes into ``faults`` and
    reads as null or as if it were not there. Raises RecipeError for everything else that is not plain strict
    YAML, and for those too when ``faults`` is None. An empty text is a null node.
    """
    composer = _Composer(text, file, line, column)
    node = composer.document()
    if faults is None and composer.faults:
        raise RecipeError(composer.faults)
    if faults is not None:
        faults += composer.faults
    return node


class _Composer:
    def __init__(self, text: str, file: str, line: int, column: int) -> None:
        self.text, self.file, self.line, self.column = text, file, line, column
        self.anchors: dict[str, Node | None] = {}
        self.faults: list[Fault] = []
        self.count = 0
        self.events: Iterator[Any] = iter(())

    def origin(self, mark: Any) -> Origin:
        return Origin(
            self.file, self.line + mark.line + 1, (self.column if mark.line == 0 else 0) + mark.column + 1
        )

    def fault(self, mark: Any, message: str, path: str = "") -> RecipeError:
        return RecipeError([Fault.at(self.origin(mark), path, message)])

    def note(self, mark: Any, message: str, path: str) -> None:
        self.faults.append(Fault.at(self.origin(mark), path, message))

    def document(self) -> Node:
        try:
            self.events = yaml.parse(self.text, Loader=yaml.SafeLoader)
            next(self.events)
            event = next(self.events)
            if isinstance(event, yaml.StreamEndEvent):
                return Node.make(None, Origin(self.file, self.line + 1, self.column + 1))
            node = self.node(next(self.events), "", 0)
            next(self.events)
            event = next(self.events)
        except yaml.reader.ReaderError as error:
            before = self.text[: error.position]
            place = Origin(
                self.file, self.line + before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1
            )
            raise RecipeError(
                [
                    Fault.at(
                        place,
                        "",
                        f"the character {_code(error.character)} may not stand in YAML: is this a text file?",
                    )
                ]
            ) from None
        except yaml.MarkedYAMLError as error:
            raise self.syntax(error) from None
        except (
            ValueError,
            OverflowError,
        ) as error:  # PyYAML lets chr() complain about an escape such as "\\U00110000"
            raise RecipeError(
                [Fault(self.file, self.line + 1, self.column + 1, "", f"this is not YAML: {error}")]
            ) from error
        if not isinstance(event, yaml.StreamEndEvent):
            raise self.fault(
                event.start_mark, "a second document starts here ('---'): a recipe is one document"
            )
        return node

    def syntax(self, error: yaml.MarkedYAMLError) -> RecipeError:
        mark: Any = error.problem_mark or error.context_mark
        problem = str(error.problem or error.context or "cannot be read")
        line = self.text.split("\n")[mark.line] if mark.line < self.text.count("\n") + 1 else ""
        if "'\\t'" in problem or "\t" in line[: mark.column + 1]:
            return self.fault(mark, "a tab stands where YAML wants spaces: indent with spaces")
        if "undefined alias" in problem:
            return self.fault(mark, problem)
        hint = (
            " (a value that holds ': ' or starts with one of @ ` % & * ! needs quotes)"
            if "mapping values" in problem or "cannot start" in problem
            else ""
        )
        context = f" {error.context}" if error.context and error.problem else ""
        return self.fault(mark, f"this is not YAML: {problem}{context}{hint}")

    def node(self, event: Any, path: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self.fault(event.start_mark, f"nested more than {MAX_DEPTH} levels deep", _short(path))
        if isinstance(event, yaml.AliasEvent):
            node = self.alias(event, path, depth)
            self.count += node.size
        else:
            self.count += 1
            if event.anchor:
                self.anchors[event.anchor] = None
            node = self.content(event, path, depth)
            if event.anchor:
                self.anchors[event.anchor] = node
        if self.count > MAX_NODES:
            raise self.fault(
                event.start_mark,
                f"more than {MAX_NODES:,} values once the aliases are written out",
                _short(path),
            )
        return node

    def alias(self, event: Any, path: str, depth: int) -> Node:
        if event.anchor not in self.anchors:
            known = ", ".join(f"*{a}" for a in self.anchors) or "none"
            raise self.fault(
                event.start_mark,
                f"the alias *{event.anchor} has no anchor &{event.anchor} before it (there is {known})",
                path,
            )
        node = self.anchors[event.anchor]
        if node is None:
            raise self.fault(
                event.start_mark, f"the alias *{event.anchor} stands inside its own anchor", path
            )
        if depth + node.depth > MAX_DEPTH:
            raise self.fault(event.start_mark, f"nested more than {MAX_DEPTH} levels deep", _short(path))
        return node

    def content(self, event: Any, path: str, depth: int) -> Node:
        origin = self.origin(event.start_mark)
        if isinstance(event, yaml.ScalarEvent):
            return Node.make(self.scalar(event, path), origin)
        kind = "map" if isinstance(event, yaml.MappingStartEvent) else "seq"
        if event.tag not in (None, "!", _CORE + kind):
            self.refuse_tag(event, path)
        if kind == "seq":
            items: list[Node] = []
            while not isinstance(child := next(self.events), yaml.SequenceEndEvent):
                items.append(self.node(child, f"{path}.{len(items)}" if path else str(len(items)), depth + 1))
            return Node.make(items, origin)
        return Node.make(self.entries(path, depth), origin)

    def entries(self, path: str, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key, place = self.key(event, path), self.origin(event.start_mark)
            below = f"{path}.{key}" if path else key
            value = self.node(next(self.events), below, depth + 1).with_key(place)
            if key in entries:
                first = entries[key].key.line
                self.note(
                    event.start_mark,
                    f"the key {key!r} stands twice, on line {first} and on line {place.line}: delete one",
                    below,
                )
            elif key:
                entries[key] = value
        return entries

    def key(self, event: Any, path: str) -> str:
        """The text of a key, empty if it is refused (the fault is noted)."""
        if not isinstance(event, yaml.ScalarEvent):
            raise self.fault(event.start_mark, "a key must be a word", path)
        if event.implicit[0] and event.value == "<<":
            merge = (
                "merge keys (<<) are not YAML 1.2: put what is shared into a file and name it "
                "under 'base', or write it out"
            )
            self.note(event.start_mark, merge, path)
        elif event.tag not in (None, "!", _CORE + "str"):
            self.refuse_tag(event, path)
        elif _NULL.match(event.value):
            self.note(event.start_mark, "a key is missing before the colon", path)
        elif _broken(event.value):
            self.note(event.start_mark, "the key holds half of a character pair (a lone surrogate)", path)
        else:
            return str(event.value)
        return ""

    def scalar(self, event: Any, path: str) -> Scalar:
        text: str = event.value
        try:
            if _broken(text):
                raise ValueError("the text holds half of a character pair (a lone surrogate)")
            if event.tag in (None, "!", _CORE + "str"):
                return read_scalar(text) if event.implicit[0] else text
            wanted = {"int": int, "float": float, "bool": bool, "null": type(None)}.get(
                event.tag.removeprefix(_CORE)
            )
            if wanted is None:
                self.refuse_tag(event, path)
                return None
            value = read_scalar(text)
            value = float(value) if wanted is float and type(value) is int else value
            if type(value) is not wanted:
                raise ValueError(f"{text!r} is no {event.tag.removeprefix(_CORE)}")
        except (ValueError, OverflowError) as error:
            self.note(event.start_mark, str(error), path)
            return None
        return value

    def refuse_tag(self, event: Any, path: str) -> None:
        tag = event.tag.replace(_CORE, "!!")
        why = "would run code" if "python" in tag else "is not known here"
        self.note(
            event.start_mark, f"the tag {tag} {why}: a recipe holds plain values only; delete the tag", path
        )


def _broken(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


def _code(character: Any) -> str:
    return f"U+{character if isinstance(character, int) else ord(character):04X}"


def _short(path: str) -> str:
    return path if len(path) < 80 else path[:77] + "..."
