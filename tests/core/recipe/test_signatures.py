"""What a part takes: its arguments' types, defaults and descriptions."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic.errors import PydanticInvalidForJsonSchema

from densedet.core.recipe import source_signatures
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.core.recipe.sections import SECTIONS, ModelValues, section_of_field
from densedet.core.recipe.signatures import Argument, argument_docs, arguments_of, describe_component
from densedet.registry import Component, Registry


class Described:
    """A part whose docstring has Google's style.

    It stands for any part: with a colon here, and a name: depth.

    Args:
        in_channels: (wired) channels of each level.
        depth: number of layers,
            0 or more.
        norm (str): "batch" or "none".

    Attributes:
        depth: what it was given.

    Raises:
        PartError: where `norm` is unknown.
    """

    def __init__(self, *, in_channels: tuple[int, ...], depth: int = 1, norm: str = "batch") -> None:
        self.depth = depth


def test_descriptions_come_from_the_args_of_the_docstring() -> None:
    assert argument_docs([inspect.getdoc(Described) or ""]) == {
        "in_channels": "channels of each level.",
        "depth": "number of layers, 0 or more.",
        "norm": '"batch" or "none".',
    }


def test_the_nearest_docstring_describes() -> None:
    docstrings = ["Mine.\n\nArgs:\n    a: near.", "Base.\n\nArgs:\n    a: far.\n    b: inherited."]
    assert argument_docs(docstrings) == {"a": "near.", "b": "inherited."}


def test_a_docstring_in_another_style_gives_no_descriptions() -> None:
    assert argument_docs(["progress: 0..1.\n\nArgs:\n"]) == {}


def test_a_listing_has_the_description_without_its_args() -> None:
    registry = Registry()
    registry.add("head", "described", Described)
    facts = describe_component(registry.get("head", "described"))
    assert facts["doc"] == (
        "A part whose docstring has Google's style.\n\n"
        "It stands for any part: with a colon here, and a name: depth."
    )
    assert [row["doc"] for row in facts["arguments"]][1] == "number of layers, 0 or more."


BUILT_IN = [row for row in load_plugins().components.find() if row.origin.startswith("densedet ")]


@pytest.mark.parametrize("row", BUILT_IN, ids=lambda row: f"{row.kind}-{row.name}")
def test_a_built_in_part_is_read_from_its_source_as_it_is_imported(row: Component) -> None:
    read = dataclasses.replace(row, _loaded=None, arguments=None)
    before = arguments_of(read)
    assert read.arguments_read and not read.loaded
    after = arguments_of(read, built=True)
    assert read.loaded and after is not before
    assert [facts(argument) for argument in before.values()] == [facts(a) for a in after.values()]


def facts(argument: Argument) -> tuple[Any, ...]:
    try:
        schema = argument.adapter.json_schema()
    except PydanticInvalidForJsonSchema as error:
        schema = {"none": str(error)}
    return argument.summary, argument.wired, argument.doc, argument.slot, argument.required, schema


FAULTY = """
import sys
from densedet.core.recipe.loading import RecipeError, load_recipe
try:
    wrong = ["model.matcher.positive=often", "model.neck.stages.0.kernal=3", "train.x=1"]
    load_recipe("quickstart_ssd", wrong)
except RecipeError as error:
    print(*(fault.path for fault in error.faults), "torch" in sys.modules, "numpy" in sys.modules)
"""


def test_the_faults_of_a_recipe_are_found_without_importing_torch() -> None:
    said = subprocess.run([sys.executable, "-c", FAULTY], capture_output=True, text=True, check=True).stdout
    assert said.split() == [
        "model.matcher.positive",
        "model.neck.stages.0.kernal",
        "train.x",
        "False",
        "False",
    ]


@pytest.mark.parametrize(
    "body",
    [
        "def __init__(self, *, depth: int = 1, **rest: int) -> None: ...",
        "def __init__(self, *, depth: int = made_at_run_time()) -> None: ...",
        "def __init__(self, *, depth: NotThere = 1) -> None: ...",
        "def other(self) -> None: ...",
    ],
)
def test_what_a_source_does_not_tell_is_unreadable(monkeypatch: Any, tmp_path: Path, body: str) -> None:
    (tmp_path / "strange.py").write_text(f"class Part:\n    {body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(source_signatures, "READ", ("strange",))
    source_signatures._source.cache_clear()
    with pytest.raises(source_signatures.Unreadable):
        source_signatures.read_signature("strange:Part")


def test_every_settable_argument_of_every_built_in_part_is_described() -> None:
    assert len(BUILT_IN) > 80
    silent = [
        f"{row.kind} {row.name}: {argument.name}"
        for row in BUILT_IN
        for argument in arguments_of(row).values()
        if not argument.wired and not argument.doc
    ]
    assert not silent


def test_every_field_of_every_section_is_described() -> None:
    tables = [*SECTIONS.values(), ModelValues]
    silent = []
    for table in tables:
        for name, info in table.model_fields.items():
            if nested := section_of_field(info):
                tables.append(nested)
            if not info.description:
                silent.append(f"{table.__name__}.{name}")
    assert not silent and len(tables) > 6
