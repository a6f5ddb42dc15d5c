"""The dense detector's arithmetic, with parts so small that it can be done by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import densedet
from densedet.core import assembly, boxes
from densedet.core.errors import PartError
from densedet.core.examples import example_batch
from densedet.core.recipe.loading import recipe_from_dict
from densedet.core.suppression import Suppression
from densedet.core.types import (
    Assignment,
    Batch,
    Branch,
    Detections,
    Extra,
    Level,
    Prediction,
    Targets,
    Trace,
)
from densedet.plugins.detectors._targets import ignore_covered, make_targets
from densedet.plugins.detectors.dense import DenseDetector
from densedet.plugins.matchers.iou import IoUMatcher


class FourCells(nn.Module):
    """A "backbone" and "head" in one hand: what they say is a parameter. 2x2 cells of stride 16, one anchor
    each."""

    channels, strides, mean, std = (1,), (16,), (0.0,), (1.0,)


class Pool(FourCells):
    def forward(self, images: Tensor) -> list[Tensor]:
        return [nn.functional.avg_pool2d(images, 16)]


class Said(nn.Module):
    branches: dict[str, Any] = {}

    def __init__(self, logits: Tensor, box: Tensor) -> None:
        super().__init__()
        self.logits, self.box = nn.Parameter(logits), nn.Parameter(box)

    def forward(self, features: list[Tensor]) -> Prediction:
        count = len(features[0])
        return Prediction([self.logits.expand(count, -1, -1)], [self.box.expand(count, -1, -1)])


class Cells:
    num_anchors = (1,)

    def __call__(self, level_sizes: Any, image_hw: Any, device: Any) -> list[Tensor]:
        return [
            torch.tensor(
                [[0.0, 0, 16, 16], [16, 0, 32, 16], [0, 16, 16, 32], [16, 16, 32, 32]], device=device
            )
        ]


class Given:
    """A matcher that answers what the test wants."""

    uses_predictions = False

    def __init__(self, index: list[list[int]], quality: Tensor | None = None) -> None:
        self.index, self.quality = torch.tensor(index), quality

    def __call__(self, *_: Any) -> Assignment:
        return Assignment(self.index, self.quality)


class Offsets:
    """deltas = box - anchor."""

    box_channels, spaces = 4, ("deltas", "boxes")

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        return boxes - anchors

    def deltas(self, raw: Tensor) -> Tensor:
        return raw

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        return anchors + raw


class Ones(nn.Module):
    """1 for every anchor that is not ignored, plus something that depends on the logits and is 0."""

    background_channel, initial_bias, quality = "none", 0.0, "unused"

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        return (labels >= 0) * (1 + 0 * logits.sum(-1))

    def scores(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


class AbsoluteSum(nn.Module):
    def __init__(self, space: str = "deltas") -> None:
        super().__init__()
        self.space = space

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs().sum(-1)


class SaidMore(Said):
    """A head that predicts (10, 11, 12, 13) for its four cells beside class and box, in the second image 100
    more; its loss is the distance to the object's extra "number", its detections carry twice the value."""

    def __init__(self, branch: str = "number", **options: Any) -> None:
        super().__init__(torch.zeros(1, 4, 2), torch.zeros(1, 4, 4))
        self.more = nn.Parameter(torch.tensor([10.0, 11, 12, 13]).view(1, 4, 1))
        self.branches = {
            branch: Branch(
                self.distance,
                predict=lambda values, _: 2 * values[:, 0],
                needs={"number": Extra()},
                **options,
            )
        }

    @staticmethod
    def distance(values: Tensor, targets: Targets) -> Tensor:
        off = (values[targets.places][:, 0] - targets.extra["number"]).abs()
        return targets.at_positives(off * targets.extra_known["number"])

    def forward(self, features: list[Tensor]) -> Prediction:
        said = super().forward(features)
        image = torch.arange(len(features[0]), device=features[0].device).view(-1, 1, 1)
        said.extra = {name: [self.more + 100 * image] for name in self.branches}
        return said


def keep_all(
    scores: Tensor, boxes: Tensor, levels: Any, sizes: Tensor, trace: Any = None
) -> list[Detections]:
    return [Detections.empty() for _ in scores]


