"""Why a matcher chose what it chose: the sentences of `densedet show explain`."""

import pytest
import torch

from densedet.core.types import Level
from densedet.plugins.matchers.atss import ATSSMatcher
from densedet.plugins.matchers.fcos import FCOSMatcher
from densedet.plugins.matchers.iou import IoUMatcher
from densedet.plugins.matchers.task_aligned import TaskAlignedMatcher

ROW = torch.tensor([[10.0 * i, 0, 10 * i + 10, 10] for i in range(5)])
"""Five anchors of 10 x 10 side by side, with centres at x = 5, 15, 25 ..., y = 5."""
CELLS = (Level(1, 5, 1, 10),)


def told(matcher, boxes, anchors=ROW, levels=CELLS, predictions=None):
    """The sentence of each anchor, with numbers of two digits and objects as their slots."""
    boxes = torch.tensor([boxes])
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
    given = boxes, valid.long() - 1, valid, anchors, levels, predictions
    found = matcher.reasons(matcher(*given), *given)
    return [
        found.rules[int(found.rule[0, anchor])].format(
            **{name: f"{float(values[0, anchor]):.2f}" for name, values in found.values.items()},
            **{name: f"object {int(slots[0, anchor])}" for name, slots in found.objects.items()},
        )
        for anchor in range(len(anchors))
    ]


def test_iou_thresholds():
    # IoU with its anchor: 60/100, 45/100 (between 0.4 and 0.5), 30/100, and none of an object with anchor 3.
    matcher = IoUMatcher(low_quality_matches="none")
    sentences = told(matcher, [[0.0, 0, 10, 6], [10, 0, 20, 4.5], [20, 0, 30, 3]])
    starts = [
        "Its IoU with object 0 is 0.60, and at least 0.5: positive",
        "Its largest IoU is 0.45, with object 1. That is at least 0.4 but below 0.5: it is ignored",
        "Its largest IoU is 0.30, with object 2. That is below 0.4: background",
        "No object overlaps it: background",
        "No object overlaps it: background",
    ]
    assert [sentence[: len(start)] for sentence, start in zip(sentences, starts)] == starts


def test_a_forced_match_says_so():
    # The conflict of the matcher's docstring: IoU 0.28 and 0.19 with anchor 0, 0.046 and 0.033 with anchor 1.
    objects = [[0.0, 0, 12, 3], [0, 0, 12, 2]]
    first, second, *_ = told(IoUMatcher(), objects)
    assert first.startswith("Its IoU with object 0 is 0.28, below 0.5. Each object keeps its best anchor")
    assert second.startswith("It overlaps object 0 most (IoU 0.05), but it is the anchor that object 1 keeps")
    first, *_ = told(IoUMatcher(low_quality_target="best_object"), objects)
    assert first.endswith("It is trained on the object that it overlaps most, object 0 (IoU 0.28).")


def test_atss_names_the_objects_threshold():
    # One cell gives one candidate a level: the level has one, anchor 0, with IoU 60/100 = its own mean.
    sentences = told(ATSSMatcher(topk=1), [[0.0, 0, 10, 6]])
    assert sentences[0].startswith("Its IoU with object 0, 0.60, reaches the object's threshold of 0.60")
    assert sentences[1].startswith("It is no object's candidate, which are the anchors of the 1 cells")
    # Two candidates, IoU 0.6 and 0 (it ends at x = 10): mean 0.3, deviation sqrt(2 * 0.09) = 0.42.
    sentences = told(ATSSMatcher(topk=2, rescue=True), [[0.0, 0, 10, 6]])
    assert sentences[0].startswith("No candidate of object 0 reaches its threshold of 0.72")
    assert sentences[1].startswith("It is a candidate of object 0, but their IoU, 0.00, is below")
    # A centre outside: (0, 6, 10, 10) has IoU 0.4 with anchor 0, whose centre is at y = 5.
    sentences = told(ATSSMatcher(topk=1, rescue=False), [[0.0, 6, 10, 10]])
    assert "0.40, reaches the object's threshold of 0.40" in sentences[0]
    assert "its centre lies outside of the object: background" in sentences[0]


def test_fcos_names_sizes_and_distances():
    # The object's centre is (15, 5); ranges end at 8 strides for all levels but the last, which is open.
    levels = (Level(1, 5, 1, 10), Level(1, 1, 1, 20))
    anchors = torch.cat([ROW, torch.tensor([[0.0, 0, 20, 20]])])
    sentences = told(FCOSMatcher(ranges=(20.0,), center_radius=0.6), [[0.0, 0, 30, 10]], anchors, levels)
    # From (5, 5): 25 to the right side. From (15, 5): 15.
    assert "farthest side is 25.00 pixels away, and this level takes sizes from 0.00 to 20.00" in sentences[0]
    assert sentences[1].startswith(
        "Its centre lies in object 0, less than 6.00 pixels from the object's centre"
    )
    assert sentences[3] == "Its centre lies in no object: background."
    # The far level takes sizes from 20 on: (10, 10) lies on the object's edge, which is not inside.
    assert sentences[5] == "Its centre lies in no object: background."
    sentences = told(FCOSMatcher(center_radius=0.6), [[0.0, 0, 30, 10]])
    assert "10.00 pixels from the object's centre along x or y, which is not less than 6.00" in sentences[0]


def test_task_alignment_names_its_factors():
    # alpha 1, beta 1: alignment .1 * 1, .8 / 2, .4 / 2; the best two are anchors 1 and 2.
    decoded = torch.tensor([[0.0, 0, 30, 10], [0, 0, 15, 10], [15, 0, 30, 10], [0, 0, 1, 1], [0, 0, 1, 1]])
    scores = torch.tensor([0.1, 0.8, 0.4, 0.9, 0.9])[None, :, None]
    matcher = TaskAlignedMatcher(topk=2, beta=1.0)
    sentences = told(matcher, [[0.0, 0, 30, 10]], predictions=(scores, decoded[None]))
    assert "alignment of 0.10 (score 0.10 to the power of 1, times IoU 1.00" in sentences[0]
    assert "The 2 best of the object have 0.20 or more" in sentences[0]
    assert "its alignment is 0.40 (score 0.80 to the power of 1, times IoU 0.50" in sentences[1]
    assert sentences[3] == "Its centre lies in no object: background."
    nearest = told(matcher, [[16.0, 0, 24, 2]], predictions=(scores, decoded[None]))
    assert nearest[1].startswith("No anchor's centre lies inside of object 0. This is the nearest")


@pytest.mark.parametrize("matcher", [IoUMatcher(), ATSSMatcher(), FCOSMatcher(), TaskAlignedMatcher()])
@pytest.mark.parametrize("seed", range(3))
def test_each_sentence_ends_as_the_match_does(matcher, seed, scene, levels, points):
    boxes, labels, valid = scene(seed)
    predictions = torch.rand(4, len(points), 3), points.expand(4, -1, -1)
    given = boxes, labels, valid, points, levels, predictions
    assignment = matcher(*given)
    found = matcher.reasons(assignment, *given)
    for image, row in enumerate(found.rule.tolist()):
        for anchor, rule in enumerate(row):
            sentence, index = found.rules[rule], int(assignment.matched_idxs[image, anchor])
            kind = -1 if "background" in sentence else -2 if "ignored" in sentence else 0
            assert min(index, 0) == kind, sentence
            if index >= 0:
                assert int(found.objects["object"][image, anchor]) == index
