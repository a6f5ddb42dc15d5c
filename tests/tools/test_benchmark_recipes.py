"""Recipes that state what they reach, proved by training them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from densedet.core.recipe import merging
from densedet.core.recipe.loading import RecipeError, load_recipe, recipe_from_dict
from densedet.core.recipe.merging import shipped_recipes
from densedet.tools import benchmark_recipes
from densedet.tools.main import main

SMALL = """
base: densedet:quickstart_ssd.yaml
{expects}
data:
  train: {{name: digits, count: 8, size: [64, 32]}}
  val: {{name: digits, split: val, count: 2, size: [64, 32]}}
  input_size_wh: [64, 32]
  cache_gb: 0
train: {{budget: {{steps: 1}}, batch_size: 4}}
"""


def written(folder: Path, expects: str) -> str:
    path = folder / "small.yaml"
    path.write_text(SMALL.format(expects=expects))
    return str(path)


def test_a_recipe_is_proved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One step learns next to nothing."""
    path = written(tmp_path, "expects: {AP: 0.9, minutes: 10, seeds: 2}")
    assert main(["benchmark", "recipes", path, "train.batch_size=2", "--json"]) == 1
    [row] = json.loads(capsys.readouterr().out)
    assert (row["expected"], row["expected_minutes"], row["metric"], row["reached"]) == (
        0.9,
        10.0,
        "AP",
        False,
    )
    assert len(row["each"]) == 2
    assert row["found"] == pytest.approx(sum(row["each"]) / 2)
    assert 0 < row["minutes"] < 10


def test_minutes_count_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    losses = ["evaluate.metric=losses.class", "evaluate.higher_is_better=true"]  # above .001 in any case
    path = written(tmp_path, "expects: {AP: 0.001, minutes: 10}")
    assert main(["benchmark", "recipes", path, *losses]) == 0
    assert "expected 0.001 after 10: reached" in capsys.readouterr().out
    path = written(tmp_path, "expects: {AP: 0.001, minutes: 0.00001}")
    assert main(["benchmark", "recipes", path, *losses]) == 1
    assert "NOT reached" in capsys.readouterr().out
    budget = "train.budget={minutes: 0.00001}"  # one step, which takes longer
    assert main(["benchmark", "recipes", path, budget, *losses]) == 0


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["train.seed=1"], "name a recipe before train.seed=1"),
        (["ssd300_vgg16"], "ssd300_vgg16 does not state what it reaches"),
    ],
)
def test_what_cannot_be_proved(given: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "recipes", *given]) == 2
    assert sentence in capsys.readouterr().err


def test_without_names_those_are_proved_that_bring_their_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = written(tmp_path, "expects: {AP: 0.5, minutes: 10, data: blood cells}")
    monkeypatch.setattr(merging, "shipped_recipes", lambda: ["ssd300_vgg16", "quickstart_ssd", given])
    assert benchmark_recipes.named([]) == [("quickstart_ssd", [])]
    told = capsys.readouterr().err
    assert f"densedet benchmark recipes {given} data.root=DIR (it states 0.5 on blood cells)" in told
    assert benchmark_recipes.named([given, "data.root=x"]) == [(given, ["data.root=x"])]


def test_a_statement_holds_for_its_own_file(tmp_path: Path) -> None:
    stated = load_recipe("quickstart_ssd")
    assert stated.expects is not None
    assert 0.5 < stated.expects.AP < 1
    heir = load_recipe(written(tmp_path, ""))
    assert heir.expects is None
    assert "expects" not in stated.values  # a run's recipe says what was done
    assert recipe_from_dict({**stated.values, "expects": {"AP": 2}}).values == stated.values


@pytest.mark.parametrize(
    ("expects", "sentence"),
    [
        ("{AP: 1.5, minutes: 1}", "less than or equal to 1"),
        ("{AP: 0.5}", "'minutes' is missing"),
        ("{AP: 0.5, minutes: 1, seed: 3}", "Did you mean 'seeds'"),
        ("[0.5]", "is a mapping of AP, minutes, seeds, data"),
    ],
)
def test_a_wrong_statement_is_a_fault(tmp_path: Path, expects: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as refused:
        load_recipe(written(tmp_path, f"expects: {expects}"))
    assert "small.yaml:3:" in str(refused.value)
    assert sentence in str(refused.value)


def test_the_quick_starts_state_what_they_reach() -> None:
    stated = {name for name in shipped_recipes() if load_recipe(name).expects is not None}
    assert {"quickstart_ssd", "quickstart_retinanet"} <= stated