def detector(
    index: list[list[int]], *, quality: Tensor | None = None, box: Tensor | None = None, **options: Any
) -> DenseDetector:
    return DenseDetector(
        backbone=Pool(),
        anchors=Cells(),
        head=options.pop("head", Said(torch.zeros(1, 4, 2), torch.zeros(1, 4, 4) if box is None else box)),
        matcher=options.pop("matcher", None) or Given(index, quality),
        coder=Offsets(),
        class_loss=options.pop("class_loss", Ones()),
        box_loss=options.pop("box_loss", [AbsoluteSum()]),
        postprocess=options.pop("postprocess", keep_all),
        num_classes=2,
        **options,
    )


def batch(objects: list[list[list[float]]], size: tuple[int, int] = (32, 32)) -> Batch:
    """Images of 32x32 with the boxes given; label 0 all."""
    count, most = len(objects), max(map(len, objects))
    data = example_batch(objects=most, size=size)
    data.boxes = torch.zeros(count, most, 4)
    data.valid = torch.zeros(count, most, dtype=torch.bool)
    for row, listed in enumerate(objects):
        for slot, box in enumerate(listed):
            data.boxes[row, slot], data.valid[row, slot] = torch.tensor(box), True
    data.labels = torch.zeros(count, most, dtype=torch.int64)
    data.ignore = torch.zeros(count, most, dtype=torch.bool)
    data.images, data.valid_hw = data.images[:1].expand(count, -1, -1, -1), torch.tensor([size] * count)
    return data


TWO_IMAGES = [[[0.0, 0, 16, 16], [16.0, 0, 30, 16]], [[2.0, 16, 16, 32]]]


def test_losses_are_divided_by_the_positives_of_the_batch() -> None:
    # 8 anchors of class loss 1; 3 positives: 8/3. Box: |0| + |30-32| + |2-0| = 4; 4/3.
    losses = detector([[0, 1, -1, -1], [-1, -1, 0, -1]])(batch(TWO_IMAGES))
    assert float(losses["class"].detach()) == pytest.approx(8 / 3)
    assert float(losses["box"]) == pytest.approx(4 / 3)


def test_losses_by_each_image_alone() -> None:
    # image 0: 4 anchors / 2 positives = 2, image 1: 4/1 = 4; mean 3. Box: (0+2)/2 = 1, 2/1 = 2; mean 1.5.
    losses = detector([[0, 1, -1, -1], [-1, -1, 0, -1]], loss_normalizer="positives_per_image")(
        batch(TWO_IMAGES)
    )
    assert float(losses["class"]) == pytest.approx(3.0)
    assert float(losses["box"]) == pytest.approx(1.5)


def test_losses_by_quality() -> None:
    # qualities 1.0, 0.5, 0.5: class 8/2 = 4; the box loss is not weighted: 4/2 = 2.
    quality = torch.tensor([[1.0, 0.5, 0, 0], [0, 0, 0.5, 0]])
    losses = detector([[0, 1, -1, -1], [-1, -1, 0, -1]], quality=quality, loss_normalizer="quality")(
        batch(TWO_IMAGES)
    )
    assert float(losses["class"]) == pytest.approx(4.0)
    assert float(losses["box"]) == pytest.approx(2.0)
    # weighted: (0*1 + 2*.5 + 2*.5) / (1 + .5 + .5) = 1
    weighted = detector([[0, 1, -1, -1], [-1, -1, 0, -1]], quality=quality, box_weight="quality")(
        batch(TWO_IMAGES)
    )
    assert float(weighted["box"]) == pytest.approx(1.0)


def test_weights_of_the_losses_and_a_list_of_box_losses() -> None:
    options = {
        "class_loss_weight": 0.5,
        "box_loss": [AbsoluteSum(), AbsoluteSum("boxes")],
        "box_loss_weights": (1.0, 10.0),
    }
    losses = detector([[0, 1, -1, -1], [-1, -1, 0, -1]], **options)(batch(TWO_IMAGES))
    assert float(losses["class"]) == pytest.approx(0.5 * 8 / 3)
    # In deltas and in boxes the difference is the same here, 4/3; each is logged by itself.
    assert set(losses) == {"class", "box_AbsoluteSum", "box_AbsoluteSum_2"}
    assert float(losses["box_AbsoluteSum"]) == pytest.approx(4 / 3)
    assert float(losses["box_AbsoluteSum_2"]) == pytest.approx(10 * 4 / 3)


