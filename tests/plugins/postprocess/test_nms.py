import threading

import pytest
import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.ssd import SSD
from torchvision.ops import batched_nms

from densedet.core.types import Fate, Level
from densedet.plugins.postprocess import nms
from densedet.plugins.postprocess._candidates import Candidates
from densedet.plugins.postprocess.nms import SHARED, NMSPostprocess, survivors, survivors_of_batch
from densedet.plugins.postprocess.soft_nms import SoftNMSPostprocess

BIG = torch.tensor([[100, 100]])  # height, width


def run(postprocess, scores, boxes, *, levels=None, sizes=BIG, trace=None):
    """One image: scores (N,C), boxes (N,4) -> its Detections."""
    scores, boxes = torch.tensor(scores), torch.tensor(boxes)
    return postprocess(scores[None], boxes[None], levels or (Level(1, len(boxes), 1, 8),), sizes, trace)[0]


def apart(count):
    """Boxes that do not overlap."""
    return [[10.0 * i, 0.0, 10.0 * i + 8, 8.0] for i in range(count)]


def test_by_hand():
    # Box 1 overlaps box 0: 8x10 of 10x10 each: 80 / 120 = 0.667. Box 2 is apart. Best first; the second class
    # stands on its own.
    boxes = [[0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 12.0, 10.0], [50.0, 50.0, 60.0, 60.0]]
    scores = [[0.8, 0.0], [0.7, 0.6], [0.9, 0.0]]
    found = run(NMSPostprocess(iou=0.6), scores, boxes)
    assert found.anchors.tolist() == [2, 0, 1]
    assert found.labels.tolist() == [0, 0, 1]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8, 0.6]))
    torch.testing.assert_close(found.boxes, torch.tensor([boxes[2], boxes[0], boxes[1]]))
    assert run(NMSPostprocess(iou=0.7), scores, boxes).anchors.tolist() == [2, 0, 1, 1]
    assert run(NMSPostprocess(iou=0.6, class_agnostic=True), scores, boxes).anchors.tolist() == [2, 0]


def test_threshold_is_strict():
    assert run(NMSPostprocess(score=0.5), [[0.5], [0.5001]], apart(2)).anchors.tolist() == [1]


def test_top_k_per_level_counts_anchors_and_classes_together():
    levels = (Level(1, 3, 1, 8), Level(1, 1, 1, 16))
    scores = [[0.9, 0.8], [0.7, 0.6], [0.5, 0.4], [0.3, 0.2]]
    found = run(NMSPostprocess(top_k=3), scores, apart(4), levels=levels)
    assert list(zip(found.anchors.tolist(), found.labels.tolist())) == [
        (0, 0),
        (0, 1),
        (1, 0),
        (3, 0),
        (3, 1),
    ]


def test_top_k_per_class():
    scores = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.0], [0.6, 0.0]]
    found = run(NMSPostprocess(top_k=2, per="class"), scores, apart(4))
    assert list(zip(found.anchors.tolist(), found.labels.tolist())) == [(0, 0), (1, 0), (1, 1), (0, 1)]


def test_clips_before_suppressing():
    # Clipped to 20x10 (height 10, width 20) both boxes are 10x10 and equal; unclipped their IoU would be 100
    # / 500 = 0.2.
    boxes, sizes = [[10.0, 0.0, 20.0, 10.0], [10.0, 0.0, 60.0, 10.0]], torch.tensor([[10, 20]])
    found = run(NMSPostprocess(), [[0.9], [0.8]], boxes, sizes=sizes)
    assert found.boxes.tolist() == [[10.0, 0.0, 20.0, 10.0]]


def test_min_size_is_asked_of_clipped_boxes():
    boxes = [[0.0, 0.0, 4.0, 50.0], [0.0, 0.0, 5.0, 5.0], [97.0, 0.0, 110.0, 50.0]]
    assert run(NMSPostprocess(min_size=5.0), [[0.9], [0.8], [0.7]], boxes).anchors.tolist() == [1]
    assert len(run(NMSPostprocess(), [[0.9], [0.8], [0.7]], boxes)) == 3


def test_max_detections_keeps_the_best():
    assert run(NMSPostprocess(max_detections=2), [[0.5], [0.9], [0.7]], apart(3)).anchors.tolist() == [1, 2]


