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

TORCHVISION_SSD = {"negative": 0.5, "low_quality_min_iou": None, "low_quality_conflict": "last"}
TORCHVISION_RETINANET = {
    "low_quality_matches": "best_with_ties",
    "low_quality_target": "best_object",
    "low_quality_min_iou": None,
}
TIES = {"low_quality_matches": "best_with_ties"}
LAST = {"low_quality_conflict": "last"}
BEST = {"low_quality_conflict": "best"}
NONE = {"low_quality_matches": "none"}


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
    index, quality = match(IoUMatcher(positive=0.5, negative=0.4, **NONE), boxes)
    assert index == [0, -2, -1, -1]
    assert quality == [0.5, 0, 0, 0]


def test_every_object_keeps_its_best_anchor():
    boxes = [[0, 0, 10, 5], [10, 0, 20, 4], [20, 0, 30, 3]]
    index, quality = match(IoUMatcher(), boxes)
    assert index == [0, 1, 2, -1]
    assert quality == pytest.approx([0.5, 0.4, 0.3, 0])


@pytest.mark.parametrize("matches", ["best", "best_with_ties"])
@pytest.mark.parametrize("target", ["claiming_object", "best_object"])
@pytest.mark.parametrize("conflict", ["bipartite", "best", "last"])
def test_an_object_that_touches_no_anchor_gets_none(matches, target, conflict):
    matcher = IoUMatcher(
        low_quality_matches=matches, low_quality_target=target, low_quality_conflict=conflict
    )
    index, quality = match(matcher, [[500, 500, 510, 510], [0, 0, 10, 10]])
    assert index == [1, -1, -1, -1]
    assert quality == [1, 0, 0, 0]


def test_torchvisions_fault_is_there_for_the_asking():
    assert match(IoUMatcher(**TORCHVISION_RETINANET), [[500, 500, 510, 510]])[0] == [0, 0, 0, 0]
    assert match(IoUMatcher(**TORCHVISION_SSD), [[500, 500, 510, 510]])[0] == [0, -1, -1, -1]


def test_low_quality_min_iou_is_a_limit_that_must_be_exceeded():
    boxes = [[0, 0, 10, 5], [20, 0, 30, 2]]  # IoU 0.5 and 0.2
    assert match(IoUMatcher(positive=0.9, low_quality_min_iou=0.2), boxes)[0] == [0, -1, -1, -1]
    assert match(IoUMatcher(positive=0.9, low_quality_min_iou=0.5), boxes)[0] == [-2, -1, -1, -1]


def test_two_objects_with_one_best_anchor():
    """The example in the docstring of `IoUMatcher`."""
    # Areas 12 * 3 = 36 and 12 * 2 = 24. Anchor 0: shared 30 and 20, IoU 30/106 = 0.283 and 20/104 = 0.192;
    # anchor 1: shared 6 and 4, IoU 6/130 = 0.046 and 4/120 = 0.033.
    boxes = [[0, 0, 12, 3], [0, 0, 12, 2]]
    assert match(IoUMatcher(**NONE), boxes)[0] == [-1, -1, -1, -1]
    found = [0, 1, -1, -1], pytest.approx([30 / 106, 4 / 120, 0, 0])
    assert match(IoUMatcher(), boxes) == found
    assert match(IoUMatcher(**TIES), boxes) == found
    assert match(IoUMatcher(**BEST), boxes)[0] == [0, -1, -1, -1]
    assert match(IoUMatcher(**LAST), boxes)[0] == [1, -1, -1, -1]  # the later slot, though its IoU is smaller
    assert match(IoUMatcher(**BEST), boxes[::-1])[0] == [1, -1, -1, -1]
    # 10 pixels wide, object 1 touches no other anchor.
    assert match(IoUMatcher(), [boxes[0], [0, 0, 10, 2]])[0] == [0, -1, -1, -1]


def test_the_claiming_or_the_best_object():
    # Object 0 covers anchor 0: IoU 1. Object 1, inside it, has its best IoU there too: 1/100. A single
    # anchor.
    anchors, boxes = ROW[:1], [[0, 0, 10, 10], [0, 0, 1, 1]]
    assert match(IoUMatcher(**LAST), boxes, anchors) == ([1], [pytest.approx(0.01)])
    assert match(IoUMatcher(low_quality_target="best_object"), boxes, anchors) == ([0], [1.0])
    assert match(IoUMatcher(), boxes, anchors) == ([0], [1.0])