def test_boxes_weighted_by_the_score_of_their_own_class() -> None:
    """Both objects are of class 0. Anchor 0 has score .8 for it and a box error of 0, anchor 1 has .2 and an
    error of 2: (.8 * 0 + .2 * 2) / (.8 + .2) = .4. Class 1 scores .9 on both and does not count."""
    built = detector([[0, 1, -1, -1]], box_weight="score")
    with torch.no_grad():
        built.head.logits[0, :2] = torch.tensor([[0.8, 0.9], [0.2, 0.9]]).logit()
    losses = built.losses(batch([[[0.0, 0, 16, 16], [16.0, 0, 30, 16]]]))
    assert losses["box"].item() == pytest.approx(0.4)


def test_an_all_negative_batch_has_a_box_loss_of_exactly_zero_that_is_connected() -> None:
    built = detector([[-1] * 4])
    losses = built(batch([[]]))
    assert float(losses["box"]) == 0.0
    assert float(losses["class"]) == 4.0  # nothing is divided by 0: 4 anchors / max(1, 0)
    losses["box"].backward()
    assert built.head.box.grad is not None
    assert torch.equal(built.head.box.grad, torch.zeros(1, 4, 4))


def test_ignored_objects_take_anchors_out() -> None:
    """Anchor 0 lies on the ignored object with 16*8 of its 16*16 pixels (exactly half): ignored. Anchor 1
    with 4*16 (a quarter): background."""
    data = batch([[[0.0, 8, 20, 32]]])
    data.ignore[0, 0] = True
    anchors = Cells()(None, None, "cpu")[0]
    index = ignore_covered(torch.tensor([[-1, -1, -1, -1]]), data, anchors)
    # anchor 2 (0,16,16,32) is covered whole; anchor 3 (16,16,32,32) by 4*16 of 256, a quarter
    assert index.tolist() == [[-2, -1, -2, -1]]
    kept = ignore_covered(torch.tensor([[0, -1, 0, -1]]), data, anchors)
    assert kept.tolist() == [[0, -1, 0, -1]], "a positive anchor stays positive"


def test_a_matcher_never_sees_ignored_objects() -> None:
    seen: list[Tensor] = []

    class Watching(Given):
        def __call__(self, *arguments: Any) -> Assignment:
            seen.append(arguments[2])
            return super().__call__(*arguments)

    built = detector([[-1] * 4])
    built.matcher = Watching([[-1] * 4])
    data = batch([[[0.0, 0, 16, 16], [0.0, 16, 16, 32]]])
    data.ignore[0, 1] = True
    losses = built(data)
    assert seen[0].tolist() == [[True, False]]
    assert float(losses["class"]) == 3.0  # anchor 2 lies on the ignored object


def test_the_reason_of_an_anchor_on_an_ignored_object_is_the_detectors() -> None:
    built = detector([[-1] * 4])
    data = batch([[[0.0, 8, 20, 32]]])
    assert built.explain(data).reasons() is None, "this matcher tells nothing"
    built.matcher = IoUMatcher()
    data.ignore[0, 0] = True
    for given in (data, batch([[]])):
        reasons = built.explain(given).reasons()
        told = [reasons.rules[rule].split(":")[0] for rule in reasons.rule[0].tolist()]
        covered = "At least 50% of it lies on an object that does not count (a crowd, for example)"
        nothing = "No object overlaps it"
        # Anchors 0 and 2 lie on it, as in the test above.
        expected = [covered, nothing] * 2 if given is data else [nothing] * 4
        assert told == expected


def test_targets() -> None:
    anchors = Cells()(None, None, "cpu")[0]
    data = batch([[[1.0, 2, 3, 4], [5.0, 6, 7, 8]]])
    data.labels = torch.tensor([[1, 0]])
    targets = make_targets(
        Assignment(torch.tensor([[1, -1, -2, 0]])), data, anchors, (Level(2, 2, 1, 16),), 2
    )
    assert targets.labels.tolist() == [[0, 2, -1, 1]]
    assert targets.positive.tolist() == [[True, False, False, True]]
    assert targets.boxes[0].tolist() == [[5, 6, 7, 8], [16, 0, 32, 16], [0, 16, 16, 32], [1, 2, 3, 4]]


