import pytest
import torch
from torchvision.ops import box_iou

from densedet.core.errors import PartError
from densedet.core.types import Level
from densedet.plugins.matchers import _pairs as pairs
from densedet.plugins.matchers.atss import ATSSMatcher


def by_the_book(boxes, anchors, levels, topk, rescue):
    """Algorithm 1 of the paper for one image, object by object. -> index, quality as lists."""
    index, quality = [-1] * len(anchors), [0.0] * len(anchors)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    for slot, box in enumerate(boxes):
        candidates, start = [], 0
        for level in levels:
            distances = (centers[start : start + level.count] - (box[:2] + box[2:]) / 2).norm(dim=1)
            nearest = distances.argsort(stable=True)[: topk * level.anchors] + start
            candidates += nearest.tolist()
            start += level.count
        overlaps = box_iou(box[None], anchors[candidates])[0]
        threshold = overlaps.mean() + overlaps.std() if len(candidates) > 1 else overlaps[0]
        chosen = [
            (a, o.item())
            for a, o in zip(candidates, overlaps)
            if o >= threshold and (centers[a] > box[:2]).all() and (centers[a] < box[2:]).all()
        ]
        if rescue and not chosen and overlaps.max() > 0:
            chosen = [(candidates[overlaps.argmax()], overlaps.max().item())]
        for anchor, overlap in chosen:
            if index[anchor] == -1 or overlap > quality[anchor]:
                index[anchor], quality[anchor] = slot, overlap
    return index, quality


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("rescue", [True, False])
def test_is_the_papers_algorithm(seed, rescue, scene, levels, points):
    boxes, labels, valid = scene(seed)
    found = ATSSMatcher(topk=5, rescue=rescue)(boxes, labels, valid, points, levels)
    assert (found.matched_idxs >= 0).any()
    for image, slots in enumerate(valid):
        index, quality = by_the_book(boxes[image, slots], points, levels, 5, rescue)
        renumbered = torch.cat((slots.nonzero().flatten(), torch.tensor([-1])))
        assert found.matched_idxs[image].tolist() == renumbered[torch.tensor(index)].tolist()
        torch.testing.assert_close(found.quality[image], torch.tensor(quality))


def test_all_anchors_of_the_nearest_cells_are_candidates(scene):
    level = Level(4, 8, 3, 16)
    y, x = torch.meshgrid(torch.arange(4) * 16.0 + 8, torch.arange(8) * 16.0 + 8, indexing="ij")
    half = torch.tensor([4.0, 8.0, 16.0])
    center = torch.stack((x, y), dim=-1).reshape(-1, 1, 2)
    anchors = torch.cat((center - half[:, None], center + half[:, None]), dim=2).reshape(-1, 4)
    boxes, labels, valid = scene(0)
    found = ATSSMatcher(topk=4)(boxes, labels, valid, anchors, (level,))
    for image, slots in enumerate(valid):
        expected = by_the_book(boxes[image, slots], anchors, (level,), 4, True)[0]
        renumbered = torch.cat((slots.nonzero().flatten(), torch.tensor([-1])))
        assert found.matched_idxs[image].tolist() == renumbered[torch.tensor(expected)].tolist()


def one(box, anchors, levels, **arguments):
    boxes = torch.tensor([[box]], dtype=torch.float32)
    return ATSSMatcher(**arguments)(
        boxes, torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), anchors, levels
    )


def test_by_hand():
    # Candidates are the two cells nearest to x = 6: centres 5 and 15. IoU of (0, 0, 12, 10): 100/120 = .83
    # and 20/200 = .1; mean .467, deviation .519 (M-1), threshold .985: the larger fails too, and only rescue
    # keeps it. (0, 0, 10, 10) has IoU 1 and 0: mean .5, deviation .707: 1.207. Three cells: (1, 0, 0) has
    # mean 1/3, deviation .577: threshold .911 <= 1.
    anchors = torch.tensor([[10.0 * i, 0, 10 * i + 10, 10] for i in range(4)])
    levels = (Level(1, 4, 1, 10),)
    assert one([0, 0, 12, 10], anchors, levels, topk=2, rescue=False).matched_idxs.tolist() == [
        [-1, -1, -1, -1]
    ]
    assert one([0, 0, 12, 10], anchors, levels, topk=2).matched_idxs.tolist() == [[0, -1, -1, -1]]
    found = one([0, 0, 10, 10], anchors, levels, topk=3, rescue=False)
    assert found.matched_idxs.tolist() == [[0, -1, -1, -1]]
    assert found.quality.tolist() == [[1, 0, 0, 0]]


def test_a_small_object_between_the_centres():
    anchors, levels = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10]]), (Level(1, 2, 1, 10),)
    assert one([8, 4, 11, 7], anchors, levels, rescue=False).matched_idxs.tolist() == [[-1, -1]]
    assert one([8, 4, 11, 7], anchors, levels).matched_idxs.tolist() == [[0, -1]]
    assert one([100, 100, 103, 103], anchors, levels).matched_idxs.tolist() == [[-1, -1]]  # touches no anchor


def test_a_single_candidate_has_no_deviation():
    # The only candidate has the mean for its threshold: IoU 120/200 = 0.6 >= 0.6.
    found = one([0, 0, 10, 12], torch.tensor([[0.0, 0, 10, 20]]), (Level(1, 1, 1, 16),), rescue=False)
    assert found.matched_idxs.tolist() == [[0]]
    assert found.quality.tolist() == [[pytest.approx(0.6)]]


@pytest.mark.parametrize("objects", [0, 3])
def test_no_objects(objects, levels, points):
    nothing = torch.zeros(2, objects, dtype=torch.bool)
    found = ATSSMatcher()(torch.zeros(2, objects, 4), nothing.long() - 1, nothing, points, levels)
    assert found.matched_idxs.dtype == torch.int64
    assert found.matched_idxs.tolist() == [[-1] * len(points)] * 2
    assert found.quality.tolist() == [[0.0] * len(points)] * 2


def test_chunks_change_nothing(scene, levels, points, monkeypatch):
    whole = ATSSMatcher()(*scene(1), points, levels)
    monkeypatch.setattr(pairs, "LARGEST", 1)
    chunked = ATSSMatcher()(*scene(1), points, levels)
    assert torch.equal(chunked.matched_idxs, whole.matched_idxs)
    assert torch.equal(chunked.quality, whole.quality)


def test_levels_of_other_anchors_are_refused(scene, levels, points):
    with pytest.raises(PartError, match=f"levels have {len(points)} anchors.*there are 5"):
        ATSSMatcher()(*scene(0), points[:5], levels)
