import pytest
import torch
from torchvision.ops import box_iou

from densedet.core.errors import PartError
from densedet.plugins.matchers import _pairs as pairs
from densedet.plugins.matchers.task_aligned import TaskAlignedMatcher

ROW = torch.tensor([[10.0 * i, 0, 10 * i + 10, 10] for i in range(4)])
"""Four anchors with centres at x = 5, 15, 25, 35, y = 5."""


def match(boxes, scores, decoded=ROW, **arguments):
    boxes = torch.tensor([boxes], dtype=torch.float32)
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
    predictions = (torch.tensor([scores])[..., None], decoded[None])
    found = TaskAlignedMatcher(**arguments)(
        boxes, torch.zeros(boxes.shape[:2], dtype=torch.int64), valid, ROW, (), predictions
    )
    return found.matched_idxs[0].tolist(), found.quality[0]


def test_by_hand():
    # The object covers anchors 0 to 2; their decoded boxes have IoU 1, 1/2 and 1/2 with it, with scores .1,
    # .8 and .4. alpha 1, beta 1: alignment .1, .4, .2. The best two are 1 and 2; the largest .4 becomes their
    # largest IoU, 1/2: quality .5 and .2/.4 * .5 = .25.
    decoded = torch.tensor([[0.0, 0, 30, 10], [0, 0, 15, 10], [15, 0, 30, 10], [0, 0, 1, 1]])
    index, quality = match([[0, 0, 30, 10]], [0.1, 0.8, 0.4, 0.9], decoded, topk=2, beta=1.0)
    assert index == [-1, 0, 0, -1]
    torch.testing.assert_close(quality, torch.tensor([0, 0.5, 0.25, 0]))
    # beta 6: .1 * 1, .8/64 = .0125, .4/64: anchors 0 and 1, largest IoU 1.
    index, quality = match([[0, 0, 30, 10]], [0.1, 0.8, 0.4, 0.9], decoded, topk=2)
    assert index == [0, 0, -1, -1]
    torch.testing.assert_close(quality, torch.tensor([1, 0.125, 0, 0]))


def test_an_anchor_that_two_objects_choose_goes_to_the_larger_iou():
    decoded = torch.tensor([[0.0, 0, 10, 10]] * 4)
    # Both objects contain only centre 0; IoU of its decoded box: 100/150 and 100/120.
    index, quality = match([[0, 0, 15, 10], [0, 0, 12, 10]], [0.5] * 4, decoded)
    assert index == [1, -1, -1, -1]
    torch.testing.assert_close(quality, torch.tensor([100 / 120, 0, 0, 0]))
    assert match([[0, 0, 12, 10]] * 2, [0.5] * 4, decoded)[0] == [0, -1, -1, -1]


def test_an_object_without_a_centre_inside_gets_the_nearest():
    assert match([[11, 4, 13, 6]], [0.5] * 4)[0] == [-1, 0, -1, -1]
    assert match([[11, 4, 13, 6]], [0.5] * 4, nearest=False)[0] == [-1, -1, -1, -1]
    assert match([[9, 4, 11, 6]], [0.5] * 4)[0] == [0, 0, -1, -1]  # as near to 5 as to 15
    assert match([[5, 4, 7, 6]], [0.5] * 4, nearest=False)[0] == [-1, -1, -1, -1]  # on the side is not inside


@pytest.mark.parametrize("score", [0.5, 0.0])
def test_decoded_boxes_that_miss_the_object_leave_quality_zero_and_finite(score):
    index, quality = match([[0, 0, 20, 10]], [score, score, 0, 0], torch.zeros(4, 4))
    assert index == [0, 0, -1, -1]
    assert quality.tolist() == [0, 0, 0, 0]
    index, _ = match([[0, 0, 20, 10]], [0.2, 0.3, 0, 0], torch.zeros(4, 4), topk=1)
    assert index == [-1, 0, -1, -1]  # then the score alone ranks


def by_the_book(boxes, labels, anchors, scores, decoded, topk):
    """Section 3.2 for one image, object by object. -> index, quality as lists."""
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    overlaps = box_iou(boxes, decoded)
    alignment = scores[:, labels].T * overlaps.clamp(min=1e-5) ** 6
    index = torch.full((len(anchors),), -1)
    for slot, box in enumerate(boxes):
        inside = ((centers > box[:2]) & (centers < box[2:])).all(dim=1)
        if not inside.any():
            distance = (centers - (box[:2] + box[2:]) / 2).square().sum(dim=1)
            inside = distance == distance.min()
        ranked = sorted(inside.nonzero().flatten().tolist(), key=lambda a: -alignment[slot, a].item())
        for anchor in ranked[:topk]:
            if index[anchor] == -1 or overlaps[slot, anchor] > overlaps[index[anchor], anchor]:
                index[anchor] = slot
    quality = torch.zeros(len(anchors))
    for slot in range(len(boxes)):
        mine = index == slot
        if mine.any():
            quality[mine] = alignment[slot, mine] / alignment[slot, mine].max() * overlaps[slot, mine].max()
    return index, quality


@pytest.mark.parametrize("seed", range(10))
def test_is_the_papers_rule(seed, scene, points):
    boxes, labels, valid = scene(seed)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(4, len(points), 3, generator=generator)
    decoded = (
        points + torch.randn(4, len(points), 4, generator=generator) * 3 + torch.tensor([-8.0, -8, 8, 8])
    )
    found = TaskAlignedMatcher(topk=4)(boxes, labels, valid, points, (), (scores, decoded))
    assert found.matched_idxs.dtype == torch.int64
    assert found.quality.dtype == torch.float32
    for image, slots in enumerate(valid):
        index, quality = by_the_book(
            boxes[image, slots], labels[image, slots], points, scores[image], decoded[image], 4
        )
        renumbered = torch.cat((slots.nonzero().flatten(), torch.tensor([-1])))
        assert found.matched_idxs[image].tolist() == renumbered[index].tolist()
        torch.testing.assert_close(found.quality[image], quality)
        for slot in found.matched_idxs[image].unique().clamp(min=0):
            mine = found.matched_idxs[image] == slot
            if mine.any():
                assert (
                    found.quality[image][mine].max()
                    == box_iou(boxes[image, slot][None], decoded[image][mine]).max()
                )


@pytest.mark.parametrize("objects", [0, 3])
def test_no_objects(objects, points):
    nothing = torch.zeros(2, objects, dtype=torch.bool)
    predictions = (torch.rand(2, len(points), 3), points.expand(2, -1, -1))
    found = TaskAlignedMatcher()(
        torch.zeros(2, objects, 4), nothing.long() - 1, nothing, points, (), predictions
    )
    assert found.matched_idxs.tolist() == [[-1] * len(points)] * 2
    assert found.quality.tolist() == [[0.0] * len(points)] * 2


def test_chunks_change_nothing(scene, points, monkeypatch):
    predictions = (torch.rand(4, len(points), 3), points + torch.randn(4, len(points), 4))
    whole = TaskAlignedMatcher()(*scene(1), points, (), predictions)
    monkeypatch.setattr(pairs, "LARGEST", 1)
    chunked = TaskAlignedMatcher()(*scene(1), points, (), predictions)
    assert torch.equal(chunked.matched_idxs, whole.matched_idxs)
    # A power rounds differently in a vector register and in the last few elements after it.
    torch.testing.assert_close(chunked.quality, whole.quality)


def test_predictions_are_needed(scene, points):
    assert TaskAlignedMatcher().uses_predictions
    with pytest.raises(PartError, match="got no predictions"):
        TaskAlignedMatcher()(*scene(0), points, ())