def test_what_lies_outside_of_an_image_is_zero_after_normalising() -> None:
    built = detector([[-1] * 4])
    built.image_mean, built.image_std = torch.full((1, 1, 1, 1), 100.0), torch.full((1, 1, 1, 1), 50.0)
    images = torch.full((2, 1, 4, 6), 150, dtype=torch.uint8)
    normal = built.normalise(images, torch.tensor([[4, 6], [2, 3]]))
    assert torch.equal(normal[0], torch.ones(1, 4, 6))  # (150 - 100) / 50
    assert normal[1].sum() == 2 * 3
    assert normal[1, 0, 2:].abs().sum() == normal[1, 0, :, 3:].abs().sum() == 0


def numbered(*numbers: list[float]) -> Batch:
    """The two images, whose objects carry a number; nan is one that is not known."""
    data = batch(TWO_IMAGES)
    values = torch.tensor(numbers)
    data.extras, data.extra = {"number": Extra()}, {"number": values.nan_to_num()}
    data.extra_known = {"number": ~values.isnan()}
    return data


def test_a_branch_learns_what_the_matched_objects_carry() -> None:
    # Positives: cells 0 (says 10) and 1 (11) of image 0 on objects 1 and 0, cell 2 (12) of image 1 on 0.
    # |10 - 5| + |11 - 7| = 9, the third is not known; 9 / 3 positives * weight 0.5 = 1.5.
    data = numbered([7.0, 5], [math.nan, 0])
    built = detector([[1, 0, -1, -1], [-1, -1, 0, -1]], head=SaidMore(), branch_weights={"number": 0.5})
    losses = built(data)
    assert float(losses["number"]) == pytest.approx(1.5)
    losses["number"].backward()
    # d/dvalue = sign / 3 * 0.5, and none from the third cell
    assert built.head.more.grad.flatten().tolist() == pytest.approx([1 / 6, 1 / 6, 0, 0])
    targets = built.assign(built.run_network(data), data)
    assert targets.extra["number"].tolist() == [5, 7, 0]
    assert targets.extra_known["number"].tolist() == [True, True, False]
    other = numbered([math.nan, 5], [6, 0])  # object 0 of image 0 is matched to cell 1
    assert built.assign(built.run_network(other), other).extra_known["number"].tolist() == [True, False, True]


def test_a_branch_learns_nothing_without_objects() -> None:
    data = batch([[]])
    data.extras, data.extra = {"number": Extra()}, {"number": torch.zeros(1, 0)}
    data.extra_known = {"number": torch.zeros(1, 0, dtype=torch.bool)}
    assert float(detector([[-1] * 4], head=SaidMore())(data)["number"]) == 0


def test_a_source_without_what_a_branch_learns_is_named() -> None:
    data = batch([[]])
    with pytest.raises(PartError, match="branch 'number' of SaidMore learns 'number' .* has no extras"):
        detector([[-1] * 4], head=SaidMore())(data)
    data.extras = {"number": Extra((2,))}
    with pytest.raises(PartError, match=r"\(plain, one number\), but the source has number: plain \(2,\)"):
        detector([[-1] * 4], head=SaidMore())(data)


def cells_3_and_1(*arguments: Any) -> list[Detections]:
    scores, labels, anchors = torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), torch.tensor([3, 1])
    return [Detections(torch.ones(2, 4), scores, labels, anchors) for _ in arguments[0]]


def test_detections_carry_what_their_branches_predict() -> None:
    built = detector([[-1] * 4], head=SaidMore(), postprocess=cells_3_and_1)
    (found,) = built.predict(batch([[]]))
    assert found.extra["number"].tolist() == [26, 22]  # cells 3 and 1 say 13 and 11
    assert found.keypoints == ()
    assert found.where(torch.tensor([False, True])).extra["number"].tolist() == [22]
    (as_points,) = detector([[-1] * 4], head=SaidMore(kind="keypoints"), postprocess=cells_3_and_1).predict(
        batch([[]])
    )
    assert as_points.keypoints == ("number",)


