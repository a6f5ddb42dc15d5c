"""Augmentation that ends at a share of the training: exact by step, whoever loads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from densedet.core.assembly import transforms_at
from densedet.core.data.limited import Limited, in_force
from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.loading import load_recipe
from densedet.core.training.run import Run

SMALL = (
    "data.train.count=8",
    "data.val=null",
    "train.batch_size=2",
    "model.backbone.widths=[8, 8, 8]",
    "run.hooks=[]",
    "data.transforms=[]",
)
FLIP = "data.batch_transforms=[{name: flip, p: 1.0, until: 0.5}]"
SAMPLE_FLIP = "data.transforms=[{name: RandomHorizontalFlip, p: 1.0, until: 0.5}]"
STEPS, EPOCHS = "train.budget={steps: 4}", "train.budget={epochs: 2}"


def run_of(*overrides: str) -> Run:
    return Run(load_recipe("quickstart_ssd", [*SMALL, "data.batch_transforms=[]", *overrides]))


def flipped(count: int, *overrides: str) -> list[bool]:
    """Whether each of the first batches is mirrored against that of a run without augmentation."""
    plain, run = (run_of(*given).batches() for given in (overrides[1:], overrides))
    found = []
    for _ in range(count):
        (expected, _), (batch, _) = next(plain), next(run)
        mirrored = torch.equal(batch.images, expected.images.flip(-1))
        assert mirrored != torch.equal(batch.images, expected.images)
        found.append(mirrored)
    return found


@pytest.mark.parametrize("flip", [FLIP, SAMPLE_FLIP])
@pytest.mark.parametrize(
    ("budget", "others", "expected"),
    [
        # half of 4 steps, of 2 epochs of 4 batches, of 2 steps of 2 batches each
        (STEPS, (), [True, True, False, False]),
        (STEPS, ("data.workers=1",), [True, True, False, False]),
        (EPOCHS, (), [True] * 4 + [False] * 4),
        ("train.budget={steps: 2}", ("train.accumulate=2",), [True, True, False, False]),
    ],
)
def test_it_ends_at_its_step(flip: str, budget: str, others: tuple[str, ...], expected: list[bool]) -> None:
    assert flipped(len(expected), flip, budget, *others) == expected


def test_a_resumed_run_ends_it_at_the_same_step() -> None:
    """2 of 8 steps are done, at batch 2: batches 2 and 3 are mirrored still."""
    run = run_of(FLIP, "train.budget={steps: 8}")
    run.step = 2
    run.sampler.seek(0, 2)
    again = Run(run.recipe, resume=run.state())
    batches, expected = again.batches(), run_of("train.budget={steps: 8}").batches()
    plain = [next(expected)[0] for _ in range(6)][2:]
    found = [torch.equal(next(batches)[0].images, batch.images.flip(-1)) for batch in plain]
    assert found == [True, True, False, False]


def test_a_run_resumed_with_another_batch_size_ends_it_at_its_progress() -> None:
    """2 steps of 2 of 8 images are done, a quarter of 2 epochs. With 4 images in a batch that is the 2nd of
    the epoch's 2 batches, at progress .25; the next one is at .5."""
    run = run_of(FLIP, EPOCHS)
    run.step = 2
    run.sampler.seek(0, 2)
    again = Run(run.recipe.with_overrides({"train.batch_size": 4}), resume=run.state())
    batches, expected = again.batches(), run_of(EPOCHS, "train.batch_size=4").batches()
    plain = [next(expected)[0] for _ in range(4)][1:]
    found = [torch.equal(next(batches)[0].images, batch.images.flip(-1)) for batch in plain]
    assert found == [True, False, False]


def test_minutes_count_when_the_batch_is_asked_for() -> None:
    run, plain = run_of(FLIP, "train.budget={minutes: 1}"), run_of("train.budget={minutes: 1}").batches()
    batches = run.batches()
    for seconds, expected in ((0.0, True), (29.9, True), (30.0, False), (59.0, False)):
        run.seconds = seconds
        assert torch.equal(next(batches)[0].images, next(plain)[0].images.flip(-1)) == expected


def test_which_transforms_take_part() -> None:
    recipe = load_recipe("quickstart_ssd", [*SMALL, SAMPLE_FLIP, "data.batch_transforms=[flip, crop]"])
    crop = "data.batch_transforms.1 crop"
    assert transforms_at(recipe, 0.5) == {
        "data.transforms.0 RandomHorizontalFlip": False,
        "data.batch_transforms.0 flip": True,
        crop: True,
    }
    assert transforms_at(recipe, 0.49)["data.transforms.0 RandomHorizontalFlip"]
    kept: list[Any] = ["a", Limited("b", 0.9), "c"]
    assert (in_force(kept, 0.89), in_force(kept, 0.9)) == (["a", "b", "c"], ["a", "c"])


def test_a_share_is_within_0_and_1() -> None:
    with pytest.raises(RecipeError, match=r"batch_transforms.0.until: should be less than or equal to 1"):
        load_recipe("quickstart_ssd", ["data.batch_transforms=[{name: flip, until: 90}]"])
