from types import SimpleNamespace

import pytest
import torch
from torchvision.models.detection.fcos import FCOS

from densedet.core.errors import PartError
from densedet.core.types import Level
from densedet.plugins.matchers import _pairs as pairs
from densedet.plugins.matchers.fcos import FCOSMatcher

TORCHVISION = {"ends": "open", "area_offset": 1e8}


def torchvisions(boxes, anchors, levels, radius=1.5):
    """The assignment that FCOS.compute_loss hands to its head, one image."""
    head = SimpleNamespace(compute_loss=lambda targets, outputs, anchors, matched: matched)
    model = SimpleNamespace(center_sampling_radius=radius, head=head)
    targets = [{"boxes": boxes, "labels": torch.zeros(len(boxes), dtype=torch.int64)}]
    return FCOS.compute_loss(model, targets, {}, [anchors], [level.count for level in levels])[0]


@pytest.mark.parametrize("seed", range(30))
def test_is_torchvisions(seed, scene, levels, points):
    boxes, labels, valid = scene(seed, images=1, objects=12)
    boxes, labels, valid = (t[:, valid[0]] for t in (boxes, labels, valid))
    if seed % 2:
        boxes = boxes.round()  # sizes on the borders of the ranges, equal areas
    if seed % 3 == 0:
        points = points - torch.tensor(
            [4.0, 4, 4, 4]
        )  # torchvision's points lie on the corners of the finest cells
    found = FCOSMatcher(**TORCHVISION)(boxes, labels, valid, points, levels)
    assert torch.equal(found.matched_idxs[0], torchvisions(boxes[0], points, levels))


