"""What a faulty override is told: the key that was meant, and that it is the override which is at fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from densedet.core.recipe.catalog import find_components, list_components
from densedet.core.recipe.faults import Fault, RecipeError
from densedet.core.recipe.loading import load_recipe, recipe_from_dict
from densedet.core.training.fit import check_fit
from densedet.registry import UnknownComponent


def faults_of(recipe: str | Path, *overrides: str) -> list[Fault]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, overrides)
    return caught.value.faults


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        ("train.lr=0.1", "train.optimizer.lr"),
        ("lr=0.1", "train.optimizer.lr"),
        ("learning_rate=0.1", "train.optimizer.lr"),
        ("epochs=5", "train.budget.epochs"),
        ("train.epoch=5", "train.budget.epochs"),
        ("batch_size=4", "train.batch_size or evaluate.batch_size"),
        ("data.batch_size=4", "train.batch_size or evaluate.batch_size"),
        ("matcher=iou", "model.matcher"),
        ("model.detector.positive=0.4", "model.matcher.positive"),
        ("head.depth=2", "model.head"),
        ("crowd=drop", "data.filter.crowd or data.val_filter.crowd"),
        ("train.batchsize=4", "'batch_size'"),
    ],
)
def test_a_key_that_stands_elsewhere_is_suggested(override: str, advice: str) -> None:
    (fault,) = faults_of("quickstart_ssd", override)
    assert f"Did you mean {advice}?" in fault.message
    assert (fault.file, fault.line) == ("command line", 1)


def test_a_key_of_a_file_is_suggested_too(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("base: quickstart_ssd\nepochs: 5\n")
    (fault,) = faults_of(file)
    assert (fault.line, "Did you mean train.budget.epochs?" in fault.message) == (2, True)


def test_nothing_is_suggested_for_what_stands_nowhere_or_everywhere() -> None:
    for override in ("train.qqq=1", "train.name=1"):
        assert "Did you mean" not in faults_of("quickstart_ssd", override)[0].message


def test_an_override_that_makes_a_file_faulty_is_named(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("base: quickstart_ssd\ndata: {category_ids: [1, 2, 3]}\n")
    (fault,) = faults_of(file, "train.seed=3", "data.classes=[a, b]")
    assert (fault.file, fault.line, fault.path) == ("command line", 2, "data.category_ids")
    assert f"data.classes=[a, b] does not go with what stands at {file}:2:22" in fault.message
    with pytest.raises(RecipeError, match=r"data.classes=\['a'\] does not go with"):
        load_recipe(file, {"train.seed": 3, "data.classes": ["a"]})
    with pytest.raises(RecipeError, match=r"command line:1:1: data.category_ids"):
        recipe_from_dict(load_recipe(file, ["data.classes=[a, b, c]"]).values, overrides=["data.classes=[a]"])


def test_a_fault_of_the_file_stays_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("base: quickstart_ssd\ndata: {category_ids: 3}\n")
    (fault,) = faults_of(file, "data.classes=[a, b]")
    assert (fault.file, fault.line) == (str(file), 2)


def test_parts_that_do_not_fit_after_an_override_name_it() -> None:
    recipe = load_recipe("quickstart_ssd", ["train.seed=3", "model.neck=null"])
    with pytest.raises(RecipeError, match=r"(?s)model.anchors: .*of the command line: model.neck=null"):
        check_fit(recipe)


def test_a_parts_name_may_stand_for_its_kind() -> None:
    assert [(row.kind, row.name) for row in find_components("focal", "*", ())] == [("class_loss", "focal")]
    assert [row["kind"] for row in list_components("retinanet", "head")] == ["head"]
    with pytest.raises(UnknownComponent, match="Did you mean 'focal'"):
        find_components("foca", "*", ())
