"""Merging, overrides, origins, the resolved copy, and YAML's meaning of scalars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from densedet.core.recipe.loading import Recipe, RecipeError, load_recipe, recipe_from_dict
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.core.recipe.yaml_marks import parse_yaml
from densedet.registry import Registry

PARTS = """
import enum
from typing import Annotated
import densedet
from torch import nn
from densedet.core.arguments import Part, PositiveInt, Probability

class Mode(enum.Enum):
    FAST = "fast"
    EXACT = "exact"

class Head:
    '''A head.

    depth: convolutions of each tower. size (wired): never mind. p: share
    that is kept, 0..1. in_channels (wired): of the neck.
    '''
    def __init__(self, *, in_channels: tuple[int, ...], depth: PositiveInt = 4, p: Probability = 0.5,
                 sizes: tuple[float, ...] | None = (1, 2.5), mode: Mode = Mode.FAST, act: type = nn.ReLU): ...

class Other:
    def __init__(self, *, depth: PositiveInt, names: dict[str, int] = {}): ...

class Stack:
    def __init__(self, *, in_channels: int, stages: Annotated[list[nn.Module], Part("neck")],
                 last: Annotated[nn.Module | None, Part("neck")] = None): ...

class Plain:
    def __init__(self, *, free=1, gone: "NoSuchType" = 2): ...

class Detector:
    def __init__(self, *, num_classes: int, head: nn.Module, neck: Annotated[nn.Module | None, Part("neck")] = None, top: int = 5): ...

class Nothing:
    def __init__(self, *, lr: float = 0.1): ...
    @densedet.hookimpl
    def densedet_run_start(self, run): ...

@densedet.hookimpl
def densedet_register(registry):
    rows = {("detector", "dense"): Detector, ("head", "a"): Head, ("head", "b"): Other, ("neck", "stack"): Stack, ("neck", "plain"): Plain}
    for kind, name in [("source", "s"), ("resize", "exact"), ("optimizer", "adamw"), ("schedule", "cosine"), ("evaluator", "coco"),
                       ("transform", "flip"), ("hook", "metrics"), ("hook", "checkpoint"), ("hook", "tensorboard"), ("hook", "progress"),
                       ("hook", "pictures"), ("sampler", "shuffle")]:
        rows[kind, name] = Nothing
    for (kind, name), target in rows.items():
        registry.add(kind, name, target)