def test_torchvisions_ranges_on_the_papers_pyramid():
    strides = (8, 16, 32, 64, 128)
    levels = tuple(Level(256 // s, 256 // s, 1, s) for s in strides)
    anchors = []
    for level in levels:
        y, x = torch.meshgrid(torch.arange(level.height), torch.arange(level.width), indexing="ij")
        corner = torch.stack((x, y), dim=-1).reshape(-1, 2).float() * level.stride - level.stride / 2
        anchors.append(torch.cat((corner, corner + level.stride), dim=1))
    anchors = torch.cat(anchors)
    corner = torch.randint(0, 120, (20, 2), generator=torch.Generator().manual_seed(0)).float()
    boxes = torch.cat(
        (corner, corner + torch.randint(1, 136, (20, 2), generator=torch.Generator().manual_seed(1))), dim=1
    )
    found = FCOSMatcher(**TORCHVISION)(
        boxes[None], torch.zeros(1, 20), torch.ones(1, 20, dtype=torch.bool), anchors, levels
    )
    expected = torchvisions(boxes, anchors, levels)
    assert torch.equal(found.matched_idxs[0], expected)
    assert (expected >= 0).sum() > 20


ROW = torch.tensor([[8.0 * i, 0, 8 * i + 8, 8] for i in range(4)] + [[0, 0, 16, 16], [16, 0, 32, 16]])
LEVELS = (Level(1, 4, 1, 8), Level(1, 2, 1, 16))
"""Points at x = 4, 12, 20, 28 (y = 4) on stride 8 and at x = 8, 24 (y = 8) on stride 16."""


def match(boxes, **arguments):
    boxes = torch.tensor([boxes], dtype=torch.float32)
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
    found = FCOSMatcher(**arguments)(boxes, valid.long(), valid, ROW, LEVELS)
    assert found.quality is None
    return found.matched_idxs[0].tolist()


def test_inside_is_strict_and_near_the_centre():
    box = [
        [4, 0, 32, 8]
    ]  # point 4 lies on its side; centre (18, 4): 1.5 * 8 = 12 px away from it are 6 < x < 30
    assert match(box, ranges=(100,)) == [-1, 0, 0, 0, -1, -1]
    assert match(box, ranges=(100,), center_radius=0.5) == [-1, -1, 0, -1, -1, -1]  # 14 < x < 22
    assert match([[3, 0, 32, 8]], ranges=(100,), center_radius=None) == [0, 0, 0, 0, -1, -1]


def test_size_chooses_the_level():
    # From x = 20: 20 to the left, 12 to the right; from x = 12: 12 and 20; from 4 and 28: 28. On stride 16,
    # from 8: 24; from 24: 24.
    box = [[0, 0, 32, 16]]
    assert match(box, center_radius=None) == [0, 0, 0, 0, -1, -1]  # 8 * 8 = 64 px: all for the fine level
    assert match(box, center_radius=None, ranges=(22,)) == [-1, 0, 0, -1, 0, 0]
    assert match(box, center_radius=None, reach=2) == [-1, -1, -1, -1, 0, 0]  # 2 * 8 = 16 px


def test_both_levels_take_a_size_on_the_border_and_torchvisions_take_none():
    # From the fine points 28, 20, 20, 28 px and from the coarse 24, 24; the border at 20, then at 24.
    box = [[0, 0, 32, 16]]
    assert match(box, center_radius=None, ranges=(20,)) == [-1, 0, 0, -1, 0, 0]
    assert match(box, center_radius=None, ranges=(20,), ends="open") == [-1, -1, -1, -1, 0, 0]
    assert match(box, center_radius=None, ranges=(24,)) == [-1, 0, 0, -1, 0, 0]
    assert match(box, center_radius=None, ranges=(24,), ends="open") == [-1, 0, 0, -1, -1, -1]


def test_the_smallest_object_wins_and_then_the_lowest_slot():
    large, small = [0, 0, 32, 8], [8, 0, 16, 8]
    assert match([large, small], center_radius=None, ranges=(100,)) == [0, 1, 0, 0, -1, -1]
    assert match([small, small], center_radius=None, ranges=(100,)) == [-1, 0, -1, -1, -1, -1]
    # 8 x 7.5 = 60 is smaller than 64, but 1e8 - 60 and 1e8 - 64 are one float32 (they are 8 apart there).
    smaller = [8, 0, 16, 7.5]
    assert match([small, smaller], center_radius=None, ranges=(100,))[1] == 1
    assert match([small, smaller], center_radius=None, ranges=(100,), area_offset=1e8)[1] == 0


@pytest.mark.parametrize("objects", [0, 3])
def test_no_objects(objects, levels, points):
    nothing = torch.zeros(2, objects, dtype=torch.bool)
    found = FCOSMatcher()(torch.zeros(2, objects, 4), nothing.long() - 1, nothing, points, levels)
    assert found.matched_idxs.dtype == torch.int64
    assert found.matched_idxs.tolist() == [[-1] * len(points)] * 2


def test_empty_slots_and_chunks_change_nothing(scene, levels, points, monkeypatch):
    boxes, labels, valid = scene(1)
    whole = FCOSMatcher()(boxes, labels, valid, points, levels)
    for image, slots in enumerate(valid):
        alone = FCOSMatcher()(
            boxes[image : image + 1, slots],
            labels[image : image + 1, slots],
            valid[image : image + 1, slots],
            points,
            levels,
        )
        renumbered = torch.cat((slots.nonzero().flatten(), torch.tensor([-1])))
        assert whole.matched_idxs[image].tolist() == renumbered[alone.matched_idxs[0]].tolist()
    monkeypatch.setattr(pairs, "LARGEST", 1)
    assert torch.equal(FCOSMatcher()(boxes, labels, valid, points, levels).matched_idxs, whole.matched_idxs)


def test_arguments_that_do_not_fit_are_refused(scene, levels, points):
    with pytest.raises(PartError, match=r"ranges has 1 entry for 3 levels: give 2"):
        FCOSMatcher(ranges=(64,))(*scene(0), points, levels)
    with pytest.raises(PartError, match="must grow"):
        FCOSMatcher(ranges=(64, 32))
    with pytest.raises(PartError, match="there are 5"):
        FCOSMatcher()(*scene(0), points[:5], levels)


def test_the_example_of_the_docstring():
    levels = tuple(Level(512 // s, 512 // s, 1, s) for s in (8, 16, 32))
    anchors = []
    for level in levels:
        y, x = torch.meshgrid(torch.arange(level.height), torch.arange(level.width), indexing="ij")
        corner = torch.stack((x, y), dim=-1).reshape(-1, 2).float() * level.stride
        anchors.append(torch.cat((corner, corner + level.stride), dim=1))
    boxes, valid = torch.tensor([[[100.0, 100, 300, 160]]]), torch.ones(1, 1, dtype=torch.bool)
    # The cell of a centre is (centre - stride / 2) / stride.
    centres = [(0, 204, 132), (1, 200, 136), (1, 232, 136), (2, 240, 144)]
    for radius, expected in ((1.5, [-1, 0, -1, 0]), (1.0, [-1, 0, -1, -1])):
        matcher = FCOSMatcher(center_radius=radius)
        found = matcher(boxes, valid.long(), valid, torch.cat(anchors), levels).matched_idxs[0]
        maps = [
            part.view(level.height, level.width)
            for part, level in zip(found.split([level.count for level in levels]), levels)
        ]
        strides = (8, 16, 32)
        assert [int(maps[i][y // strides[i], x // strides[i]]) for i, x, y in centres] == expected
