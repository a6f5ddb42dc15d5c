"""The share of objects that anchors fit, counted by hand, and proposals that raise it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from densedet.core.boxes import pairwise_iou
from densedet.core.checking.anchor_check import check_anchors
from densedet.core.checking.coverage import Group, NoCoverageError, Reach, groups_of
from densedet.core.checking.proposal import climb, heir, propose
from densedet.core.recipe.loading import load_recipe
from densedet.core.recipe.signatures import arguments_of

POINTS = (
    "model.anchors={name: points}",
    "model.matcher={name: iou, positive: 0.5, negative: 0.4, low_quality_matches: none}",
)
SMALL = ("model.backbone.widths=[8, 8, 8]", "data.input_size_wh=[64, 32]")


def reach_of(*overrides: str, recipe: str = "quickstart_retinanet") -> Reach:
    return Reach(load_recipe(recipe, [*SMALL, *overrides]), 3)


def group(*boxes: tuple[float, ...], labels: tuple[int, ...] = ()) -> Group:
    """One image of 64 x 32 pixels; the last slot is empty."""
    tensor = torch.tensor([[*boxes, (0.0, 0.0, 0.0, 0.0)]])
    counting = torch.tensor([[True] * len(boxes) + [False]])
    classes = torch.tensor([[*(labels or [0] * len(boxes)), -1]])
    return Group(tensor, classes, counting, (32, 64), ["a"])


def test_objects_are_counted_by_class_size_and_level() -> None:
    """Points of stride 4, 8, 16 and 32 are squares of these sides. Object 0 is the square of stride 8 at
    cell 1, 1 (IoU 1). Object 1, 8 x 4 in that of stride 8 at cell 3, 0, has IoU 32/64, just enough. Object 2
    is 2 x 2 in one of 4 x 4: IoU 4/16, no anchor is positive."""
    found = reach_of(*POINTS).rows([group((8, 8, 16, 16), (24, 0, 32, 4), (1, 1, 3, 3), labels=(0, 1, 1))])
    assert found.best.tolist() == [1, 0.5, -1]
    assert found.levels.tolist() == [1, 0, -1] or found.levels.tolist() == [1, 1, -1]
    assert found.share() == {"objects": 3, "reached": 0.6667, "fitting": 0.6667, "iou": 0.5}
    classes = found.by_class(["cat", "dog", "none"])
    assert classes["cat"] == {"objects": 1, "reached": 1.0, "fitting": 1.0, "iou": 1.0}
    assert classes["dog"] == {"objects": 2, "reached": 0.5, "fitting": 0.5, "iou": 0.25}
    assert classes["none"] == {"objects": 0, "reached": None, "fitting": None, "iou": None}
    assert [(name, row["objects"]) for name, row in found.by_side().items()] == [
        ("0 to 4", 1),
        ("4 to 8", 1),
        ("8 to 16", 1),
    ]
    levels = found.by_level((4, 8, 16, 32))
    assert sum(row["objects"] for row in levels) == 2
    assert (levels[1]["share"] >= 0.3333, levels[3]["side"]) == (True, None)


def test_an_anchor_that_is_merely_the_best_is_positive_and_does_not_fit() -> None:
    low = "model.matcher={name: iou, positive: 0.5, negative: 0.4, low_quality_matches: best}"
    found = reach_of(POINTS[0], low).rows([group((1, 1, 3, 3))])
    assert found.share() == {"objects": 1, "reached": 1.0, "fitting": 0.0, "iou": 0.25}


def test_the_best_iou_near_an_object_is_the_best_of_all() -> None:
    reach = reach_of()
    grid, _ = reach.grid(reach.anchors, (32, 64))
    draw = torch.Generator().manual_seed(0)
    corner = torch.rand(50, 2, generator=draw) * torch.tensor([60.0, 28.0])
    boxes = torch.cat([corner, corner + 1 + 20 * torch.rand(50, 2, generator=draw)], dim=1)
    near = reach.best_ious([((32, 64), boxes)], reach.anchors)
    assert torch.allclose(near, pairwise_iou(boxes, grid).amax(1), atol=1e-6)


def test_what_cannot_be_matched_before_training_is_told() -> None:
    with pytest.raises(NoCoverageError, match="TaskAlignedMatcher matches by what the network predicts"):
        reach_of(
            "model.matcher={name: task_aligned}", "model.anchors={name: points}", "model.coder={name: ltrb}"
        )


def test_a_climb_changes_sizes_and_counts_and_nothing_else() -> None:
    """The target is 24 with the ratio 3; an offset, which ends at 1, must not move."""
    own = {
        n: a.adapter.validate_python
        for n, a in arguments_of(
            load_recipe("quickstart_retinanet").plugins.components.get("anchors", "octave")
        ).items()
        if not a.wired
    }
    start: dict[str, Any] = {"base_scale": 3.0, "octaves": 1, "ratios": [1.0], "offset": 0.5, "sizes": None}

    def score(values: dict[str, Any]) -> float:
        if values["octaves"] * len(values["ratios"]) > 2:
            return -1.0
        off = abs(values["base_scale"] - 24) + min(abs(r - 3) for r in values["ratios"])
        return -off + 100 * (values["offset"] == 0.5)

    found = climb(start, score, {name: own[name] for name in start})
    assert found["base_scale"] == pytest.approx(24, rel=0.04)
    assert min(abs(ratio - 3) for ratio in found["ratios"]) < 0.15
    assert (found["offset"], found["sizes"]) == (0.5, None)


@pytest.mark.parametrize("name", ["quickstart_ssd", "quickstart_retinanet"])
def test_a_proposal_fits_more_objects_with_as_many_anchors(
    name: str, recipe_overrides: list[str], tmp_path: Any
) -> None:
    """Objects of 4 x 32 and 32 x 4 have a ratio of 8; the anchors' are up to 2."""
    recipe = load_recipe(name, recipe_overrides)
    reach, groups = Reach(recipe, 3), groups_of(recipe, 24)
    assert [len(one.ids) for one in groups] == [8, 8, 8]
    before = reach.rows(groups)
    found = propose(recipe, reach, groups, before, 3)
    assert found is not None
    assert before.share()["fitting"] < 0.6
    assert found.after.share()["fitting"] > before.share()["fitting"] + 0.2
    assert max(found.cells[1]) <= max(found.cells[0])
    assert all(text.startswith("model.anchors.") for text in found.overrides)

    # The heir is the recipe with all that was typed and the proposal.
    path = tmp_path / "heir.yaml"
    path.write_text(heir(name, recipe_overrides, found, path))
    again = load_recipe(path)
    assert again.values["model"]["anchors"] == found.recipe.values["model"]["anchors"]
    assert Reach(again, 3).rows(groups).share() == found.after.share()
    assert again.values["data"] == recipe.values["data"]


def test_points_have_no_size_to_propose(recipe_overrides: list[str]) -> None:
    overrides = ["model.anchors={name: points}", "model.matcher={name: fcos}", "model.coder={name: ltrb}"]
    found = check_anchors(load_recipe("quickstart_retinanet", [*recipe_overrides, *overrides]), 8)
    assert found.proposal is None
    assert (
        found.heading()[-1]
        == "no other arguments of these anchors, with at most 1 anchor in a cell, do better"
    )
    assert found.plain()["all"]["reached"] > 0
