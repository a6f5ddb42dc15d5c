"""The table of components: what it takes, what it refuses, what it says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from densedet.registry import (
    KINDS,
    Component,
    DuplicateComponent,
    InvalidComponent,
    Registry,
    RegistryError,
    UnknownComponent,
)


class Head:
    """A head.

    More of it.
    """

    def __init__(self, *, depth: int = 4) -> None:
        self.depth = depth


class Other:
    """Another head."""


class Hidden:
    def __init__(self, **arguments: int) -> None: ...


class Inherits(Hidden):
    """Like an nn.Module without a constructor."""


class Starred:
    def __init__(self, *arguments: int) -> None: ...


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_register_and_load(registry: Registry) -> None:
    assert registry.register("head", "mine")(Head) is Head
    component = registry.get("head", "mine")
    assert component.load() is Head
    assert component.summary == "A head."


def test_lazy_target_is_imported_at_first_use(registry: Registry) -> None:
    registry.add("schedule", "lazy", "json:dumps_that_is_not_there", "a summary")
    registry.add("schedule", "good", "colorsys:rgb_to_hsv")
    assert registry.get("schedule", "lazy").summary == "a summary"
    assert registry.get("schedule", "good").load()(0, 0, 0) == (0.0, 0.0, 0)
    with pytest.raises(InvalidComponent, match="AttributeError: module 'json' has no attribute"):
        registry.get("schedule", "lazy").load()


def test_a_target_that_does_not_import_gives_the_real_error_each_time() -> None:
    component = Component("head", "lost", "no_such_module:Head", origin="./x.py")
    for _ in range(2):
        with pytest.raises(
            InvalidComponent,
            match=r"head 'lost' \(from \./x\.py\).*ModuleNotFoundError: No module named 'no_such_module'",
        ):
            component.load()


@pytest.mark.parametrize(
    ("target", "phrase"),
    [
        (Hidden, r"takes \*\*arguments"),
        (Starred, r"takes \*arguments"),
        (Inherits, r"inherits .* 'def __init__\(self\) -> None"),
        (3, "is a int"),
    ],
)
def test_targets_that_hide_their_arguments_are_refused(
    registry: Registry, target: object, phrase: str
) -> None:
    with pytest.raises(InvalidComponent, match=phrase):
        registry.add("head", "x", target)
    assert registry.names("head") == []


def test_unknown_kinds_and_names_get_suggestions(registry: Registry) -> None:
    registry.add("head", "retinanet", Head)
    with pytest.raises(RegistryError, match=r"unknown kind 'haed'\. Did you mean 'head'\?"):
        registry.add("haed", "x", Head)
    with pytest.raises(
        UnknownComponent,
        match=r"no head is called 'retinante'\. Did you mean 'retinanet'\? Registered: retinanet",
    ):
        registry.get("head", "retinante")
    with pytest.raises(UnknownComponent, match="Registered: none"):
        registry.get("neck", "x")
    with pytest.raises(RegistryError, match="needs a name"):
        registry.add("head", "", Head)


def test_names_are_unique_within_a_kind(registry: Registry) -> None:
    with registry.registering("first 1.0"):
        registry.add("head", "x", Head)
    registry.add("neck", "x", Head)
    with pytest.raises(DuplicateComponent, match=r"already registered by first 1\.0"):
        registry.add("head", "x", Other)
    assert registry.get("head", "x").load() is Head


def test_the_same_code_may_register_again(registry: Registry) -> None:
    """A cell of a notebook that is run twice makes a new class of the same name in the same module."""

    def cell() -> type:
        class Mine:
            pass

        return Mine

    first, second = cell(), cell()
    registry.add("head", "x", first)
    registry.add("head", "x", second)
    assert registry.get("head", "x").load() is second
    registry.add("head", "lazy", f"{__name__}:Head")
    registry.add("head", "lazy", Head)
    assert registry.get("head", "lazy").load() is Head


def test_registering_marks_the_origin_and_undoes_on_failure(registry: Registry) -> None:
    def half() -> None:
        with registry.registering("bad"):
            registry.add("head", "x", Head)
            registry.add("head", "x", Other)

    with pytest.raises(DuplicateComponent):
        half()
    assert registry.names("head") == []
    with registry.registering("good"):
        registry.add("head", "x", Head)
    registry.add("head", "y", Other)
    assert [(c.name, c.origin) for c in registry.find("head")] == [("x", "good"), ("y", "")]


def test_find_takes_wildcards_and_sorts_by_kind_then_name(registry: Registry) -> None:
    for kind, name in [
        ("neck", "b"),
        ("neck", "a"),
        ("backbone", "resnet18"),
        ("backbone", "resnet50"),
        ("backbone", "vgg"),
    ]:
        registry.add(kind, name, Head)
    assert [c.name for c in registry.find("backbone", "resnet*")] == ["resnet18", "resnet50"]
    assert [(c.kind, c.name) for c in registry.find(name="?")] == [("neck", "a"), ("neck", "b")]
    assert [c.kind for c in registry.find()] == ["backbone"] * 3 + ["neck"] * 2
    assert list(KINDS).index("backbone") < list(KINDS).index("neck")


def test_snapshot_and_restore(registry: Registry) -> None:
    registry.add("head", "x", Head)
    rows = registry.snapshot()
    registry.add("head", "y", Other)
    registry.restore(rows)
    assert registry.names("head") == ["x"]
    registry.add("head", "z", Other)
    assert ("head", "z") not in rows


def test_a_second_copy_of_the_registry_is_refused() -> None:
    code = (
        "import importlib.util as util, densedet.registry as known\n"
        "spec = util.spec_from_file_location('registry', known.__file__)\n"
        "spec.loader.exec_module(util.module_from_spec(spec))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "would make a second, empty registry" in done.stderr
