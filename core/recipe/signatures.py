"""What a part takes: its arguments with their types, defaults, wiring and descriptions."""

from __future__ import annotations

import enum
import functools
import inspect
import json
import numbers
import types
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from docstring_parser import Docstring, ParseError, google
from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from pydantic.fields import FieldInfo

from densedet.core.arguments import Part
from densedet.core.recipe.source_signatures import SourceSignature, Unreadable, read_signature
from densedet.core.recipe.wiring import RESERVED, facts_for, in_words
from densedet.registry import Component

MISSING: Any = inspect.Parameter.empty


@dataclass(frozen=True)
class Slot:
    """Where parts go: their kind, whether a list of them, and whether null may stand there."""

    kind: str
    many: bool = False
    optional: bool = False


def part_of(hint: Any) -> Slot | None:
    """The slot of a hint with a `Part` mark, wherever the mark stands: on the part, on its list, on the
    optional of either."""
    mark: Part | None = None
    many = optional = False

    def look(hint: Any) -> None:
        nonlocal mark, many, optional
        if get_origin(hint) is Annotated:
            mark = next((m for m in hint.__metadata__ if isinstance(m, Part)), mark)
            look(get_args(hint)[0])
        elif get_origin(hint) in (Union, types.UnionType):
            optional = optional or type(None) in get_args(hint)
            for member in get_args(hint):
                look(member)
        elif get_origin(hint) in (list, tuple) or _is_sequence(hint):
            many = True
            for member in get_args(hint):
                look(member)

    look(hint)
    return Slot(mark.kind, many, optional) if mark else None


def _is_sequence(hint: Any) -> bool:
    return getattr(get_origin(hint), "__name__", "") in ("Sequence", "Iterable", "Collection")


def part_of_field(info: FieldInfo) -> Slot | None:
    """The slot of a section's field, or None. Optional where the field's default is None."""
    slot = part_of(field_hint(info))
    return Slot(slot.kind, slot.many, slot.optional or info.default is None) if slot else None


def field_hint(info: FieldInfo) -> Any:
    """A field's annotation with the constraints that pydantic has split off."""
    return Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation  # type: ignore[return-value]