def test_the_raw_output_is_what_the_postprocess_gets() -> None:
    """And what a detection of each anchor would carry: 26 and 22 at cells 3 and 1, 200 more in the second."""
    built = detector([[-1] * 4] * 2, head=SaidMore(), postprocess=cells_3_and_1).eval()
    data, trace = numbered([7.0, 5], [6, 0]), Trace()
    built.predict(data, trace)
    raw = built.raw(data.images, data.valid_hw)
    assert torch.equal(raw.boxes, trace["boxes"]) and torch.equal(raw.scores, trace["scores"])
    assert raw.counts == (4,)
    assert raw.extra["number"][:, [3, 1]].tolist() == [[26, 22], [226, 222]]


class AllScores:
    """A postprocess that keeps all anchors, in order."""

    def __call__(self, scores: Tensor, boxes: Tensor, *_: Any) -> list[Detections]:
        places = torch.arange(boxes.shape[1])
        return [Detections(boxes[0], scores[0, :, 0], torch.zeros_like(places), places)]


class WithSuppression(AllScores):
    suppression = Suppression(score=0.1, top_k=9, per="level", iou=0.5, max_detections=9)


@pytest.mark.parametrize(
    ("postprocess", "expected"),
    [(AllScores(), [0.2, 0.9, 0.5, 0.4]), (WithSuppression(), [0, 0.9, 0.5, 0])],
)
def test_low_scores_are_left_out_where_suppression_is_all_that_the_postprocess_does(
    postprocess: Any, expected: list[float]
) -> None:
    """0.5 is not lower than 0.5."""
    built = detector([[-1] * 4], postprocess=postprocess).eval()
    built.class_loss.scores = lambda logits: torch.tensor([[[0.2], [0.9], [0.5], [0.4]]])  # type: ignore[assignment]
    (found,) = built.predict(batch([[]]), lowest=0.5)
    assert found.scores.tolist() == pytest.approx(expected)


def test_the_dry_run_tries_what_a_branch_predicts() -> None:
    built = detector([[-1] * 4], head=SaidMore())
    built.dry_run(1, (32, 32))
    built.head.branches["number"].predict = lambda values, _: values[:2, 0]
    with pytest.raises(PartError, match=r"predict gives \(2,\), not \(4,\)"):
        built.dry_run(1, (32, 32))
    built.head.branches["number"].loss = lambda values, targets: targets.extra["nmber"]
    with pytest.raises(PartError, match="loss raised KeyError: 'nmber'"):
        built.dry_run(1, (32, 32))


def test_boxes_of_no_anchor_cannot_carry_more() -> None:
    def nowhere(*arguments: Any) -> list[Detections]:
        return [
            replace(found, anchors=-torch.ones_like(found.anchors)) for found in cells_3_and_1(*arguments)
        ]

    with pytest.raises(PartError, match="come from no anchor"):
        detector([[-1] * 4], head=SaidMore(), postprocess=nowhere).predict(batch([[]]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"branch_weights": {"numbr": 2.0}}, "branch_weights names 'numbr', .*: write one of number"),
        ({"head": SaidMore("class")}, "calls a branch 'class', which is the name of another loss"),
        (
            {"head": SaidMore("score")},
            "calls a branch 'score', which is the name of a detection's own column",
        ),
    ],
)
def test_wrong_names_of_branches_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PartError, match=sentence):
        detector([[-1] * 4], **{"head": SaidMore(), **options})


def test_losses_and_detections_from_one_forward_pass() -> None:
    """The same numbers as from two; nothing is summed over processes, which may have fewer batches."""
    built = detector([[1, 0, -1, -1], [-1, -1, 0, -1]], head=SaidMore(), postprocess=cells_3_and_1).eval()
    data, passes = numbered([7.0, 5], [6, 0]), []
    built.backbone.register_forward_hook(lambda *_: passes.append(1))
    losses, found = built.evaluate(data)
    assert len(passes) == 1
    assert {k: float(v) for k, v in losses.items()} == {k: float(v) for k, v in built.losses(data).items()}
    assert found[0].extra["number"].tolist() == built.predict(data)[0].extra["number"].tolist() == [26, 22]
    assert found[1].extra["number"].tolist() == [226, 222]
    assert not losses["class"].requires_grad


