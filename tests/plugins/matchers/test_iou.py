import numpy as np
import pytest
import torch
from torchvision.models.detection._utils import Matcher, SSDMatcher
from torchvision.ops import box_iou

from densedet.core.errors import PartError
from densedet.plugins.matchers import _pairs as pairs
from densedet.plugins.matchers.iou import IoUMatcher

ROW = torch.tensor([[10.0 * i, 0, 10 * i + 10, 10] for i in range(4)])
"""Four anchors of 10 x 10 side by side."""

TORCHVISION_SSD = {"negative": 0.5, "force_min_iou": None, "contested": "last"}
TORCHVISION_RETINANET = {"force": "best_with_ties", "force_to": "own", "force_min_iou": None}


def match(matcher, boxes, anchors=ROW):
    """Index and quality of one image with these objects, as lists."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(1, -1, 4)
    count = boxes.shape[1]
    found = matcher(
        boxes, torch.zeros(1, count, dtype=torch.int64), torch.ones(1, count, dtype=torch.bool), anchors, ()
    )
    return found.matched_idxs[0].tolist(), found.quality[0].tolist()


def test_thresholds_by_hand():
    # IoU with its anchor: 50/100 = 0.5, 40/100 = 0.4, 30/100 = 0.3, 0.
    boxes = [[0, 0, 10, 5], [10, 0, 20, 4], [20, 0, 30, 3]]
    index, quality = match(IoUMatcher(positive=0.5, negative=0.4, force="none"), boxes)
    assert index == [0, -2, -1, -1]
    assert quality == [0.5, 0, 0, 0]


def test_every_object_keeps_its_best_anchor():
    boxes = [[0, 0, 10, 5], [10, 0, 20, 4], [20, 0, 30, 3]]
    index, quality = match(IoUMatcher(), boxes)
    assert index == [0, 1, 2, -1]
    assert quality == pytest.approx([0.5, 0.4, 0.3, 0])


@pytest.mark.parametrize("force", ["best", "best_with_ties"])
@pytest.mark.parametrize("force_to", ["forcing", "own"])
@pytest.mark.parametrize("contested", ["next_best", "best", "last"])
def test_an_object_that_touches_no_anchor_forces_nothing(force, force_to, contested):
    index, quality = match(
        IoUMatcher(force=force, force_to=force_to, contested=contested),
        [[500, 500, 510, 510], [0, 0, 10, 10]],
    )
    assert index == [1, -1, -1, -1]
    assert quality == [1, 0, 0, 0]


def test_torchvisions_fault_is_there_for_the_asking():
    assert match(IoUMatcher(**TORCHVISION_RETINANET), [[500, 500, 510, 510]])[0] == [0, 0, 0, 0]
    assert match(IoUMatcher(**TORCHVISION_SSD), [[500, 500, 510, 510]])[0] == [0, -1, -1, -1]


def test_force_min_iou_is_a_limit_that_must_be_exceeded():
    boxes = [[0, 0, 10, 5], [20, 0, 30, 2]]  # IoU 0.5 and 0.2
    assert match(IoUMatcher(positive=0.9, force_min_iou=0.2), boxes)[0] == [0, -1, -1, -1]
    assert match(IoUMatcher(positive=0.9, force_min_iou=0.5), boxes)[0] == [-2, -1, -1, -1]


def test_two_objects_that_force_one_anchor():
    # Object 0 and 1 overlap anchor 0 most: areas 10*2 = 20 and 12*3 = 36, shared 20 and 30: IoU 20/100 = 0.2
    # and 30/106 = 0.28. Next best of object 0: nothing. Object 1 also touches anchor 1: 6/(100 + 36 - 6) =
    # 0.046.
    boxes = [[0, 0, 10, 2], [0, 0, 12, 3]]
    assert match(IoUMatcher(), boxes)[0] == [1, -1, -1, -1]  # object 0 touches no other anchor
    assert match(IoUMatcher(), [[0, 0, 12, 2], boxes[1]])[0] == [
        1,
        0,
        -1,
        -1,
    ]  # here it does, and takes anchor 1
    assert match(IoUMatcher(force="best_with_ties"), [[0, 0, 12, 2], boxes[1]])[0] == [1, 0, -1, -1]
    assert match(IoUMatcher(contested="best"), [[0, 0, 12, 2], boxes[1]])[0] == [1, -1, -1, -1]
    assert match(IoUMatcher(contested="last"), boxes[::-1])[0] == [
        1,
        -1,
        -1,
        -1,
    ]  # the later slot, though its IoU is 0.2
    assert match(IoUMatcher(contested="best"), boxes[::-1])[0] == [0, -1, -1, -1]


def test_forcing_object_or_own_object():
    # Object 0 covers anchor 0: IoU 1. Object 1, inside it, has its best IoU there too: 1/100. A single
    # anchor.
    anchors, boxes = ROW[:1], [[0, 0, 10, 10], [0, 0, 1, 1]]
    assert match(IoUMatcher(contested="last"), boxes, anchors) == ([1], [pytest.approx(0.01)])
    assert match(IoUMatcher(contested="last", force_to="own"), boxes, anchors) == ([0], [1.0])
    assert match(IoUMatcher(), boxes, anchors) == ([0], [1.0])


def test_ties():
    # An object across two anchors: 50 px2 of each, IoU 50/150.
    boxes = [[5, 0, 15, 10]]
    assert match(IoUMatcher(), boxes)[0] == [0, -1, -1, -1]
    assert match(IoUMatcher(force="best_with_ties"), boxes)[0] == [0, 0, -1, -1]
    assert match(IoUMatcher(force="best_with_ties", force_to="own"), boxes)[0] == [0, 0, -1, -1]
    assert match(IoUMatcher(force="best_with_ties", contested="last"), boxes * 2)[0] == [1, 1, -1, -1]
    # Anchors 0 and 1 are ties of object 0 (IoU 50/150); one of them is the best of object 1 (60/140 or
    # 60/100), which wins it.
    for contested in ("best", "next_best"):
        assert match(IoUMatcher(force="best_with_ties", contested=contested), [*boxes, [0, 0, 6, 10]])[0] == [
            1,
            0,
            -1,
            -1,
        ]
        assert match(IoUMatcher(force="best_with_ties", contested=contested), [*boxes, [14, 0, 20, 10]])[
            0
        ] == [
            0,
            1,
            -1,
            -1,
        ]
    # Three times the same object: the lowest slot wins an anchor, the next takes the next; the third finds
    # none.
    assert match(IoUMatcher(), boxes * 3)[0] == [0, 1, -1, -1]


@pytest.mark.parametrize("seed", range(30))
def test_is_torchvisions(seed, scene, points):
    boxes, labels, valid = scene(seed, images=1, objects=8, far=seed % 2 == 0)
    if seed % 3 == 0:
        boxes = boxes.round()  # many ties
    boxes, labels, valid = (t[:, valid[0]] for t in (boxes, labels, valid))
    overlaps = box_iou(boxes[0], points)
    assert torch.equal(pairs.pairwise_iou(boxes, points)[0], overlaps)
    for arguments, reference in (
        (TORCHVISION_SSD, SSDMatcher(0.5)),
        (TORCHVISION_RETINANET, Matcher(0.5, 0.4, allow_low_quality_matches=True)),
        ({"force": "none"}, Matcher(0.5, 0.4)),
    ):
        found = IoUMatcher(**arguments)(boxes, labels, valid, points, ())
        assert torch.equal(found.matched_idxs[0], reference(overlaps.clone()))
        positive = found.matched_idxs[0] >= 0
        assert torch.equal(
            found.quality[0][positive],
            overlaps[found.matched_idxs[0][positive], positive.nonzero().flatten()],
        )
        assert not found.quality[0][~positive].any()


def greedy(overlaps, minimum=0.0):
    """Take the largest IoU of all, strike its object and its anchor, again and again."""
    overlaps, held = overlaps.copy(), np.full(overlaps.shape[1], -1)
    while overlaps.size and overlaps.max() > minimum:
        slot, anchor = np.unravel_index(overlaps.argmax(), overlaps.shape)
        held[anchor] = slot
        overlaps[slot], overlaps[:, anchor] = -1, -1
    return held


@pytest.mark.parametrize("seed", range(20))
def test_next_best_is_the_greedy_matching(seed):
    generator = torch.Generator().manual_seed(seed)
    corner = (
        torch.rand(3, 25, 2, generator=generator) * 8
    )  # 25 objects crowd on 36 anchors, so most forced anchors are contested
    boxes = torch.cat((corner, corner + torch.rand(3, 25, 2, generator=generator) * 8 + 1), dim=-1)
    anchor_corner = torch.rand(36, 2, generator=generator) * 8
    anchors = torch.cat((anchor_corner, anchor_corner + 4), dim=1)
    found = IoUMatcher(positive=1.0, negative=1.0)(
        boxes, torch.zeros(3, 25), torch.ones(3, 25, dtype=torch.bool), anchors, ()
    )
    for image in range(3):
        assert found.matched_idxs[image].tolist() == greedy(box_iou(boxes[image], anchors).numpy()).tolist()


ARGUMENTS = [
    {},
    {"force": "none"},
    {"contested": "last"},
    {"contested": "best", "force": "best_with_ties"},
    {"force": "best_with_ties"},
    TORCHVISION_SSD,
    TORCHVISION_RETINANET,
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_a_batch_is_its_images_without_their_empty_slots(arguments, scene, points, monkeypatch):
    boxes, labels, valid = scene(3, far=True)
    matcher = IoUMatcher(**arguments)
    whole = matcher(boxes, labels, valid, points, ())
    assert whole.matched_idxs.dtype == torch.int64
    assert whole.quality.dtype == torch.float32
    for image, slots in enumerate(valid):
        index, quality = match(matcher, boxes[image, slots].tolist(), points)
        renumbered = torch.cat((slots.nonzero().flatten(), torch.tensor([-2, -1])))  # [-2] is -2, [-1] is -1
        assert whole.matched_idxs[image].tolist() == renumbered[torch.tensor(index)].tolist()
        assert whole.quality[image].tolist() == quality
    monkeypatch.setattr(pairs, "LARGEST", 1)
    chunked = matcher(boxes, labels, valid, points, ())
    assert torch.equal(chunked.matched_idxs, whole.matched_idxs)
    assert torch.equal(chunked.quality, whole.quality)


@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("objects", [0, 3])
def test_no_objects(arguments, objects, points):
    nothing = torch.zeros(2, objects, dtype=torch.bool)
    found = IoUMatcher(**arguments)(torch.zeros(2, objects, 4), nothing.long() - 1, nothing, points, ())
    assert found.matched_idxs.tolist() == [[-1] * len(points)] * 2
    assert found.quality.tolist() == [[0.0] * len(points)] * 2


def test_negative_above_positive_is_refused():
    with pytest.raises(PartError, match=r"negative 0.6 is above positive 0.5"):
        IoUMatcher(positive=0.5, negative=0.6)
