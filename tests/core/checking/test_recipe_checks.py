"""densedet check recipe and check lr: the first loss, the way there and back, one batch, and the rate."""

from __future__ import annotations

import functools
import json
import math
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from densedet.core import assembly
from densedet.core.checking.first_loss import first_loss
from densedet.core.checking.overfit import Overfit, _stuck, overfit
from densedet.core.checking.rate_test import RateTest, _steepest, rate_test, smoothed
from densedet.core.checking.round_trip import decoded_again, source_faults, target_faults
from densedet.core.errors import DataError
from densedet.core.recipe.loading import load_recipe
from densedet.core.training.random_states import seeded
from densedet.core.types import Batch, Detections
from densedet.plugins.coders.delta import DeltaCoder
from densedet.plugins.coders.distribution import DistributionCoder
from densedet.plugins.losses.focal import FocalLoss
from densedet.plugins.losses.hard_negative import HardNegativeLoss
from densedet.plugins.losses.softmax import SoftmaxLoss
from densedet.tools.main import main

SMALL = (
    "data.train.count=16",
    "data.val.count=4",
    "data.input_size_wh=[64, 32]",
    "train.batch_size=4",
    "model.backbone.widths=[8, 8, 8]",
)


def detector_of(name: str, *overrides: str) -> Any:
    with seeded(0):
        return assembly.build_detector(load_recipe(name, [*SMALL, *overrides]), 3)


# -- the first loss --------------------


def test_the_theory_of_focal_and_softmax_by_hand() -> None:
    """Labels of an image: class 0, background (2), ignored. Focal with prior .1: the true class costs .25 *
    .9^2 * -log .1 = .4663, each of the 3 others .75 * .1^2 * -log .9 = .00079."""
    labels = torch.tensor([[0, 2, -1]])
    focal = FocalLoss(num_classes=2, prior=0.1).initial_loss(labels)
    assert focal.tolist() == pytest.approx([0.4663 + 3 * 0.00079], abs=1e-4)
    assert SoftmaxLoss(num_classes=2).initial_loss(labels).tolist() == pytest.approx([2 * math.log(3)])
    # One positive asks for 3 negatives; there is one.
    mined = HardNegativeLoss(num_classes=2, min_negatives=0).initial_loss(labels)
    assert mined.tolist() == pytest.approx([2 * math.log(3)])
    many = torch.tensor([[1, *[2] * 9]])
    assert HardNegativeLoss(num_classes=2, min_negatives=0).initial_loss(many).tolist() == pytest.approx(
        [4 * math.log(3)]
    )


@pytest.mark.parametrize("name", ["quickstart_ssd", "quickstart_retinanet"])
@pytest.mark.parametrize("loss", ["focal", "hard_negative", "quality_focal", "varifocal", "softmax"])
def test_the_first_loss_is_as_theory_says(name: str, loss: str) -> None:
    found = first_loss(detector_of(name, f"model.class_loss={{name: {loss}}}"), batch_of())
    assert not found.fault
    assert found.blank == pytest.approx(found.expected, rel=0.02)
    assert "in theory" in found.sentence()


@functools.cache
def batch_of() -> Any:
    recipe = load_recipe("quickstart_ssd", SMALL)
    source = assembly.build_source(recipe, "train")
    dataset = assembly.make_dataset(recipe, source, assembly.class_table(recipe, source))
    batch = assembly.first_batch(recipe, dataset, 4)
    batch.labels = batch.labels.clamp(max=2)
    return batch


def test_a_head_without_its_prior_is_found() -> None:
    detector = detector_of("quickstart_retinanet")
    for name, parameter in detector.head.named_parameters():
        if "logits" in name and name.endswith("bias"):
            nn.init.zeros_(parameter)
    found = first_loss(detector, batch_of())
    assert found.fault
    assert "the head does not start at initial_bias of the class loss" in found.sentence()