def test_ties():
    # An object across two anchors: 50 px2 of each, IoU 50/150.
    boxes = [[5, 0, 15, 10]]
    assert match(IoUMatcher(), boxes)[0] == [0, -1, -1, -1]
    assert match(IoUMatcher(**TIES), boxes)[0] == [0, 0, -1, -1]
    assert match(IoUMatcher(**TIES, low_quality_target="best_object"), boxes)[0] == [0, 0, -1, -1]
    assert match(IoUMatcher(**TIES, **LAST), boxes * 2)[0] == [1, 1, -1, -1]
    # Anchors 0 and 1 are ties of object 0 (IoU 50/150); one of them is the best of object 1 (60/140 or
    # 60/100), which wins it.
    for conflict in ("best", "bipartite"):
        matcher = IoUMatcher(**TIES, low_quality_conflict=conflict)
        assert match(matcher, [*boxes, [0, 0, 6, 10]])[0] == [1, 0, -1, -1]
        assert match(matcher, [*boxes, [14, 0, 20, 10]])[0] == [0, 1, -1, -1]
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
        (NONE, Matcher(0.5, 0.4)),
    ):
        found = IoUMatcher(**arguments)(boxes, labels, valid, points, ())
        assert torch.equal(found.matched_idxs[0], reference(overlaps.clone()))
        positive = found.matched_idxs[0] >= 0
        assert torch.equal(
            found.quality[0][positive],
            overlaps[found.matched_idxs[0][positive], positive.nonzero().flatten()],
        )
        assert not found.quality[0][~positive].any()


def greedy(ious, minimum=0.0):
    """Bipartite matching of one image, (G,N) -> {anchor: object}: take the largest IoU of all, strike out its
    object and its anchor, again and again."""
    ious, pairs = ious.copy(), {}
    while ious.size and ious.max() > minimum:
        slot, anchor = np.unravel_index(ious.argmax(), ious.shape)
        pairs[int(anchor)] = int(slot)
        ious[slot], ious[:, anchor] = -1, -1
    return pairs


def reference(ious, positive, negative, matches="best", target="claiming_object", conflict="bipartite"):
    """`IoUMatcher` for one image without a tensor operation: (G,N) -> matched_idxs of N anchors."""
    num_objects, num_anchors = ious.shape
    best_object = [int(ious[:, anchor].argmax()) for anchor in range(num_anchors)]
    matched_idxs = []
    for anchor in range(num_anchors):
        iou = ious[best_object[anchor], anchor]
        matched_idxs.append(best_object[anchor] if iou >= positive else -1 if iou < negative else -2)
    claims = {}  # anchor -> the objects whose best anchor it is, in the order of slots
    for slot in range(num_objects):
        best = ious[slot].max()
        ties = [anchor for anchor in range(num_anchors) if ious[slot, anchor] == best > 0]
        for anchor in {"none": [], "best": ties[:1], "best_with_ties": ties}[matches]:
            claims.setdefault(anchor, []).append(slot)
    pairs = greedy(ious)
    for anchor, slots in claims.items():
        strongest = max(slots, key=lambda slot: ious[slot, anchor])  # the first of equal IoU
        winner = {"best": strongest, "last": slots[-1], "bipartite": pairs.get(anchor, strongest)}[conflict]
        matched_idxs[anchor] = best_object[anchor] if target == "best_object" else winner
    if matches != "none" and target == "claiming_object" and conflict == "bipartite":
        for anchor, slot in pairs.items():
            matched_idxs[anchor] = slot
    return matched_idxs


@pytest.mark.parametrize("matches", ["none", "best", "best_with_ties"])
@pytest.mark.parametrize("target", ["claiming_object", "best_object"])
@pytest.mark.parametrize("conflict", ["bipartite", "best", "last"])
def test_is_the_plain_reference(matches, target, conflict, scene, points):
    matcher = IoUMatcher(
        positive=0.3,
        negative=0.2,
        low_quality_matches=matches,
        low_quality_target=target,
        low_quality_conflict=conflict,
    )
    for seed in range(6):
        boxes, labels, valid = scene(seed, images=1, objects=8)
        boxes, labels, valid = (t[:, valid[0]] for t in (boxes, labels, valid))
        boxes = boxes.div(4 if seed % 2 else 1).round()  # many ties; small objects crowd on few anchors
        boxes[..., 2:] = torch.maximum(boxes[..., 2:], boxes[..., :2] + 1)
        ious = box_iou(boxes[0], points).numpy()
        found = matcher(boxes, labels, valid, points, ()).matched_idxs[0].tolist()
        assert found == reference(ious, 0.3, 0.2, matches, target, conflict)


@pytest.mark.parametrize("seed", range(20))
def test_bipartite_is_the_greedy_matching(seed):
    generator = torch.Generator().manual_seed(seed)
    corner = (
        torch.rand(3, 25, 2, generator=generator) * 8
    )  # 25 objects crowd on 36 anchors, so most best anchors are in conflict
    boxes = torch.cat((corner, corner + torch.rand(3, 25, 2, generator=generator) * 8 + 1), dim=-1)
    anchor_corner = torch.rand(36, 2, generator=generator) * 8
    anchors = torch.cat((anchor_corner, anchor_corner + 4), dim=1)
    found = IoUMatcher(positive=1.0, negative=1.0)(
        boxes, torch.zeros(3, 25), torch.ones(3, 25, dtype=torch.bool), anchors, ()
    )
    for image in range(3):
        pairs = greedy(box_iou(boxes[image], anchors).numpy())
        assert found.matched_idxs[image].tolist() == [pairs.get(anchor, -1) for anchor in range(36)]


ARGUMENTS = [
    {},
    NONE,
    LAST,
    {**BEST, **TIES},
    TIES,
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
