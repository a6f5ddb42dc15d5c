"""Which rungs lie between two recipes, and which runs a ladder asks for."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from densedet.core.errors import UsageError
from densedet.core.mappings import at_path
from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.loading import load_recipe
from densedet.core.report.ladder import plan_lines
from densedet.core.study.ladder import plan_ladder
from densedet.core.study.mixing import change_words, value_words
from densedet.core.study.places import digest_of
from densedet.core.study.planning import Plan


def recipe_file(folder: Path, name: str, *lines: str) -> str:
    path = folder / f"{name}.yaml"
    path.write_text("\n".join(["base: densedet:quickstart_ssd.yaml", *lines]))
    return str(path)


def titles(plan: Plan) -> list[str]:
    assert plan.ladder is not None
    return [step.title for step in plan.ladder.steps]


@pytest.fixture(scope="module")
def plan() -> Plan:
    """The ladder of the quick starts."""
    return plan_ladder(["quickstart_ssd", "quickstart_retinanet"], seeds=2)


def test_from_ssd_to_retinanet_one_part_a_step(plan: Plan) -> None:
    parts = ["neck", "anchors", "head", "matcher", "coder", "class_loss", "box_loss", "postprocess"]
    assert titles(plan) == parts
    assert plan.ladder is not None
    rungs = [plan.recipes[name, ""] for name in plan.ladder.rungs]
    for (below, above), part in zip(pairwise(rungs), parts, strict=True):
        models = below.values["model"], above.values["model"]
        assert [key for key in models[0] if models[0][key] != models[1][key]] == [part]
        for section in ("data", "train"):
            assert below.values[section] == above.values[section]
    # Both ends are the recipes themselves: a comparison of the two finds their runs.
    assert digest_of(rungs[0]) == digest_of(load_recipe("quickstart_ssd"))
    assert digest_of(rungs[-1]) == digest_of(load_recipe("quickstart_retinanet"))
    assert plan.ladder.rungs[:2] == ["quickstart_ssd", "1 +neck"]
    assert plan.ladder.rungs[-1] == "quickstart_retinanet"
    assert plan.study.arms[2].varies.keys() == {"model.neck", "model.anchors"}


def test_neighbours_are_trained_in_both_orders(plan: Plan) -> None:
    assert plan.ladder is not None
    swaps = plan.ladder.swaps
    assert [swap.arm for swap in swaps[:2]] == ["1' +anchors", "2' +head"]
    rung, other = plan.recipes["1 +neck", ""], plan.recipes["1' +anchors", ""]
    bottom, top = plan.recipes["quickstart_ssd", ""], plan.recipes["quickstart_retinanet", ""]
    assert other.values["model"] == bottom.values["model"] | {"anchors": top.values["model"]["anchors"]}
    assert rung.values["model"] == bottom.values["model"] | {"neck": top.values["model"]["neck"]}
    # 9 rungs and 7 pairs of 8 steps, 2 seeds each.
    assert len(plan.study.runs) == 2 * (9 + 7)
    assert plan_lines(plan.ladder, 2, 1)[-1] == "9 rungs and 7 in the other order, 2 seeds each: 32 runs"


def test_swaps_are_limited_and_an_order_is_wished_for() -> None:
    names = ["quickstart_ssd", "quickstart_retinanet"]
    plan = plan_ladder(names, order="class_loss,head+neck", swaps="1")
    assert titles(plan)[:3] == ["class_loss", "head + neck", "anchors"]
    assert plan.ladder is not None
    step = plan.ladder.steps[1]
    assert list(step.changes.values()) == ["ssd → retinanet", "ssd_extras → fpn"]
    assert step.refused[0].startswith("head cannot change alone: model.head: head 'retinanet'")
    assert [swap.arm for swap in plan.ladder.swaps if swap.arm] == ["1' +head + neck"]
    lines = plan_lines(plan.ladder, 1, 1)
    assert "  the other order of 5 pairs of steps: left out by --swaps" in lines
    assert lines[-1] == "8 rungs and 1 in the other order, 1 seed each: 9 runs"
    own = plan_ladder(names, swaps="coder, head").ladder
    assert own is not None
    pairs = [(swap.lower.title, swap.upper.title) for swap in own.trained_swaps]
    assert pairs == [("anchors", "head"), ("head", "matcher"), ("matcher", "coder"), ("coder", "class_loss")]
    with pytest.raises(UsageError, match="'nick' is no step; write how many pairs, or .*: neck, anchors"):
        plan_ladder(names, swaps="nick")
    for order, sentence in (
        ("head,neck", "head cannot change first: .*put a neck with one width before it"),
        ("backbone", "'backbone' is none of what differs: neck, anchors"),
        ("neck,neck", "neck changes twice"),
    ):
        with pytest.raises(UsageError, match=sentence):
            plan_ladder(names, order=order)


def test_a_step_that_must_wait_says_why(tmp_path: Path) -> None:
    # The default boxes have scales for four levels, and the new neck has five.
    parts = "neck: {name: fpn, channels: 32, extra_levels: 2}, anchors: {name: octave}"
    plan = plan_ladder(["quickstart_ssd", recipe_file(tmp_path, "upper", f"model: {{{parts}}}")])
    assert titles(plan) == ["anchors", "neck"]
    assert plan.ladder is not None
    [why] = plan.ladder.steps[1].refused
    assert why.startswith("neck cannot change before anchors: model.anchors: ")
    assert "the neck has 5 levels: give 6" in why
    [swap] = plan.ladder.swaps
    assert (swap.arm, "the neck has 5 levels" in swap.why) == ("", True)
    assert len(plan.study.runs) == 3, "the rungs alone"


def test_settings_of_training_are_steps_and_those_of_the_machine_are_not(tmp_path: Path) -> None:
    lines = [
        "model: {matcher: {negative: 0.4}, box_loss: {beta: 0.5}}",
        "data: {workers: 1}",
        "train: {ema_decay: 0.9, seed: 4}",
    ]
    plan = plan_ladder(["quickstart_ssd", recipe_file(tmp_path, "upper", *lines)])
    assert titles(plan) == ["matcher", "box_loss", "ema_decay"]
    assert plan.study.notes == ["All rungs have the data.workers of quickstart_ssd."]
    assert {recipe.data.workers for recipe in plan.recipes.values()} == {0}
    assert plan.study.seeds == [0]
    assert plan.ladder is not None
    assert [list(step.changes.values()) for step in plan.ladder.steps] == [
        ["negative 0.5 → 0.4"],
        ["beta 1.0 → 0.5"],
        ["0.99 → 0.9"],
    ]


def test_recipes_with_plugins_of_their_own(tmp_path: Path) -> None:
    for name in ("lower", "upper"):
        (tmp_path / f"{name}_parts.py").write_text(
            "import densedet\nfrom densedet.plugins.matchers.iou import IoUMatcher\n\n"
            f"@densedet.register('matcher', '{name}')\n"
            f"class Matcher(IoUMatcher):\n    '''The one of {name}.'''\n"
        )
    plugins = [f"plugins: [./{name}_parts.py]" for name in ("lower", "upper")]
    names = [
        recipe_file(tmp_path, "lower", plugins[0], "model: {matcher: {name: lower}}"),
        recipe_file(
            tmp_path, "upper", plugins[1], "model: {matcher: {name: upper}, postprocess: {iou: 0.6}}"
        ),
    ]
    plan = plan_ladder(names)
    assert titles(plan) == ["matcher", "postprocess"]
    between = plan.recipes["1 +matcher", ""]
    assert at_path(between.values, "model.matcher.name") == "upper"
    assert [Path(name).name for name in between.values["plugins"]] == ["lower_parts.py", "upper_parts.py"]
    assert between.name == "lower_to_upper"
    other = plan.recipes["1' +postprocess", ""]
    assert at_path(other.values, "model.matcher.name") == "lower"


@pytest.mark.parametrize(
    ("lower", "upper", "overrides", "sentence"),
    [
        ("quickstart_ssd", "quickstart_ssd", [], "named twice"),
        ("quickstart_ssd", "densedet:quickstart_ssd.yaml", [], "train the same"),
        ("quickstart_ssd", "bccd_ssd", [], "share their data, .* data.train=digits .* or --on NAME=PATH"),
        ("{classes}", "quickstart_ssd", [], r'their data, .*data.classes=\["1"\] and quickstart_ssd null'),
        ("{metric}", "quickstart_ssd", [], "share their evaluation, .*evaluate.metric=AP50"),
        ("{budget}", "quickstart_ssd", [], "one budget, .*write --budget minutes=5"),
        ("{batch}", "quickstart_ssd", [], "different numbers of images: train.batch_size differs"),
        ("quickstart_ssd", ".", [], "is a folder"),
        ("quickstart_ssd", "nowhere", [], "neither such a run folder nor such a recipe"),
        ("quickstart_ssd", "quickstart_retinanet", ["model.matcher.positive=7"], "at most 1"),
        ("quickstart_ssd", "quickstart_retinanet", ["model.neck=identity"], "the neck has 3 levels"),
    ],
)  # fmt: skip
def test_what_no_ladder_leads_to_is_refused(
    tmp_path: Path, lower: str, upper: str, overrides: list[str], sentence: str
) -> None:
    texts = {
        "classes": "data: {classes: ['1']}",
        "metric": "evaluate: {metric: AP50}",
        "budget": "train: {budget: {epochs: 3}}",
        "batch": "train: {batch_size: 8}",
    }
    if lower.startswith("{"):
        lower = recipe_file(tmp_path, "lower", texts[lower.strip("{}")])
    with pytest.raises((UsageError, RecipeError), match=sentence):
        plan_ladder([lower, upper], overrides)


def test_two_recipes_make_a_ladder() -> None:
    with pytest.raises(UsageError, match="3 are given: name two"):
        plan_ladder(["quickstart_ssd", "quickstart_retinanet", "bccd_ssd"])
    with pytest.raises(UsageError, match="quickstart_ssd is given alone"):
        plan_ladder(["quickstart_ssd"])


def test_values_in_words() -> None:
    assert change_words({"name": "a", "x": 1}, {"name": "b"}) == "a → b"
    assert change_words({"name": "a", "x": 1, "y": 2}, {"name": "a", "x": 3, "y": 2}) == "x 1 → 3"
    assert change_words([{"name": "flip"}], []) == "[flip] → []"
    assert change_words(None, 0.5) == "null → 0.5"
    assert value_words([1] * 40) == f"{str([1] * 40)[:59]}…"