def test_fates():
    boxes = [*apart(4), [0.0, 0.0, 8.0, 7.0]]
    scores = [[0.9], [0.01], [0.3], [0.6], [0.8]]
    trace = {}
    run(NMSPostprocess(top_k=4, max_detections=1), scores, boxes, trace=trace)
    # Four are above 0.05 and fit in top_k; box 4 lies on box 0 (IoU 7/8); one detection is kept.
    assert trace["fate"][0].dtype == torch.int8
    expected = [
        Fate.KEPT,
        Fate.LOW_SCORE,
        Fate.CUT_BY_MAX_DETECTIONS,
        Fate.CUT_BY_MAX_DETECTIONS,
        Fate.REMOVED_BY_NMS,
    ]
    assert trace["fate"][0].tolist() == [[fate] for fate in expected]
    assert trace["by"][0].tolist() == [[-1], [-1], [-1], [-1], [0]]
    for per in ("level", "class"):
        run(NMSPostprocess(top_k=3, per=per), scores, boxes, trace=trace)
        expected = [Fate.KEPT, Fate.LOW_SCORE, Fate.CUT_BY_TOP_K, Fate.KEPT, Fate.REMOVED_BY_NMS]
        assert trace["fate"][0].tolist() == [[fate] for fate in expected]


def test_what_removed_a_box():
    """Class 1: box 0 (.9) removes box 1 (8/12 = 0.67) and box 2 (0.5 with it, which 0.45 is below); class 0:
    box 2 (.8) removes box 1 (0.67). By anchor * 2 + class."""
    boxes = [[0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 12.0, 10.0], [10 / 3, 0.0, 40 / 3, 10.0]]
    scores = [[0.0, 0.9], [0.7, 0.8], [0.8, 0.7]]
    trace = {}
    run(NMSPostprocess(iou=0.45), scores, boxes, trace=trace)
    assert trace["by"][0].tolist() == [[-1, -1], [4, 1], [-1, 1]]
    run(NMSPostprocess(iou=0.45, class_agnostic=True), scores, boxes, trace=trace)
    assert trace["by"][0].tolist() == [[-1, -1], [1, 1], [1, 1]]
    # A class that lies across memory, as softmax with the background cut off does.
    wide = torch.tensor([[*row, 0.0] for row in scores])[None, :, :2]
    trace = {}
    NMSPostprocess(iou=0.45)(wide, torch.tensor(boxes)[None], (Level(1, 3, 1, 8),), BIG, trace)
    assert trace["by"][0].tolist() == [[-1, -1], [4, 1], [-1, 1]]
    assert int((trace["fate"][0] == Fate.REMOVED_BY_NMS).sum()) == 3


@pytest.mark.parametrize(
    "postprocess",
    [
        NMSPostprocess(),
        NMSPostprocess(per="class"),
        SoftNMSPostprocess(),
        SoftNMSPostprocess(method="linear"),
    ],
)
@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 0, 3), (0, 5, 3), (2, 5, 0)])
def test_nothing_found(postprocess, shape):
    batch, count, _ = shape
    trace = {}
    found = postprocess(
        torch.zeros(shape),
        torch.ones(batch, count, 4),
        (Level(1, count, 1, 8),),
        torch.full((batch, 2), 100),
        trace,
    )
    assert [(x.boxes.shape, len(x.scores), x.labels.dtype, x.anchors.dtype) for x in found] == [
        ((0, 4), 0, torch.int64, torch.int64)
    ] * batch
    assert [fate.shape for fate in trace["fate"]] == [shape[1:]] * batch


@pytest.mark.parametrize(
    "postprocess",
    [
        NMSPostprocess(score=0.01, top_k=30),
        NMSPostprocess(score=0.01, per="class", top_k=30, class_agnostic=True, max_detections=20),
        SoftNMSPostprocess(score=0.01),
        SoftNMSPostprocess(score=0.01, method="linear", per="class", top_k=30),
    ],
)
def test_what_is_worse_has_no_effect_on_what_is_better(postprocess):
    """So that a detector may leave low scores out beforehand."""
    logits, boxes = random_case(5, 200, 3)
    scores, boxes, levels = logits.sigmoid(), boxes.expand(2, -1, -1), (Level(10, 20, 1, 8),)
    sizes = torch.full((2, 2), 100)
    found = postprocess(scores, boxes, levels, sizes)
    fewer = postprocess(scores.masked_fill(scores < 0.4, 0), boxes, levels, sizes)
    for one, other in zip(found, fewer):
        one, other = (each.where(each.scores >= 0.4) for each in (one, other))
        assert 5 < len(one) == len(other)
        assert torch.equal(one.boxes, other.boxes) and torch.equal(one.scores, other.scores)


