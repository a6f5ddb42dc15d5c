"""A JSON Schema (draft 2020-12) of recipes, so that an editor completes names and arguments, those of
plug-ins included.

A file with a ``base`` is only a part of a recipe, so nothing is required; what is written must be known and
of the right type.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from densedet.core.arguments import Section
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
from densedet.registry import KINDS, Component, Registry, RegistryError

Schema = dict[str, Any]


def json_schema(registry: Registry) -> Schema:
    """Make the schema for the parts of ``registry``. A part that does not load is offered with any
    arguments."""
    return _Builder(registry).schema()


class _Builder:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.definitions: Schema = {}
        self.arguments: dict[tuple[str, str], dict[str, Argument] | None] = {}
        for component in registry.find():
            try:
                self.arguments[component.kind, component.name] = arguments_of(component)
            except RegistryError:
                self.arguments[component.kind, component.name] = None

    def schema(self) -> Schema:
        names: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
        properties: Schema = {
            "base": {
                **names,
                "description": "recipes below this one, later wins; relative to this file, or "
                "densedet:base/x.yaml",
            },
            "plugins": {**names, "description": "files beside this one (./my_head.py) or importable modules"},
            "description": {"type": ["string", "null"]},
            "expects": _or_null(self.section(Expectation)),
            "model": self.model(),
        }
        for name, section in SECTIONS.items():
            properties[name] = _or_null(self.section(section))
        for kind in KINDS:
            self.definitions[kind] = self.kind(kind)
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "densedet recipe",
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
            "$defs": self.definitions,
        }

    def section(self, section: type[Section]) -> Schema:
        properties: Schema = {}
        for name, info in section.model_fields.items():
            slot = part_of_field(info)
            if nested := section_of_field(info):
                properties[name] = {**self.section(nested), "description": info.description}
                continue
            default = MISSING if info.is_required() else info.default
            argument = Argument(name, field_hint(info), default, described=info.description or "")
            properties[name] = (
                self.slot(slot, argument) if slot else self.argument(argument, f"{section.__name__}.{name}")
            )
        return {"type": "object", "properties": properties, "additionalProperties": False}

    def model(self) -> Schema:
        taken: dict[str, list[str]] = {}
        for (kind, name), arguments in self.arguments.items():
            if kind == "detector" and arguments is not None:
                taken[name] = [a for a in arguments if a in KINDS and a != "detector"]
        parts = list(dict.fromkeys(p for names in taken.values() for p in names))
        properties: Schema = {"detector": _ref("detector"), **self.section(ModelValues)["properties"]}
        for part in parts:
            lists = [{"type": "array", "items": _ref(part), "minItems": 1}] if part == "box_loss" else []
            properties[part] = {"anyOf": [_ref(part), *lists, {"type": "null"}], "description": KINDS[part]}
        rules = [
            {
                "if": {"required": ["detector"], "properties": {"detector": _named(name)}},
                "then": {"propertyNames": {"enum": ["detector", *ModelValues.model_fields, *names]}},
            }
            for name, names in taken.items()
        ]
        return {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
            **({"allOf": rules} if rules else {}),
        }

    def kind(self, kind: str) -> Schema:
        """A part of this kind: its bare name, or a mapping; one without a name changes arguments of the part
        in the base."""
        rows = self.registry.find(kind)
        known = [c.name for c in rows if self.arguments[c.kind, c.name] is not None]
        for row in rows:
            self.definitions[f"{kind}.{row.name}"] = self.component(row)
        anything = len(known) < len(rows)
        keys = dict.fromkeys(
            ["name", *(a for n in known for a in self.definitions[f"{kind}.{n}"]["properties"])]
        )
        nameless = {} if anything else {"propertyNames": {"enum": list(keys)}}
        rules: list[Schema] = [
            {
                "if": {"required": ["name"], "properties": {"name": {"const": c.name}}},
                "then": {"$ref": f"#/$defs/{kind}.{c.name}"},
            }
            for c in rows
        ]
        rules.append({"if": {"not": {"required": ["name"]}}, "then": nameless})
        mapping = {"type": "object", "properties": {"name": _names(rows)}, "allOf": rules}
        return {"description": KINDS[kind], "anyOf": [_names(rows), mapping]}

    def component(self, row: Component) -> Schema:
        arguments = self.arguments[row.kind, row.name]
        described = {
            "type": "object",
            "description": row.summary + (f" ({row.origin})" if row.origin else ""),
        }
        if arguments is None:
            return described
        properties: Schema = {"name": {"const": row.name, "description": row.summary}}
        for argument in arguments.values():
            if not argument.wired:
                slot = argument.slot
                where = f"{row.kind}.{row.name}.{argument.name}"
                properties[argument.name] = (
                    self.slot(slot, argument) if slot else self.argument(argument, where)
                )
        for name, kept in reserved_arguments(row.kind).items():
            properties[name] = self.argument(kept, f"{row.kind}.{row.name}.{name}")
        return {**described, "properties": properties, "additionalProperties": False}

    def slot(self, slot: Slot, argument: Argument) -> Schema:
        schema: Schema = {"type": "array", "items": _ref(slot.kind)} if slot.many else _ref(slot.kind)
        return _annotated(_or_null(schema) if slot.optional else schema, argument)

    def argument(self, argument: Argument, where: str) -> Schema:
        """The schema of a plain argument; its own definitions move to the top under names that start with
        ``where``."""
        try:
            schema = argument.adapter.json_schema(ref_template=f"#/$defs/{where}.{{model}}")
        except (PydanticInvalidForJsonSchema, TypeError, ValueError):
            schema = TypeAdapter(Any).json_schema()
        for name, definition in schema.pop("$defs", {}).items():
            self.definitions[f"{where}.{name}"] = definition
        schema.pop("default", None)
        return _annotated(schema, argument)


def _names(rows: list[Component]) -> Schema:
    return {"type": "string", "enum": [c.name for c in rows]} if rows else {"type": "string"}


def _named(name: str) -> Schema:
    return {
        "anyOf": [
            {"const": name},
            {"type": "object", "required": ["name"], "properties": {"name": {"const": name}}},
        ]
    }


def _ref(kind: str) -> Schema:
    return {"$ref": f"#/$defs/{kind}"}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _annotated(schema: Schema, argument: Argument) -> Schema:
    default = argument.default_value()
    extra = {"description": argument.doc} if argument.doc else {}
    return {**schema, **extra, **({} if default is MISSING else {"default": default})}