def test_evaluation_waits_for_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may have no batch left: a sum over all of them would never end."""

    def waiting(value: Tensor) -> Tensor:
        raise AssertionError

    monkeypatch.setattr("densedet.core.distributed.sum_over_processes", waiting)
    built = detector([[0, 1, -1, -1], [-1, -1, 0, -1]], box_weight="score")
    assert float(built.evaluate(batch(TWO_IMAGES))[0]["class"]) == pytest.approx(8 / 3)
    with pytest.raises(AssertionError):
        built.losses(batch(TWO_IMAGES))


def test_a_matcher_may_ask_for_adjusted_scores_and_for_the_progress() -> None:
    seen: dict[str, Any] = {}

    class Asking(Given):
        uses_predictions: Any = "adjusted"

        def __call__(self, *arguments: Any, progress: float = -1.0) -> Assignment:
            seen.update(scores=arguments[5][0], progress=progress)
            return super().__call__()

    def half(scores: Tensor, values: Tensor) -> Tensor:
        return scores * 0.5

    built = detector([[-1] * 4], head=SaidMore(adjust=half), matcher=Asking([[-1] * 4]))
    data = batch([[]])
    data.extras = {"number": Extra()}
    data.extra, data.extra_known = {"number": torch.zeros(1, 0)}, {"number": torch.zeros(1, 0) > 0}
    built(data)
    assert seen["progress"] == 1.0, "outside of a training it is over"
    assert torch.equal(seen["scores"], torch.full((1, 4, 2), 0.25))  # sigmoid(0) halved
    built.progress, built.matcher.uses_predictions = 0.3, True
    built(data)
    assert seen["progress"] == 0.3
    assert torch.equal(seen["scores"], torch.full((1, 4, 2), 0.5))


def test_losses_may_ask_for_the_progress() -> None:
    class Later(AbsoluteSum):
        def forward(self, prediction: Tensor, target: Tensor, progress: float = -1.0) -> Tensor:
            return super().forward(prediction, target) * progress

    class LaterOnes(Ones):
        def forward(
            self, logits: Tensor, labels: Tensor, quality: Tensor | None, progress: float = -1.0
        ) -> Tensor:
            return super().forward(logits, labels, quality) * progress

    built = detector([[0, 1, -1, -1], [-1, -1, 0, -1]], class_loss=LaterOnes(), box_loss=[Later()])
    built.progress = 0.25
    losses = built(batch(TWO_IMAGES))
    assert float(losses["class"]) == pytest.approx(0.25 * 8 / 3)
    assert float(losses["box"]) == pytest.approx(0.25 * 4 / 3)


def test_a_required_quality_is_the_iou_of_the_decoded_box() -> None:
    received: list[Tensor] = []

    class Wanting(Ones):
        quality = "required"

        def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
            assert quality is not None
            received.append(quality)
            return super().forward(logits, labels, quality)

    # Anchor 0 decodes to itself, its object is its upper half: IoU 1/2.
    detector([[0, -1, -1, -1]], class_loss=Wanting())(batch([[[0.0, 0, 16, 8]]]))
    assert received[0].tolist() == [[0.5, 0, 0, 0]]
    assert not received[0].requires_grad


def test_a_box_loss_in_a_space_that_the_coder_lacks_is_refused() -> None:
    with pytest.raises(PartError, match="works on bins, which the coder Offsets does not give"):
        detector([[-1] * 4], box_loss=[AbsoluteSum("bins")])


def test_a_box_weight_that_no_branch_has_is_refused() -> None:
    with pytest.raises(
        PartError, match="box_weight 'centerness' is neither none, quality, score nor a branch"
    ):
        detector([[-1] * 4], box_weight="centerness")


def test_predictions_are_float32_under_autocast() -> None:
    built = detector([[-1] * 4])
    kinds: list[torch.dtype] = []

    def look(scores: Tensor, decoded: Tensor, *_: Any) -> list[Detections]:
        kinds.extend((scores.dtype, decoded.dtype))
        return [Detections.empty()]

    built.postprocess = look
    with torch.autocast("cpu", dtype=torch.bfloat16):
        built.predict(batch([[]]))
    assert kinds == [torch.float32, torch.float32]


def quickstart(name: str) -> Any:
    from densedet.core.recipe.loading import load_recipe

    return load_recipe(name, ["data.train.count=20", "data.val.count=10"])


@pytest.mark.parametrize("name", ["quickstart_ssd", "quickstart_retinanet"])
def test_zero_overlap_objects_turn_nothing_positive(name: str) -> None:
    """The trap of "every object keeps its best anchor, ties included": an object far outside ties with every
    anchor at IoU 0."""
    built = assembly.build_detector(quickstart(name), 10)
    data = example_batch(objects=1, size=(64, 128))
    data.boxes = torch.tensor([[[5000.0, 5000, 5010, 5010]], [[0.0, 0, 20, 20]]])
    targets = built.assign(built.run_network(data), data)
    assert int(targets.positive[0].sum()) == 0
    assert 0 < int(targets.positive[1].sum()) < targets.positive.shape[1] / 4


@pytest.mark.parametrize("name", ["quickstart_ssd", "quickstart_retinanet"])
def test_images_without_objects_teach(name: str) -> None:
    """Three times no positives is no negatives: hard negatives need a floor."""
    built = assembly.build_detector(quickstart(name), 10)
    losses = built(example_batch(objects=0, size=(64, 128)))
    assert float(losses["class"].detach()) > 0
    assert float(losses["box"].detach()) == 0


def test_the_first_class_loss_is_what_the_prior_says() -> None:
    """Focal loss at p = .01 on an image without objects: N*C * (1-.25) * .01^2 * -log(.99)."""
    built = assembly.build_detector(quickstart("quickstart_retinanet"), 10)
    nn.init.zeros_(
        next(m for n, m in built.head.named_parameters() if n.endswith("weight") and m.shape[0] == 90)
    )
    data = example_batch(objects=0, size=(64, 128))
    output = built.run_network(data)
    scores = built.class_loss.scores(output.logits)
    assert float(scores.median()) == pytest.approx(0.01, rel=0.05)
    expected = output.logits.shape[1] * 2 * 10 * 0.75 * 0.01**2 * -math.log(0.99)
    assert float(built(data)["class"].detach()) == pytest.approx(expected, rel=0.2)


def test_boxes_functions() -> None:
    first = torch.tensor([[0.0, 0, 4, 4]])
    second = torch.tensor([[2.0, 2, 6, 6], [4.0, 4, 8, 8], [1.0, 1, 1, 1]])
    # overlap 2*2 = 4, union 16 + 16 - 4 = 28; touching corners 0; a point 0
    assert boxes.pairwise_iou(first, second)[0].tolist() == pytest.approx([4 / 28, 0, 0])
    assert boxes.iou(second[2], second[2]) == 0, "two boxes without area are not alike"
    assert boxes.clip(torch.tensor([[-1.0, 2, 30, 40]]), torch.tensor([10, 20])).tolist() == [[0, 2, 20, 10]]
    assert boxes.area(torch.tensor([3.0, 3, 1, 5])) == 0, "an inverted box has no area"


def test_a_head_for_other_anchors_is_refused_while_loading() -> None:
    """The dry run names the level, the cells and the counts."""
    values = quickstart("quickstart_ssd").values
    built = assembly.build_detector(recipe_from_dict(values), 10)
    built.head.num_anchors = (4, 4, 4, 4)
    built.anchors.num_anchors = (4, 4, 4)
    with pytest.raises(PartError, match="anchors are for 3 levels but the features have 4"):
        built.dry_run(1, (64, 128))


def test_targets_need_no_network() -> None:
    """`match` gives the targets of `explain` and calls neither backbone nor head with numbers; a matcher that
    goes by predictions has none."""
    built: Any = densedet.build("quickstart_retinanet", ["model.backbone.widths=[8, 8, 8]"]).eval()
    given = densedet.make_batch("quickstart_retinanet", count=2)
    run: list[str] = []
    built.backbone.register_forward_pre_hook(lambda _, images: run.append(images[0].device.type))
    built.head.register_forward_pre_hook(lambda *_: run.append("head"))
    found = built.match(given)
    assert run == ["meta"], "shapes alone"
    wanted = built.explain(given).targets
    assert run[1:] == ["cpu", "head"]
    built.match(given)
    assert len(run) == 3, "the maps' sizes are known now"
    assert found.levels == wanted.levels
    for name in ("anchors", "matched_idxs", "labels", "boxes"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name
    aligned: Any = densedet.build(
        "quickstart_retinanet", ["model.backbone.widths=[8, 8, 8]", "model.matcher=task_aligned"]
    )
    assert aligned.match(given) is None