"""  # noqa: E501
BASE = "model: {head: {name: a, depth: 2}}\ndata: {train: s}\ntrain: {budget: {epochs: 3}}\n"


@pytest.fixture
def registry() -> Registry:
    """A registry without the built-ins."""
    registry = Registry()
    load_plugins(registry=registry, builtins=False)
    return registry


def load(
    registry: Registry, folder: Path, text: str, overrides: tuple[str, ...] = (), **files: str
) -> Recipe:
    (folder / "parts.py").write_text(PARTS)
    (folder / "parts.yaml").write_text("plugins: [./parts.py]\n" + BASE)
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(content)
    (folder / "r.yaml").write_text(text)
    return load_recipe(folder / "r.yaml", overrides, registry=registry)


def test_mappings_merge_and_scalars_and_lists_replace(registry: Registry, tmp_path: Path) -> None:
    text = "base: parts.yaml\nmodel: {head: {p: 0.25, sizes: [9]}}\ntrain: {frozen: [x]}\n"
    recipe = load(registry, tmp_path, text)
    assert recipe.values["model"]["head"] == {
        "name": "a",
        "depth": 2,
        "p": 0.25,
        "sizes": [9],
        "mode": "fast",
    }
    assert recipe.values["train"]["budget"]["epochs"] == 3
    assert recipe.values["train"]["frozen"] == ["x"]


def test_a_changed_name_replaces_the_whole_mapping(registry: Registry, tmp_path: Path) -> None:
    recipe = load(registry, tmp_path, "base: parts.yaml\nmodel: {head: {name: b, depth: 7}}\n")
    assert recipe.values["model"]["head"] == {"name": "b", "depth": 7, "names": {}}
    with pytest.raises(RecipeError, match=r"r\.yaml:2:15: model\.head: head 'b' needs 'depth'"):
        load(registry, tmp_path, "base: parts.yaml\nmodel: {head: {name: b}}\n")


def test_an_unchanged_bare_name_keeps_the_arguments(registry: Registry, tmp_path: Path) -> None:
    assert (
        load(registry, tmp_path, "base: parts.yaml\nmodel: {head: a}\n").values["model"]["head"]["depth"] == 2
    )


def test_bases_apply_in_order_and_chains_start_at_the_file_that_names_them(
    registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "deep.yaml").write_text("base: ../one.yaml\ntrain: {seed: 5}\n")
    files = {"one": "train: {seed: 1, threads: 1}\n", "two": "train: {seed: 2}\n"}
    assert (
        load(registry, tmp_path, "base: [parts.yaml, sub/deep.yaml, two.yaml]\n", **files).values["train"][
            "seed"
        ]
        == 2
    )
    recipe = load(registry, tmp_path, "base: [parts.yaml, two.yaml, sub/deep.yaml]\n", **files)
    assert (recipe.values["train"]["seed"], recipe.values["train"]["threads"]) == (5, 1)


def test_a_base_named_twice_is_no_cycle(registry: Registry, tmp_path: Path) -> None:
    assert load(registry, tmp_path, "base: [parts.yaml, parts.yaml]\n").name == "r"


def test_null_is_a_value_or_removes(registry: Registry, tmp_path: Path) -> None:
    text = "base: parts.yaml\nmodel: {neck: plain, head: {sizes: null}}\n"
    recipe = load(registry, tmp_path, text)
    assert recipe.values["model"]["head"]["sizes"] is None
    assert recipe.values["model"]["neck"] == {"name": "plain", "free": 1, "gone": 2}
    assert "neck" not in recipe.with_overrides(["model.neck=null"]).values["model"]
    without = recipe.with_overrides(["train=null"])
    assert without.values["train"] is None
    with pytest.raises(RecipeError, match="the section 'train' is null"):
        print(without.train)


def test_val_and_holdout_take_each_other_s_place(registry: Registry, tmp_path: Path) -> None:
    held = "base: parts.yaml\ndata: {holdout: 0.1}\n"
    assert load(registry, tmp_path, held).data.holdout == 0.1
    given = load(registry, tmp_path, held, ("data.val=s",)).data
    assert (given.holdout, given.val["name"]) == (None, "s")
    back = load(registry, tmp_path, "base: parts.yaml\ndata: {val: s}\n", ("data.holdout=0.2",)).data
    assert (back.holdout, back.val) == (0.2, None)
    with pytest.raises(RecipeError, match="there is a data.val already"):
        load(registry, tmp_path, "base: parts.yaml\ndata: {val: s, holdout: 0.1}\n")
    assert load(registry, tmp_path, held, ("data.val=null",)).data.holdout == 0.1


def test_a_budget_replaces_the_budget(registry: Registry, tmp_path: Path) -> None:
    recipe = load(registry, tmp_path, "base: parts.yaml\n", ("train.budget.minutes=5",))
    assert recipe.train.budget.minutes == 5
    assert recipe.train.budget.epochs is None


def test_overrides_become_one_mapping_first(registry: Registry, tmp_path: Path) -> None:
    # Applied one by one, depth would first be set on head 'a' and then be thrown away with it.
    for overrides in (("model.head.depth=9", "model.head.name=b"), ("model.head=b", "model.head.depth=9")):
        recipe = load(registry, tmp_path, "base: parts.yaml\n", overrides)
        assert recipe.values["model"]["head"] == {"name": "b", "depth": 9, "names": {}}


def test_overrides_reach_into_lists_and_defaults(registry: Registry, tmp_path: Path) -> None:
    text = "base: parts.yaml\ndata: {transforms: [flip, {name: flip, lr: 0.2}]}\n"
    overrides = (
        "data.transforms.1.lr=0.3",
        "train.optimizer.lr=1e-4",
        "data.input_size_wh.0=64",
        "run.folder=no",
    )
    values = load(registry, tmp_path, text, overrides).values
    assert [t["lr"] for t in values["data"]["transforms"]] == [0.1, 0.3]
    assert values["train"]["optimizer"] == {"name": "adamw", "lr": 0.0001}
    assert values["data"]["input_size_wh"] == [64, 64]
    assert values["run"]["folder"] == "no"


def test_nested_parts_are_resolved_and_checked(registry: Registry, tmp_path: Path) -> None:
    text = (
        "base: parts.yaml\nmodel:\n  neck:\n    name: stack\n    stages:\n      - plain\n      - "
        "{name: plain, free: [1]}\n"
    )
    neck = load(registry, tmp_path, text).values["model"]["neck"]
    assert neck["stages"] == [
        {"name": "plain", "free": 1, "gone": 2},
        {"name": "plain", "free": [1], "gone": 2},
    ]
    assert neck["last"] is None
    faulty = text.replace("free", "fre").replace("- plain\n", "- {name: stack, in_channels: 1}\n")
    with pytest.raises(RecipeError) as caught:
        load(registry, tmp_path, faulty)
    assert [(f.line, f.column, f.path) for f in caught.value.faults] == [
        (6, 9, "model.neck.stages.0"),  # 'stages' of the inner stack is missing
        (6, 23, "model.neck.stages.0.in_channels"),
        (7, 23, "model.neck.stages.1.fre"),
    ]


def test_origins(registry: Registry, tmp_path: Path) -> None:
    recipe = load(registry, tmp_path, "base: parts.yaml\nmodel: {head: {p: 0.25}}\n", ("train.seed=4",))
    assert str(recipe.origin("model.head.depth")) == f"{tmp_path / 'parts.yaml'}:2:32"
    assert str(recipe.origin("model.head.p")) == f"{tmp_path / 'r.yaml'}:2:19"
    assert str(recipe.origin("train.seed")) == "command line:1:12"
    assert str(recipe.origin("model.head.mode")) == "default of head 'a'"
    assert str(recipe.origin("train.optimizer.lr")) == "default of optimizer 'adamw'"
    error = recipe.error("model.head.depth", "too deep")
    assert str(error) == f"{tmp_path / 'parts.yaml'}:2:32: model.head.depth: too deep"
    assert str(recipe.error("train.optimizer", "no")).startswith(str(tmp_path / "r.yaml"))


def test_the_resolved_copy_loads_to_the_same(registry: Registry, tmp_path: Path) -> None:
    words = [
        "no",
        "1e-4",
        "null",
        "",
        "~",
        "1:20",
        "<<",
        "# x",
        "a: b",
        "é\n\t",
        "1e999",
        "0x1F",
        "- a",
        "x" * 200 + " y" * 100,
    ]
    text = (
        "base: parts.yaml\ndescription: 'yes: \"no\"'\ntrain: {optimizer: {lr: 1e-05}, precision: "
        "bf16}\nmodel: {neck: {name: plain}}\n"
    )
    recipe = load(registry, tmp_path, text).with_overrides(["data.val=s", "train.clip_norm=null"])
    numbers = [1.0, -0.0, 1e300, True, 2**63 - 1]
    keys = [w or "empty" for w in words if w not in ("null", "~", "<<")]
    recipe.values["model"]["neck"]["free"] = [words, {key: {"nested": numbers} for key in keys}]
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    again = load_recipe(folder / "recipe.yaml", registry=registry)
    assert again.values == recipe.values
    assert again.to_yaml() == recipe.to_yaml()
    assert again.values["plugins"] == [str(tmp_path / "parts.py")]


def test_a_removed_section_stays_removed_in_the_copy(registry: Registry, tmp_path: Path) -> None:
    recipe = load(registry, tmp_path, "base: parts.yaml\n", ("train=null",))
    (tmp_path / "copy.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "copy.yaml", registry=registry).values == recipe.values


def test_from_a_checkpoint(registry: Registry, tmp_path: Path) -> None:
    values = load(registry, tmp_path, "base: parts.yaml\n").values
    recipe = recipe_from_dict(values, name="last.pt", plugins=values["plugins"], registry=registry)
    assert recipe.values == values
    assert str(recipe.origin("model.head.depth")) == "last.pt"
    with pytest.raises(
        RecipeError,
        match=r"last\.pt: model\.head\.name: no head is called 'a'.*\n.*pass --plugin .*parts\.py",
    ):
        recipe_from_dict(values, name="last.pt", registry=registry)
    with pytest.raises(RecipeError, match=r"last\.pt: model\.x: a set is no plain value"):
        recipe_from_dict({"model": {"x": {1}}}, name="last.pt", registry=registry)


def test_sections_are_typed(registry: Registry, tmp_path: Path) -> None:
    recipe = load(registry, tmp_path, "base: parts.yaml\n")
    assert recipe.data.input_size_wh == (128, 64)
    assert recipe.train.optimizer == {"name": "adamw", "lr": 0.1}
    assert recipe.data.filter.crowd == "ignore" and recipe.run.hooks[0]["name"] == "metrics"
    assert recipe.data is recipe.data  # made while the recipe was checked, not at each reading
    colors = [recipe.with_overrides([f"data.color={color}"]) for color in ("grey", "rgb")]
    assert [colored.data.channels for colored in colors] == [1, 3]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 0.0001), ("1e5", 1e5), (".5", 0.5), ("-.5", -0.5), ("1.", 1.0), ("017", 17), ("+3", 3), (".inf", float("inf")),  # noqa: E501
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("0o17", "0o17"), ("1:20", "1:20"), ("1_000", "1_000"),  # noqa: E501
        ("2024-01-01", "2024-01-01"), ("0b1", "0b1"), ("True", True), ("tRue", "tRue"), ("~", None), ("Null", None), ("'1'", "1"),  # noqa: E501
        ("!!str 1", "1"), ("!!float 1", 1.0), ("=", "="), ("1e", "1e"), (".", "."),
    ],
)  # fmt: skip
def test_scalars_of_yaml_1_2(text: str, value: object) -> None:
    read = parse_yaml(text, "f").plain()
    assert read == value
    assert type(read) is type(value)


def test_overrides_as_plain_values() -> None:
    recipe = load_recipe(
        "quickstart_ssd",
        {
            "train.batch_size": 8,
            "data": {"input_size_wh": (96, 64)},
            "data.root": Path("x"),
            "model.neck": "identity",
        },
    )
    assert (recipe.train.batch_size, recipe.data.input_size_wh, recipe.data.root) == (8, (96, 64), "x")
    assert recipe.values["model"]["neck"] == {"name": "identity"}, "a part that changes is replaced whole"
    assert recipe.with_overrides({"train.batch_size": 4}).train.batch_size == 4
    assert str(recipe.origin("train.batch_size")).startswith("command line")


@pytest.mark.parametrize(
    ("overrides", "phrase"),
    [
        ({"train.batchsize": 8}, "Did you mean 'batch_size'?"),
        ({"train.batch_size": "8"}, 'given "8"'),
        ({"train..batch_size": 8}, "is no override"),
        ({1: 2}, "no section '1'"),
        ({"train.seed": {1, 2}}, "a set is no plain value"),
        ({"data.root": "a\0b"}, "data.root: the text holds a NUL character"),
        ({"data.train": {"seed": {1, 2}}}, "data.train.seed: a set is no plain value"),
        ({"plugins": []}, "cannot be overridden"),
        ("train.batch_size=8", "write a list, ['train.batch_size=8'], or a mapping"),
        ([("train.batch_size", 8)], "('train.batch_size', 8) is no override: write a list of texts"),
    ],
)
def test_faulty_overrides_as_plain_values(overrides: Any, phrase: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("quickstart_ssd", overrides)
    assert phrase in str(caught.value)


@pytest.mark.parametrize("base", ["quickstart_ssd", "quickstart_ssd.yaml", "densedet:quickstart_ssd.yaml"])
def test_a_base_may_be_a_shipped_recipe_by_its_bare_name(tmp_path: Path, base: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"base: [{base}]\ntrain: {{batch_size: 3}}\n")
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert recipe.train.batch_size == 3
    assert recipe.values["model"] == load_recipe("quickstart_ssd").values["model"]


def test_a_file_wins_over_a_shipped_recipe_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "quickstart_ssd.yaml").write_text("base: densedet:quickstart_ssd.yaml\ntrain: {seed: 7}\n")
    (tmp_path / "mine.yaml").write_text("base: quickstart_ssd.yaml\n")
    assert load_recipe(tmp_path / "mine.yaml").train.seed == 7