def test_a_loss_without_a_theory_is_passed_over_with_a_sentence() -> None:
    class Strange(FocalLoss):
        initial_loss = None  # type: ignore[assignment]

    detector = detector_of("quickstart_retinanet")
    detector.class_loss = Strange(num_classes=3)
    found = first_loss(detector, batch_of())
    assert not found.fault
    assert "Strange has no initial_loss(labels, quality)" in found.sentence()
    assert "has no class_loss and head of its own" in first_loss(nn.Linear(1, 1), batch_of()).sentence()


# -- the way there and back --------------------


def test_boxes_and_classes_come_back(recipe_overrides: list[str]) -> None:
    recipe = load_recipe("quickstart_ssd", recipe_overrides)
    assert source_faults(recipe) == []


def test_a_transform_that_moves_boxes_alone_is_found(
    recipe_overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("quickstart_ssd", recipe_overrides)
    own = assembly.make_dataset

    def shifted(*given: Any, **named: Any) -> Any:
        dataset = own(*given, **named)
        sample = dataset.sample

        def moved(epoch: int, index: int) -> Any:
            found = sample(epoch, index)
            found.boxes = found.boxes + 3
            return found

        dataset.sample = moved
        return dataset

    monkeypatch.setattr(assembly, "make_dataset", shifted)
    # 96 x 48 pixels stay as they are: 3 pixels in the input are 3 in the source.
    assert source_faults(recipe, 1) == [
        "image 0 (train_0.png): box [8.0, 6.0, 12.0, 38.0] comes back as [11.0, 9.0, 15.0, 41.0]"
    ]


def test_targets_give_back_their_objects_and_a_coder_that_cannot_is_named() -> None:
    assert target_faults(detector_of("quickstart_ssd"), batch_of()) == []
    short = "model.coder={name: distribution, bins: 1, bin_size: 0.1}"
    faults = target_faults(detector_of("quickstart_retinanet", short), batch_of())
    assert len(faults) == 1
    assert "cannot be given back by DistributionCoder from any of its positive anchors" in faults[0]


@pytest.mark.parametrize("coder", [DeltaCoder(), DistributionCoder(bins=8)], ids=["delta", "distribution"])
def test_the_best_output_is_found_for_each_coder(coder: Any) -> None:
    anchors = torch.tensor([[10.0, 10, 20, 20], [30, 5, 50, 45]])
    boxes = torch.tensor([[8.0, 9, 24, 21], [25, 10, 52, 41]])
    assert torch.allclose(decoded_again(coder, boxes, anchors), boxes, atol=0.3)


# -- one batch (tests/test_examples.py learns one by heart) --------------------


def test_where_a_network_is_stuck_is_told() -> None:
    """Nothing matches, and the rate is 0."""
    blind = "model.matcher={name: iou, positive: 1.0, negative: 0.9, low_quality_matches: none}"
    found = overfit(load_recipe("quickstart_ssd", [*SMALL, blind]), steps=3)
    assert not found.learned
    first, *objects = found.lines()
    assert "are not learned by heart in 3 steps: AP 0.000, AP50 0.000" in first
    assert len(objects) == found.objects
    assert all("no anchor is positive for it" in line for line in objects)


def test_a_batch_is_learned_when_its_boxes_are_exact() -> None:
    assert not Overfit(4, 12, 400, curve=[(25, 1.0, 0.98)]).learned
    assert Overfit(4, 12, 400, curve=[(25, 1.0, 0.98), (50, 0.995, 0.991)]).learned

    batch = batch_of()
    objects = int((batch.valid & ~batch.ignore).sum())
    for kept, sentence in ((0.8, ": found, with an IoU of 0.80"), (0.3, " has an IoU of 0.30")):

        class Lower:
            """Finds each box with its lower part cut off, which leaves an IoU of ``kept``."""

            def eval(self) -> None:
                pass

            def predict(self, batch: Batch, kept: float = kept) -> list[Detections]:
                found = []
                for boxes, labels, valid in zip(batch.boxes.clone(), batch.labels, batch.valid):
                    boxes[:, 3] = boxes[:, 1] + kept * (boxes[:, 3] - boxes[:, 1])
                    scores, anchors = torch.ones(len(boxes)), torch.arange(len(boxes))
                    found.append(Detections(boxes[valid], scores[valid], labels[valid], anchors[valid]))
                return found

        told = _stuck(Lower(), batch, tuple("0123456789"))
        assert len(told) == objects
        assert all(line.endswith(sentence) for line in told)


def test_images_without_objects_cannot_be_learned() -> None:
    with pytest.raises(DataError, match="there is nothing to learn|no object|nothing can be learnt"):
        overfit(load_recipe("quickstart_ssd", [*SMALL, "data.filter.min_side=60"]), steps=3)


# -- the rate --------------------


def test_the_steepest_descent_is_found_past_the_noise() -> None:
    """Flat at 10, then down by 1 a step from step 20 to 28 and by 0.1 to step 38, then up."""
    losses = [10.0] * 20 + [10.0 - k for k in range(1, 9)] + [2 - 0.1 * k for k in range(1, 11)] + [5.0, 30.0]
    rates = [10.0**k for k in range(len(losses))]
    at = rates.index(_steepest(rates, smoothed(losses)))  # type: ignore[arg-type]
    assert 21 <= at <= 27
    assert _steepest(rates, smoothed([10.0] * 40)) is None
    assert _steepest([], []) is None
    found = RateTest(rates, losses, smoothed(losses), diverged=10.0**22, steepest=10.0**24, now=1.0)
    assert found.proposed == 10.0**21
    assert "proposed: train.optimizer.lr=1e+21" in found.lines()[-1]


def test_a_range_test_ends_where_it_diverges_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = torch.random.get_rng_state()
    command = ["check", "lr", "quickstart_retinanet", *SMALL, "--steps", "60", "--json", "--output", "lr.svg"]
    assert main(command) == 0
    assert torch.equal(before, torch.random.get_rng_state())
    assert [path.name for path in tmp_path.iterdir()] == ["lr.svg"]
    found = json.loads(capsys.readouterr().out)
    ratios = [b / a for a, b in zip(found["rates"], found["rates"][1:])]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))
    assert found["rates"][0] == pytest.approx(found["now"] * 1e-4)
    assert len(found["rates"]) == len(found["losses"]) == len(found["smooth"]) <= 60
    assert 1e-3 * found["now"] < found["proposed"] < 100 * found["now"]
    assert (tmp_path / "lr.svg").read_text().startswith("<svg")
    assert main(["check", "lr", "quickstart_ssd", "--output", "lr.svg"]) == 2
    assert main(["check", "lr", "quickstart_ssd", "--output", "lr.pdf"]) == 2
    assert main(["check", "lr", "quickstart_ssd", "--low", "-1"]) == 2


def test_a_loss_that_is_not_finite_ends_the_range_test() -> None:
    before = multiprocessing.active_children()
    recipe = load_recipe("quickstart_ssd", [*SMALL, "data.workers=1"])
    found = rate_test(recipe, steps=20, low=1.0, high=1e30)
    assert multiprocessing.active_children() == before
    assert found.diverged is not None
    assert len(found.rates) < 20


def test_check_recipe_tells_it_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "recipe", "quickstart_retinanet", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "the first class loss is" in out
    assert "boxes and labels survive the way to the network, to targets and back" in out
    assert main(["check", "recipe", "quickstart_ssd", *SMALL, "--overfit", "--no-data"]) == 2
    assert main(["check", "recipe", "quickstart_ssd", *SMALL, "--overfit", "--steps", "2"]) == 1
    assert "are not learned by heart in 2 steps" in capsys.readouterr().out