@dataclass
class Argument:
    """One argument of a part.

    Attributes:
        name: its name.
        hint: its type; Any where it has none.
        default: MISSING where it is required.
        wired: from what the assembly fills it in, or empty.
        docstrings: of its part, which may describe it.
        described: its description where it belongs to no part.
    """

    name: str
    hint: Any
    default: Any
    wired: str = ""
    docstrings: tuple[str, ...] = ()
    described: str = ""

    @cached_property
    def doc(self) -> str:
        """Its description, or an empty string."""
        return self.described or argument_docs(self.docstrings).get(self.name, "")

    @property
    def required(self) -> bool:
        """Whether a recipe must give it."""
        return self.default is MISSING and not self.wired

    @cached_property
    def slot(self) -> Slot | None:
        """Not None where parts go here."""
        return part_of(self.hint)

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Checks a value; one that takes anything where pydantic does not know the type."""
        try:
            return TypeAdapter(_readable(self.hint))
        except (PydanticSchemaGenerationError, PydanticUserError, TypeError, NameError, RecursionError):
            return TypeAdapter(Any)

    @property
    def type_text(self) -> str:
        """The type as a user writes values, e.g. ``float, at least 0``."""
        if self.slot:
            text = f"list of {self.slot.kind}" if self.slot.many else self.slot.kind
            return f"{text} or null" if self.slot.optional else text
        return type_text(self.hint)

    def default_value(self) -> Any:
        """The default as plain JSON, or MISSING where there is none or it cannot be written."""
        return MISSING if self.default is MISSING else plain_default(self.default)

    @property
    def summary(self) -> str:
        """``positive: float, at least 0 (default 0.5)``."""
        if self.default is MISSING:
            return f"{self.name}: {self.type_text} (required)"
        value = self.default_value()
        return (
            f"{self.name}: {self.type_text} (default "
            f"{default_text(self.default if value is MISSING else value)})"
        )


def _readable(hint: Any) -> Any:
    """The hint with ``numbers.Number`` (torchvision's) as int or float: pydantic would ask for an instance,
    which JSON has none of."""
    if hint in (numbers.Number, numbers.Real):
        return int | float
    if get_origin(hint) in (Union, types.UnionType):
        return Union[tuple(_readable(a) for a in get_args(hint))]
    return hint


def plain_default(value: Any) -> Any:
    """A default as JSON would hold it: tuples as lists, enum members as their values, tables as mappings;
    MISSING where that is not possible."""
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list | tuple):
        items = [plain_default(v) for v in value]
        return MISSING if any(i is MISSING for i in items) else items
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        entries = {k: plain_default(v) for k, v in value.items()}
        return MISSING if any(v is MISSING for v in entries.values()) else entries
    return MISSING


def default_text(value: Any) -> str:
    """A default as YAML writes it."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return getattr(value, "__name__", type(value).__name__)


_LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_NAMES = {
    int: "int",
    float: "float",
    str: "str",
    bool: "true or false",
    type(None): "null",
    list: "list",
    dict: "mapping",
    Any: "any",
}


def type_text(hint: Any) -> str:
    """A hint in words: ``int, above 0``, ``list of float``, ``'a' or 'b'``."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = [_limits(m) for m in hint.__metadata__]
        return ", ".join([type_text(arguments[0]), *(text for text in limits if text)])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_text(a) for a in arguments))
    if origin is Literal:
        return " or ".join(json.dumps(a) if not isinstance(a, str) else repr(a) for a in arguments)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return f"list of {type_text(arguments[0])}"
        return f"[{'; '.join(type_text(a) for a in arguments)}]"
    if origin in (list, set, frozenset) or _is_sequence(hint):
        return f"list of {type_text(arguments[0])}"
    if origin is dict:
        return f"mapping of {type_text(arguments[0])} to {type_text(arguments[1])}"
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return " or ".join(repr(m.value) for m in hint)
    return (
        _NAMES[hint]
        if isinstance(hint, Hashable) and hint in _NAMES
        else str(getattr(hint, "__name__", hint))
    )


def _limits(mark: Any) -> str:
    if isinstance(mark, FieldInfo):
        return ", ".join(filter(None, map(_limits, mark.metadata)))
    return ", ".join(
        f"{word} {getattr(mark, limit)}" for limit, word in _LIMITS.items() if hasattr(mark, limit)
    )


def arguments_of(component: Component, *, built: bool = False) -> dict[str, Argument]:
    """Arguments by name, in the order of the signature.

    Those of a part that is not imported yet are read from its source where that can be done. Parameters named
    after kinds are a detector's parts, and wired from beside it.

    Args:
        component: a row of the registry.
        built: the part is about to be built: import it, so that values become instances of its own types.

    Raises:
        InvalidComponent: where the part does not load.
    """
    if component.arguments is not None and not (built and component.arguments_read):
        return component.arguments
    component.arguments_read = not (built or component.loaded)
    signature = _read_signature(component) if component.arguments_read else None
    if signature is None:
        component.arguments_read, target = False, component.load()
        inspected = inspect.signature(target)
        hints = _hints(target, inspected)
        parameters = {name: (hints[name], row.default) for name, row in inspected.parameters.items()}
        docstrings = _docstrings(target)
    else:
        parameters, docstrings = signature.parameters, signature.docstrings
    wired = {argument: in_words(fact) for argument, fact in facts_for(component.kind).items()}
    component.arguments = {
        name: Argument(name, hint, default, wired.get(name, ""), docstrings)
        for name, (hint, default) in parameters.items()
    }
    return component.arguments


def _read_signature(component: Component) -> SourceSignature | None:
    try:
        return read_signature(component.target)
    except Unreadable:
        return None


def _docstrings(target: Any) -> tuple[str, ...]:
    """Docstrings that may describe the arguments of a class or function, the nearest first."""
    owners = [*target.__mro__, target.__init__] if inspect.isclass(target) else [target]
    return tuple(inspect.cleandoc(owner.__doc__) for owner in owners if owner.__doc__)


def _hints(target: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    """Hints by parameter; Any for those that are missing or name something that cannot be imported at run
    time."""
    try:
        evaluated = {n: p.annotation for n, p in inspect.signature(target, eval_str=True).parameters.items()}
    except Exception:
        evaluated = {n: _evaluate(p.annotation, target) for n, p in signature.parameters.items()}
    return {n: Any if h is MISSING or isinstance(h, str) else h for n, h in evaluated.items()}


def _evaluate(annotation: Any, target: Any) -> Any:
    if not isinstance(annotation, str):
        return annotation
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    try:
        return eval(annotation, getattr(function, "__globals__", {}))
    except Exception:
        return Any


def argument_docs(docstrings: Iterable[str]) -> dict[str, str]:
    """Descriptions by argument, from the ``Args:`` of docstrings in Google's style; the first one counts."""
    docs: dict[str, str] = {}
    for text in docstrings:
        for row in parse_docstring(text).params:
            if row.args[0] == "param":
                described = " ".join((row.description or "").split()).removeprefix("(wired) ")
                docs.setdefault(row.arg_name, described)
    return docs


@functools.lru_cache(maxsize=256)
def parse_docstring(text: str) -> Docstring:
    """A docstring in Google's style; only its first line where it has another."""
    try:
        return google.parse(text)
    except ParseError:
        return google.parse(text.partition("\n")[0])


def typed_arguments(component: Component, values: dict[str, Any]) -> dict[str, Any]:
    """Plain recipe values as the constructor wants them: tuples, enum members. Nested parts are handed
    through as they are."""
    known = arguments_of(component, built=True)
    result = {}
    for name, value in values.items():
        argument = known[name]
        through = argument.slot is not None or argument.wired
        result[name] = value if through else argument.adapter.validate_json(json.dumps(value), strict=True)
    return result


def reserved_arguments(kind: str) -> dict[str, Argument]:
    """Return the keys of a part's mapping that the assembly keeps for itself."""
    return {
        name: Argument(name, key.hint, key.default, described=key.doc)
        for name, key in RESERVED.get(kind, {}).items()
    }


def describe_component(component: Component) -> dict[str, Any]:
    """A part for listings: kind, name, summary, origin, doc (its description), and for each argument its
    name, type, default, required, wired, part and doc."""
    docstring = parse_docstring(inspect.getdoc(component.load()) or "")
    gap = "\n\n" if docstring.blank_after_short_description else "\n"
    rows = []
    for argument in {**arguments_of(component), **reserved_arguments(component.kind)}.values():
        value = argument.default_value()
        rows.append(
            {
                "name": argument.name,
                "type": argument.type_text,
                "default": None
                if argument.default is MISSING
                else default_text(argument.default if value is MISSING else value),
                "required": argument.required,
                "wired": argument.wired or None,
                "part": argument.slot.kind if argument.slot else None,
                "doc": argument.doc,
            }
        )
    return {
        "kind": component.kind,
        "name": component.name,
        "summary": component.summary,
        "origin": component.origin,
        "doc": gap.join(filter(None, (docstring.short_description, docstring.long_description))),
        "arguments": rows,
    }