@pytest.mark.parametrize("classes", [1, 4])
def test_the_best_of_crowded_classes_alone_are_cut(classes):
    """Two images; each class of the first has 1, 2, 3 ... candidates, of which 2 stay; the second has one of
    the last class."""
    scores = torch.zeros(2, 5, classes)
    for label in range(classes):
        scores[0, : label + 1, label] = torch.linspace(0.9, 0.5, label + 1)
    scores[1, 3, -1] = 0.7
    boxes = torch.tensor(apart(5)).expand(2, -1, -1)
    found = NMSPostprocess(top_k=2, per="class")(scores, boxes, (Level(1, 5, 1, 8),), torch.full((2, 2), 99))
    kept = sorted(zip(found[0].labels.tolist(), found[0].anchors.tolist()))
    assert kept == [(label, anchor) for label in range(classes) for anchor in range(min(label + 1, 2))]
    assert (found[1].labels.tolist(), found[1].anchors.tolist()) == ([classes - 1], [3])


def test_images_do_not_mix():
    scores, boxes = torch.tensor([[[0.9], [0.2]], [[0.3], [0.8]]]), torch.tensor([apart(2), apart(2)])
    sizes = torch.tensor([[100, 100], [4, 12]])
    first, second = NMSPostprocess()(scores, boxes, (Level(1, 2, 1, 8),), sizes)
    assert first.anchors.tolist() == [0, 1]
    assert second.anchors.tolist() == [1, 0]
    assert second.boxes.tolist() == [[10.0, 0.0, 12.0, 4.0], [0.0, 0.0, 8.0, 4.0]]


def random_case(seed, count, classes):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 80, (count, 2), generator=generator)
    boxes = torch.cat([corner, corner + 2 * torch.randint(1, 20, (count, 2), generator=generator)], 1).float()
    return torch.randn(2, count, classes, generator=generator) * 2, boxes


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_torchvision_retinanet(seed):
    logits, anchors = random_case(seed, 300, 5)
    backbone = nn.Identity()
    backbone.out_channels = 8
    reference = RetinaNet(
        backbone,
        5,
        anchor_generator=AnchorGenerator(),
        head=nn.Identity(),
        score_thresh=0.1,
        topk_candidates=150,
        detections_per_img=60,
    )
    parts, shapes = (200, 100), [(90, 80), (70, 100)]
    theirs = reference.postprocess_detections(
        {
            "cls_logits": list(logits.split(parts, 1)),
            "bbox_regression": list(torch.zeros(2, 300, 4).split(parts, 1)),
        },
        [list(anchors.split(parts))] * 2,
        shapes,
    )
    levels = (Level(10, 20, 1, 8), Level(10, 10, 1, 16))
    ours = NMSPostprocess(score=0.1, top_k=150, max_detections=60)(
        logits.sigmoid(), anchors.expand(2, -1, -1), levels, torch.tensor(shapes)
    )
    assert len(theirs[0]["boxes"]) == 60
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a.boxes, b["boxes"])
        torch.testing.assert_close(a.scores, b["scores"])
        assert torch.equal(a.labels, b["labels"])


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_torchvision_ssd(seed):
    logits, anchors = random_case(seed, 300, 5)
    reference = SSD(
        nn.Identity(),
        DefaultBoxGenerator([[2]]),
        (100, 100),
        5,
        head=nn.Identity(),
        score_thresh=0.1,
        topk_candidates=40,
        detections_per_img=60,
    )
    shapes = [(90, 80), (70, 100)]
    theirs = reference.postprocess_detections(
        {"cls_logits": logits, "bbox_regression": torch.zeros(2, 300, 4)}, [anchors] * 2, shapes
    )
    postprocess = NMSPostprocess(score=0.1, top_k=40, per="class", iou=0.45, max_detections=60)
    ours = postprocess(
        logits.softmax(-1)[..., 1:], anchors.expand(2, -1, -1), (Level(10, 30, 1, 8),), torch.tensor(shapes)
    )
    assert len(theirs[0]["boxes"]) == 60
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a.boxes, b["boxes"])
        torch.testing.assert_close(a.scores, b["scores"])
        assert torch.equal(a.labels, b["labels"] - 1)


