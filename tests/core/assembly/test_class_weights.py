"""Class weights: numbers by hand, their way into the loss, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from densedet.core import api, assembly
from densedet.core.assembly.class_weights import PATH, computed, with_class_weights
from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.loading import load_recipe
from densedet.core.recipe.signatures import arguments_of
from densedet.core.training.resuming import checked_stage
from densedet.core.training.run import Run

TEN = tuple(str(digit) for digit in range(10))


def recipe(*overrides: str, name: str = "quickstart_ssd") -> Any:
    small = ("data.train.count=16", "data.val=null", "run.hooks=[]", "train.budget.steps=2")
    return load_recipe(name, [*small, *overrides])


def test_weights_computed_from_the_boxes() -> None:
    """30 and 10 boxes: 1/30 and 1/10 are as 1 to 3, with a mean of 1: 0.5 and 1.5. The effective number of 10
    boxes with beta 0.9 is 6.5132, that of 1 box is 1: 0.15353 and 1, scaled by 2 / 1.15353. A class without
    a box has 1 and leaves the others alone."""
    assert computed([30, 10], None) == pytest.approx([0.5, 1.5])
    assert computed([30, 0, 10], None) == pytest.approx([0.5, 1, 1.5])
    assert computed([10, 1], 0.9) == pytest.approx([0.26620, 1.73380], abs=1e-5)
    assert computed([10, 1], 0.0) == [1, 1]
    assert computed([0, 0], 0.9) == [1, 1]


@pytest.mark.parametrize("loss", ["focal", "bce", "softmax", "hard_negative", "quality_focal", "varifocal"])
def test_a_class_counts_by_its_weight_in_every_loss(loss: str) -> None:
    """With weights 0 the loss is that of the background anchors alone, and the part of the others grows in
    proportion to a weight that all classes have."""
    detectors = []
    for weight in (0.0, 1.0, 3.0):
        torch.manual_seed(0)
        given = recipe(f"model.class_loss={{name: {loss}, class_weights: {[weight] * 10}}}")
        detectors.append(assembly.build_detector(given, 10))
    batch = api.make_batch(given, split="train", count=4)
    background, once, thrice = (one.losses(batch)["class"] for one in detectors)
    assert bool(once > background)
    torch.testing.assert_close(thrice - background, 3 * (once - background), rtol=1e-4, atol=1e-6)


def test_a_mapping_goes_by_name_and_the_rest_has_1() -> None:
    given, told = with_class_weights(recipe(f"{PATH}.7=2.5", f"{PATH}.0=0"), TEN, {})
    assert given.values["model"]["class_loss"]["class_weights"] == [0, 1, 1, 1, 1, 1, 1, 2.5, 1, 1]
    assert told is None


def test_a_run_keeps_the_numbers_and_says_them(tmp_path: Path) -> None:
    asked = recipe(f"{PATH}=inverse_frequency")
    run = Run(asked, folder=tmp_path / "run")
    weights = run.recipe.values["model"]["class_loss"]["class_weights"]
    assert sum(weights) == pytest.approx(10)
    assert run.detector.class_weights.tolist() == pytest.approx([*weights, 1])
    assert any(note.startswith(f"{PATH}: inverse_frequency is 0 ") for note in run.notes)
    run.start()
    assert checked_stage(tmp_path / "run", asked) == "new"
    run.held.close()
    again = Run(recipe(), resume=run.state() | {"recipe": run.recipe.to_yaml()})
    assert again.detector.class_weights is None, "another recipe is another wish"
    built = api.build(asked)
    assert built.class_weights.tolist() == pytest.approx([*weights, 1])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (f"{PATH}=[1, 2]", "has 2 weights for 10 classes"),
        (f"{PATH}={{'11': 2}}", "the detector has no class '11'"),
        (f"{PATH}=frequency", "inverse_frequency"),
        (f"{PATH}=[-1, 2]", "greater than or equal to 0"),
    ],
)
def test_wrong_weights_are_refused(override: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        Run(recipe(override))


def test_a_detector_that_cannot_weight_classes_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(row: Any) -> Any:
        return {name: argument for name, argument in arguments_of(row).items() if name != "class_weights"}

    monkeypatch.setattr("densedet.core.assembly.detector.arguments_of", without)
    with pytest.raises(RecipeError, match=r"detector 'dense' cannot weight classes"):
        assembly.build_detector(recipe(f"{PATH}={[1.0] * 10}"), 10)
