"""Why objects are missed: each reason from planted candidates, and each undone in trained detectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import densedet
from densedet.core.annotations.filter_rules import FilterSection
from densedet.core.judgement import missed as reasons
from densedet.core.judgement.judgement import Judgement
from densedet.core.judgement.missed import Missed, missed_objects
from densedet.core.training.evidence import EvidenceCollector, gathered
from densedet.core.types import Batch, Detections, Level, Trace
from densedet.plugins.postprocess.nms import NMSPostprocess
from densedet.plugins.postprocess.soft_nms import SoftNMSPostprocess

SIZE = torch.tensor([[100, 100]])
OBJECT = [10.0, 10, 30, 30]
NEAR = [10.0, 10, 30, 28]  # 18 x 20 of 20 x 20: IoU 0.9
HALF = [10.0, 10, 30, 19]  # 9 x 20 of 20 x 20: IoU 0.45
FAR = [60.0, 60, 80, 80]


Plant = Callable[..., Judgement]


def plant(
    judged: Plant,
    candidates: list[tuple[list[float], list[float]]],
    *,
    objects: tuple[tuple[list[float], int], ...] = ((OBJECT, 0),),
    matched: list[int] | None = None,
    postprocess: Any = None,
    rules: FilterSection | None = None,
    without: tuple[str, ...] = (),
    **changes: Any,
) -> Judgement:
    """The judgement of a detector that predicts these candidates in an image of 50 x 50, a source of 100 x
    100 at half its size.

    Args:
        judged: makes a judgement by hand.
        candidates: (box in source pixels, score of each of two classes) of each anchor.
        objects: (box in source pixels, label) each.
        matched: matched_idxs of each anchor; None: each object has the anchor of its number.
        postprocess: None: NMS with a score above 0.05 and at IoU 0.5.
        rules: the training's filter.
        without: keys that the trace lacks.
        **changes: other fields of the judgement.
    """
    boxes = torch.tensor([box for box, _ in candidates])[None] / 2
    scores = torch.tensor([row for _, row in candidates])[None]
    levels = (Level(1, boxes.shape[1], 1, 8),)
    trace: Trace = {"scores": scores, "boxes": boxes, "anchors": boxes[0]}
    found = (postprocess or NMSPostprocess())(scores, boxes, levels, torch.tensor([[50, 50]]), trace)
    count = len(objects)
    listed = matched or [slot if slot < count else -1 for slot in range(boxes.shape[1])]
    trace["matched_idxs"] = torch.tensor([listed])
    for name in without:
        trace.pop(name)  # type: ignore[misc]
    batch = Batch(
        images=torch.zeros(1, 1, 50, 50, dtype=torch.uint8),
        valid_hw=torch.tensor([[50, 50]]),
        boxes=torch.tensor([[box for box, _ in objects]]) / 2,
        labels=torch.tensor([[label for _, label in objects]]),
        valid=torch.ones(1, count, dtype=torch.bool),
        ignore=torch.zeros(1, count, dtype=torch.bool),
        indices=torch.tensor([0]),
        image_ids=[10],
        source_hw=SIZE,
        to_source=torch.tensor([[2.0, 2, 0, 0]]),
    )
    collector = EvidenceCollector(0.5, rules or FilterSection())
    collector(batch, trace, found)
    evidence = gathered([collector.rows[0]], [np.ones(count, dtype=bool)])
    rows = zip((found[0].boxes * 2).tolist(), found[0].scores.tolist(), found[0].labels.tolist())
    made = judged([(0, box, label) for box, label in objects], [(0, *row) for row in rows], **changes)
    return replace(made, evidence=evidence)


@pytest.fixture
def planted(judged: Plant) -> Plant:
    """`plant`, without its first argument."""
    return partial(plant, judged)


def only(judgement: Judgement, **arguments: Any) -> Missed:
    found = missed_objects(judgement, **arguments)
    assert len(found.missed) == 1
    assert sum(found.counts().values()) == 1
    return found.missed[0]


def test_a_found_object_is_not_missed(planted: Plant) -> None:
    found = missed_objects(planted([(NEAR, [0.9, 0])]))
    assert (found.objects, found.missed) == (1, ())


def test_no_anchor_reached_it(planted: Plant) -> None:
    one = only(planted([(HALF, [0.9, 0])], matched=[-1]))
    assert one.reason == reasons.NO_ANCHOR
    assert (one.image_id, one.file_name, one.class_name, one.box, one.area) == (
        *(10, "0.png", "cat"),
        *((10, 10, 30, 30), 400),
    )


def test_ignored_anchors_belong_to_the_object_that_they_overlap_most(planted: Plant) -> None:
    """Anchor 0 is ignored and lies on object 0; object 1 has no anchor at all."""
    made = planted(
        [(HALF, [0, 0]), (FAR, [0, 0])], objects=((OBJECT, 0), ([40.0, 40, 50, 50], 0)), matched=[-2, -1]
    )
    found = missed_objects(made).missed
    assert [one.reason for one in found] == [reasons.IGNORED, reasons.NO_ANCHOR]
    assert "1 on it are ignored" in found[0].detail


@pytest.mark.parametrize(
    ("rules", "ignored"),
    [
        ({"min_side": 20}, False),
        ({"min_side": 20.5}, True),
        ({"min_input_side": 10}, False),
        ({"min_input_side": 10.5}, True),
    ],
)
def test_an_object_below_the_training_filter_is_ignored(planted: Plant, rules: Any, ignored: bool) -> None:
    """Its sides are 20 in the source and 10 in the input."""
    one = only(planted([(HALF, [0.9, 0])], rules=FilterSection(**rules)))
    assert one.reason == (reasons.IGNORED if ignored else reasons.TOO_FAR)


def test_wrong_class(planted: Plant) -> None:
    made = planted([(NEAR, [0.2, 0.8])])
    one = only(made)
    assert one.reason == reasons.WRONG_CLASS
    assert one.at is not None
    assert (one.at.class_name, one.at.score, one.at.iou) == pytest.approx(("dog", 0.8, 0.9))
    assert only(made, threshold=[0.3, 0.9]).reason == reasons.LOW_SCORE  # no dog is shown any more


def test_a_right_detection_of_a_neighbour_is_no_wrong_class(planted: Plant) -> None:
    """The dog lies on the cat, and its detection is right."""
    made = planted([(NEAR, [0.01, 0.8])], objects=((OBJECT, 0), (NEAR, 1)), matched=[1])
    assert only(made).reason == reasons.NO_ANCHOR
    made = planted([(NEAR, [0.01, 0.8])], objects=((OBJECT, 0), (NEAR, 1)), without=("matched_idxs",))
    assert only(made).reason == reasons.NOTHING


def test_a_detection_of_an_ignored_object_is_no_wrong_class(judged: Plant) -> None:
    """The dog that it lies on is ignored."""
    objects, found = [(0, OBJECT, 0), (0, NEAR, 1)], [(0, NEAR, 0.8, 1)]
    assert only(judged(objects, found, ignored=[False, True])).reason == reasons.UNKNOWN


def test_what_happens_elsewhere_is_no_reason(planted: Plant) -> None:
    """An ignored anchor far from the object, and a candidate that is removed far from it."""
    assert only(planted([(FAR, [0.0, 0.0])], matched=[-2])).reason == reasons.NO_ANCHOR
    made = planted([(NEAR, [0.04, 0.0]), (FAR, [0.9, 0.0]), (FAR, [0.8, 0.0])])
    assert only(made).reason == reasons.NOTHING


def test_score_below_the_threshold_and_undone(planted: Plant) -> None:
    made = planted([(NEAR, [0.2, 0])])
    one = only(made)
    assert (one.reason, one.score, one.iou) == (reasons.LOW_SCORE, pytest.approx(0.2), pytest.approx(0.9))
    assert not missed_objects(made, threshold=one.score).missed


@pytest.mark.parametrize(
    ("postprocess", "loose", "word"),
    [
        (NMSPostprocess(top_k=1), NMSPostprocess(), "top_k"),
        (NMSPostprocess(top_k=1, per="class"), NMSPostprocess(), "top_k"),
        (NMSPostprocess(max_detections=1), NMSPostprocess(), "max_detections"),
    ],
)
def test_cut_and_undone(planted: Plant, postprocess: Any, loose: Any, word: str) -> None:
    candidates = [(NEAR, [0.6, 0.0]), (FAR, [0.9, 0.0])]
    one = only(planted(candidates, postprocess=postprocess))
    assert (one.reason, one.score) == (reasons.CUT, pytest.approx(0.6))
    assert word in one.undo
    assert not missed_objects(planted(candidates, postprocess=loose)).missed


def test_cut_by_the_evaluators_limit(planted: Plant) -> None:
    made = planted([(NEAR, [0.6, 0.0]), (FAR, [0.9, 0.0])])
    assert only(made, max_detections=1).reason == reasons.CUT
    assert only(replace(made, max_detections=1)).reason == reasons.CUT
    assert not missed_objects(made).missed


@pytest.mark.parametrize(
    ("postprocess", "loose"),
    [
        (NMSPostprocess(iou=0.4), NMSPostprocess(iou=0.6)),
        (SoftNMSPostprocess(final_score=0.5), SoftNMSPostprocess(final_score=0.1)),
    ],
)
def test_removed_by_nms_and_undone(planted: Plant, postprocess: Any, loose: Any) -> None:
    """HALF (IoU .45 with the object) has the better score; NEAR and HALF: 9 x 20 of 18 x 20, IoU .5."""
    candidates = [(NEAR, [0.6, 0.0]), (HALF, [0.9, 0.0])]
    one = only(planted(candidates, postprocess=postprocess))
    assert (one.reason, one.score, one.iou) == (reasons.REMOVED, pytest.approx(0.6), pytest.approx(0.9))
    assert one.by is not None
    assert (one.by.box, one.by.class_name) == (tuple(HALF), "cat")
    assert (one.by.score, one.by.iou) == pytest.approx((0.9, 0.45))
    assert not missed_objects(planted(candidates, postprocess=loose), threshold=0.2).missed


def test_another_class_may_have_removed_it(planted: Plant) -> None:
    postprocess = NMSPostprocess(iou=0.4, class_agnostic=True)
    one = only(planted([(NEAR, [0.6, 0.0]), (HALF, [0.0, 0.9])], postprocess=postprocess))
    assert one.reason == reasons.REMOVED
    assert one.by is not None
    assert one.by.class_name == "dog"


def test_taken_by_another_object_and_undone(planted: Plant) -> None:
    """One detection on two objects: 18 x 20 of 20 x 20 with the first, 18 x 20 of 20 x 22 with the second."""
    made = planted([(NEAR, [0.9, 0.0])], objects=((OBJECT, 0), ([10.0, 10, 30, 32], 0)), matched=[0, 1][:1])
    one = only(replace(made, evidence=replace(made.evidence, positives=np.array([1, 1]))))
    assert (one.object, one.reason, one.iou) == (1, reasons.TAKEN, pytest.approx(18 / 22))
    alone = planted([(NEAR, [0.9, 0.0])], objects=(([10.0, 10, 30, 32], 0),))
    assert not missed_objects(alone).missed


def test_too_far_off_and_undone(planted: Plant) -> None:
    made = planted([(HALF, [0.9, 0.0])])
    one = only(made)
    assert (one.reason, one.iou, one.score) == (reasons.TOO_FAR, pytest.approx(0.45), pytest.approx(0.9))
    assert not missed_objects(replace(made, iou=0.45 - 1e-6)).missed
    # Nothing is shown near it, and no candidate reaches it whatever its score.
    one = only(planted([(HALF, [0.01, 0.0])]))
    assert (one.reason, one.iou) == (reasons.TOO_FAR, pytest.approx(0.45))


def test_nothing_fires_and_undone(planted: Plant) -> None:
    candidates = [(NEAR, [0.04, 0.0])]
    one = only(planted(candidates))
    assert (one.reason, one.score) == (reasons.NOTHING, pytest.approx(0.04))
    loose = planted(candidates, postprocess=NMSPostprocess(score=0.0))
    assert not missed_objects(loose, threshold=0.04).missed


def test_a_detector_without_a_trace_gets_what_its_detections_tell(planted: Plant) -> None:
    bare = ("scores", "boxes", "anchors", "fate", "by", "matched_idxs")
    for candidate, expected in (
        ((NEAR, [0.0, 0.8]), reasons.WRONG_CLASS),
        ((NEAR, [0.2, 0.0]), reasons.LOW_SCORE),
        ((HALF, [0.8, 0.0]), reasons.TOO_FAR),
        ((NEAR, [0.01, 0.0]), reasons.UNKNOWN),
    ):
        assert only(planted([candidate], without=bare)).reason == expected
    # A trace without "by" tells that NMS removed it, not what.
    one = only(
        planted([(NEAR, [0.6, 0]), (HALF, [0.9, 0])], postprocess=NMSPostprocess(iou=0.4), without=("by",))
    )
    assert (one.reason, one.by) == (reasons.REMOVED, None)


def test_the_counts_add_up_by_class_and_size(planted: Plant) -> None:
    made = planted([(HALF, [0.9, 0.0]), (FAR, [0.0, 0.2])], objects=((OBJECT, 0), (FAR, 1)))
    found = missed_objects(made)
    assert found.counts() == {reasons.LOW_SCORE: 1, reasons.TOO_FAR: 1}
    assert found.by_class() == {"cat": {reasons.TOO_FAR: 1}, "dog": {reasons.LOW_SCORE: 1}}
    assert found.by_size() == {"small": {reasons.LOW_SCORE: 1, reasons.TOO_FAR: 1}}
    plain = found.to_dict()
    assert (plain["objects"], plain["missed"], len(plain["list"])) == (2, 2, 2)


def test_an_image_without_objects_or_anchors() -> None:
    collector = EvidenceCollector(0.5, FilterSection())
    batch = replace(
        densedet.make_batch("quickstart_ssd", count=2, overrides=["data.val.count=2", "data.train.count=2"]),
        boxes=torch.zeros(2, 0, 4),
        labels=torch.zeros(2, 0, dtype=torch.int64),
        valid=torch.zeros(2, 0, dtype=torch.bool),
        ignore=torch.zeros(2, 0, dtype=torch.bool),
    )
    trace: Trace = {
        "scores": torch.zeros(2, 0, 3),
        "boxes": torch.zeros(2, 0, 4),
        "anchors": torch.zeros(0, 4),
    }
    trace["fate"] = [torch.zeros(0, 3, dtype=torch.int8)] * 2
    trace["matched_idxs"] = torch.zeros(2, 0, dtype=torch.int64)
    collector(batch, trace, [Detections.empty()] * 2)
    made = gathered([collector.rows[0], collector.rows[1]], [np.ones(0, dtype=bool)] * 2)
    assert len(made.positives) == 0