def some_candidates(count, seed):
    """Boxes of three classes in 100 x 100 pixels, most of which overlap others."""
    random = torch.Generator().manual_seed(seed)
    corner = 80 * torch.rand(count, 2, generator=random)
    boxes = torch.cat([corner, corner + 5 + 15 * torch.rand(count, 2, generator=random)], dim=1)
    labels = torch.randint(0, 3, (count,), generator=random)
    return Candidates(
        boxes, torch.rand(count, generator=random), labels, torch.arange(count), fate=None, by=None
    )


@pytest.mark.parametrize("count", [0, 1, 500, 900, 1100])  # torchvision treats more than 1,000 class by class
def test_the_survivors_are_torchvisions_and_the_first_few_are_the_best_of_all(count):
    found = some_candidates(count, count)
    expected = batched_nms(found.boxes, found.scores, found.labels, 0.5)
    assert survivors(found, 0.5, False, None).tolist() == expected.tolist()
    assert survivors(found, 0.5, False, 10)[:10].tolist() == expected[:10].tolist()
    # more wanted than there are
    assert survivors(found, 0.5, False, 2000).tolist() == expected.tolist()


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_one_call_for_all_images_gives_each_its_own_survivors(class_agnostic):
    batch = [some_candidates(count, seed) for seed, count in enumerate((300, 0, 5, 1200))]
    expected = [survivors(found, 0.4, class_agnostic, None).tolist() for found in batch]
    assert [kept.tolist() for kept in survivors_of_batch(batch, 0.4, class_agnostic)] == expected
    assert [len(kept) for kept in survivors_of_batch([batch[1]] * 2, 0.4, class_agnostic)] == [0, 0]


def test_threads_share_the_images_of_a_batch(monkeypatch):
    batch = [some_candidates(count, seed) for seed, count in enumerate((SHARED, 0, 5, 1200))]
    expected = [survivors(found, 0.4, False, 100).tolist() for found in batch]
    names = set()

    def noted(*arguments, **named):
        names.add(threading.current_thread().name)
        return survivors(*arguments, **named)

    monkeypatch.setattr(nms, "survivors", noted)
    before = torch.get_num_threads()
    try:
        for threads, alone in ((1, True), (2, False)):
            names.clear()
            torch.set_num_threads(threads)
            kept = NMSPostprocess(iou=0.4, max_detections=100)._survivors(batch, all_of_them=False)
            assert [one.tolist() for one in kept] == expected
            assert (names == {threading.main_thread().name}) is alone
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("per", ["level", "class"])
def test_a_batch_gives_what_its_images_give_one_by_one(per):
    """Of the first image alone, more candidates than top_k are found."""
    random = torch.Generator().manual_seed(3)
    levels = (Level(4, 5, 2, 8), Level(2, 3, 2, 16))  # 40 + 12 anchors
    scores = torch.rand(2, 52, 2, generator=random)
    scores[1, 6:] = 0
    corner = 60 * torch.rand(2, 52, 2, generator=random)
    boxes = torch.cat([corner, corner + 30], dim=2)
    sizes = torch.tensor([[70, 80], [100, 60]])
    postprocess = NMSPostprocess(top_k=8, per=per)
    together: dict = {}
    found = postprocess(scores, boxes, levels, sizes, together)
    for image in range(2):
        alone: dict = {}
        rows = slice(image, image + 1)
        one = postprocess(scores[rows], boxes[rows], levels, sizes[rows], alone)[0]
        assert one.anchors.tolist() == found[image].anchors.tolist()
        assert torch.equal(one.boxes, found[image].boxes)
        assert torch.equal(alone["fate"][0], together["fate"][image])
        assert torch.equal(alone["by"][0], together["by"][image])
