"""Judgements of trained detectors, why they miss objects, and their thresholds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import densedet
from densedet.core.errors import UsageError
from densedet.core.judgement import missed as reasons
from densedet.core.judgement.judgement import Judgement
from densedet.core.judgement.missed import Missed, MissedObjects, missed_objects
from densedet.core.judgement.thresholds import Wish, find_thresholds
from densedet.core.training import checkpoint, judging, prediction
from densedet.core.training.judging import Evaluation, judge
from densedet.plugins.detectors.dense import DenseDetector
from densedet.plugins.evaluators.coco import CocoEvaluator

POINTS = [
    "model.anchors={name: points}",
    "model.head={name: fcos, depth: 1}",
    "model.matcher={name: fcos}",
    "model.coder={name: ltrb}",
    "model.box_loss={name: giou}",
    "model.detector={name: dense, box_weight: centerness}",
]
RECIPES: dict[str, tuple[str, list[str]]] = {
    "ssd": ("quickstart_ssd", ["model.backbone.widths=[8, 16, 32]"]),
    "retinanet": ("quickstart_retinanet", ["model.backbone.widths=[8, 16, 32]"]),
    "points": ("quickstart_retinanet", ["model.backbone.widths=[8, 16, 32]", *POINTS]),
}
SMALL = [
    *("data.train.count=32", "data.val.count=12", "data.input_size_wh=[96, 48]", "data.cache_gb=0"),
    "data.classes=['0', '3', '7', '8']",
    *("train.batch_size=8", "train.budget.steps=20", "train.evaluations=1", "train.threads=1"),
    "run.hooks=[{name: checkpoint}]",
]
TIGHT = ["model.postprocess.iou=0.1", "model.postprocess.top_k=100", "model.postprocess.score=0.005"]
"""A postprocess that loses objects in each of its ways."""
LOOSE = {
    "model.postprocess.iou": 1.0,
    "model.postprocess.top_k": 1_000_000,
    "model.postprocess.max_detections": 1_000_000,
    "evaluate.evaluator": {"name": "coco", "max_detections": 1_000_000},
}
"""One that loses none but by the score."""
SAMPLE = 2
"""Objects of each reason that are looked at."""


@pytest.fixture(scope="module", params=RECIPES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained detector: SSD, RetinaNet and one without anchor boxes."""
    recipe, changes = RECIPES[request.param]
    folder: Path = tmp_path_factory.mktemp("runs") / request.param
    densedet.train(recipe, [*SMALL, *changes], folder=folder)
    return folder


@pytest.fixture(scope="module")
def tight(run: Path) -> Judgement:
    return judge(run, TIGHT)


def test_the_reasons_are_undone(run: Path, tight: Judgement) -> None:
    """Each object that is missed has one reason. Taking the cause away brings the object back, or shows that
    another object or class keeps it away too."""
    sample = []
    for share in (0.2, 0.6, 0.9):
        threshold = float(np.quantile(tight.found.scores, share))
        before = missed_objects(tight, threshold=threshold)
        assert sum(before.counts().values()) == len(before.missed) > 0
        assert len({one.object for one in before.missed}) == len(before.missed)
        for reason in before.counts():
            clearest = sorted(of_reason(before, reason), key=lambda one: -(one.score or 0))
            sample += [(one, threshold) for one in clearest[:SAMPLE]]
    assert len({one.reason for one, _ in sample}) >= 3
    lowest = min(min(threshold, one.score or 1) for one, threshold in sample)
    loose = judge(run, {**LOOSE, "model.postprocess.score": 0.999 * lowest}, cache=False)
    for one, threshold in sample:
        undone(one, run, tight, loose, threshold)


def undone(one: Missed, run: Path, tight: Judgement, loose: Judgement, threshold: float) -> None:
    """Take the cause of a missed object away.

    Args:
        one: the object.
        run: the run's folder.
        tight: in which it is missed.
        loose: of the same detector with nothing cut or removed, down to a lower score.
        threshold: at which it is missed.
    """

    def again(judgement: Judgement, score: float | None) -> str | None:
        found = missed_objects(judgement, threshold=score).missed
        return next((other.reason for other in found if other.object == one.object), None)

    if one.reason == reasons.LOW_SCORE:
        assert again(tight, one.score) is None
    elif one.reason in (reasons.CUT, reasons.REMOVED):
        assert again(loose, threshold) in (None, reasons.TAKEN, reasons.WRONG_CLASS), one
    elif one.reason == reasons.NOTHING:
        assert one.score is not None
        assert one.score < threshold
        assert again(loose, one.score) in (None, reasons.TAKEN, reasons.WRONG_CLASS), one
    elif one.reason == reasons.TOO_FAR:
        assert one.iou is not None
        assert one.iou < 0.5
        closer = judge(run, TIGHT, iou=one.iou - 1e-3, cache=False)
        assert again(closer, threshold) != reasons.TOO_FAR, one
    elif one.reason == reasons.TAKEN:
        others = np.arange(len(tight.truth.labels)) != one.object
        alone = replace(tight, truth=replace(tight.truth, ignored=tight.truth.ignored | others))
        assert again(alone, threshold) is None
    elif one.reason == reasons.WRONG_CLASS:
        assert one.at is not None
        assert one.at.class_name != one.class_name
        assert one.at.iou >= 0.5
        assert one.at.score >= threshold
    else:
        pytest.fail(f"the quick starts' matchers give each object an anchor: {one}")


def of_reason(found: MissedObjects, reason: str) -> list[Missed]:
    return [one for one in found.missed if one.reason == reason]


def test_a_matcher_that_reaches_nothing_is_told(run: Path) -> None:
    """The matcher of another recipe changes the evidence, not the detections."""
    narrow = {"name": "iou", "positive": 0.95, "negative": 0.1, "low_quality_matches": "none"}
    made = judge(run, {"model.matcher": narrow}, cache=False)
    found = missed_objects(made, threshold=1.0)
    assert len(found.missed) == found.objects
    assert found.counts().get(reasons.NO_ANCHOR, 0) + found.counts().get(reasons.IGNORED, 0) > 0
    wide = missed_objects(judge(run), threshold=1.0).counts()
    assert reasons.NO_ANCHOR not in wide
    assert reasons.IGNORED not in wide


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    folder: Path = tmp_path_factory.mktemp("one") / "run"
    few = ["train.budget.steps=2", "data.val.count=6", "model.backbone.widths=[8, 8, 8]"]
    densedet.train("quickstart_ssd", [*SMALL, *few], folder=folder)
    return folder


def test_a_judgement_is_that_of_evaluate(one_run: Path) -> None:
    made = judge(one_run, cache=False)
    assert made.metrics == densedet.evaluate(one_run / "last.pt").numbers
    evaluator = judging.replayed(made)
    again = evaluator.result()
    assert again == {name: made.metrics[name] for name in again}
    source = Evaluation(one_run).source
    assert made.image_ids == tuple(source.annotation(index).image_id for index in range(6))
    named = torch.tensor([name in made.classes for name in source.classes])  # the other classes are ignored
    annotations = [source.annotation(index) for index in range(6)]
    boxes = torch.cat([one.boxes[named[one.labels]] for one in annotations])
    assert made.truth.boxes.tolist() == boxes.tolist()


def test_a_judgement_is_kept_beside_the_run(one_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    real = Evaluation.judge

    def counted(self: Evaluation, **arguments: Any) -> Judgement:
        passes.append(arguments)
        return real(self, **arguments)

    monkeypatch.setattr(Evaluation, "judge", counted)
    first = judge(one_run)
    [file] = (one_run / "judged").iterdir()
    second = judge(one_run)
    assert len(passes) == 1
    assert second.metrics == first.metrics
    assert second.found.scores.tolist() == first.found.scores.tolist()
    # Another postprocess, other images or another IoU are another judgement, a loader's workers are not.
    judge(one_run, ["model.postprocess.iou=0.3"])
    judge(one_run, ["data.val.count=4"])
    judge(one_run, iou=0.4)
    judge(one_run, ["data.workers=0", "train.batch_size=4"])
    assert len(passes) == 4
    # A damaged one is made anew.
    file.write_bytes(file.read_bytes()[:-3])
    assert judge(one_run).metrics == first.metrics
    judge(one_run)
    assert len(passes) == 5
    judge(one_run, cache=False)
    assert len(passes) == 6


def test_a_folder_that_cannot_be_written_is_no_error(one_run: Path, tmp_path: Path) -> None:
    """A file lies where the folder of the judgements would."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("recipe.yaml", "last.pt"):
        (copy / name).write_bytes((one_run / name).read_bytes())
    (copy / "judged").write_text("in the way")
    assert len(judge(copy)) == 6
    assert (copy / "judged").read_text() == "in the way"
    lone = tmp_path / "lone"  # no run folder: nothing is written beside a checkpoint
    lone.mkdir()
    (lone / "a.pt").write_bytes((one_run / "last.pt").read_bytes())
    judge(lone / "a.pt")
    assert [file.name for file in lone.iterdir()] == ["a.pt"]


def test_a_detector_without_a_trace_and_an_evaluator_of_its_own(
    one_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_trace, result = DenseDetector.evaluate, CocoEvaluator.result
    monkeypatch.setattr(DenseDetector, "evaluate", lambda self, batch: with_trace(self, batch))
    monkeypatch.setattr(CocoEvaluator, "result", lambda self: {**result(self), "odd": {1, 2}})
    before = set((one_run / "judged").iterdir()) if (one_run / "judged").exists() else set()
    made = judge(one_run, ["data.val.count=5"])
    assert made.metrics["odd"] == {1, 2}
    assert not (set((one_run / "judged").iterdir()) if (one_run / "judged").exists() else set()) - before
    assert not made.evidence.traced.any()
    found = missed_objects(made, threshold=1.0)
    assert set(found.counts()) <= {reasons.LOW_SCORE, reasons.UNKNOWN}


def test_thresholds_are_kept_in_the_checkpoint(one_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "run" / "best.pt"
    file.parent.mkdir()
    file.write_bytes((one_run / "best.pt").read_bytes())
    before = checkpoint.load(file)
    evaluation = Evaluation(file)
    found = find_thresholds(evaluation.judge(), Wish("f1"))
    assert judging.save_thresholds(evaluation, file.parent, Wish("f1"), found) == file
    after = checkpoint.load(file)
    assert before["thresholds"] is None
    kept = after.pop("thresholds")
    assert kept["scores"] == [one.score for one in found]
    assert (kept["wish"], kept["images"]) == ("best F1", "6 images of data.val (digits)")
    del before["thresholds"]
    for name in ("detector", "ema"):
        weights, again = before.pop(name), after.pop(name)
        assert weights._metadata == again._metadata
        assert all(torch.equal(weights[key], again[key]) for key in {**weights, **again})
    assert before == after
    # Predict goes by them, a given score wins, and the other weights have none.
    image = evaluation.source.image(0)
    predictor = densedet.load(file)
    scores, origin = predictor.score_thresholds()
    assert scores == [0.3 if one.score is None else one.score for one in found]
    assert origin == "best F1 on 6 images of data.val (digits)"
    every = predictor.predict([image], score=0)[0]
    by_class = predictor.predict([image])[0]
    assert len(by_class) == int((every.scores >= torch.tensor(scores)[every.labels]).sum())
    assert by_class.shown_from == 0
    low = replace(by_class, scores=by_class.scores / 2)  # 0.2 at most
    assert low.draw(image).tobytes() == low.draw(image, min_score=0).tobytes()
    assert low.draw(image).tobytes() != low.draw(image, min_score=0.3).tobytes()
    raw = prediction.load(file, weights="trained").predict([image])[0]
    assert raw.draw(image).tobytes() == raw.draw(image, min_score=0.3).tobytes()
    assert float(predictor.predict([image], score=0.1)[0].scores.min()) >= 0.1
    assert prediction.load(file, weights="trained").thresholds is None
    assert judge(file, cache=False).thresholds == tuple(scores)


def test_thresholds_belong_to_the_detector_as_it_was_evaluated(one_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "run" / "best.pt"
    file.parent.mkdir()
    file.write_bytes((one_run / "best.pt").read_bytes())
    loose = ["model.postprocess.iou=0.9"]
    evaluation = Evaluation(file, loose)
    found = find_thresholds(evaluation.judge(), Wish("f1"))
    with pytest.raises(UsageError, match=r"here it is changed \(model\.postprocess\.iou\)"):
        judging.save_thresholds(evaluation, file, Wish("f1"), found)
    # Other images and another way to evaluate leave the detector as it is.
    evaluation = Evaluation(file, ["data.val.count=5", "model.matcher.positive=0.6"])
    state = checkpoint.load(file)
    name = next(iter(state["ema"]))
    checkpoint.save(file, {**state, "ema": {**state["ema"], name: state["ema"][name] + 1}})
    with pytest.raises(UsageError, match="was written anew since it was evaluated"):
        judging.save_thresholds(evaluation, file, Wish("f1"), found)
    checkpoint.save(file, state)
    judging.save_thresholds(evaluation, file, Wish("f1"), found)
    assert densedet.load(file).score_thresholds()[1].startswith("best F1 on 5 images")
    scores, origin = densedet.load(file, loose).score_thresholds()
    assert scores == [0.3] * len(state["classes"])
    assert origin == "default; those saved are of the detector without model.postprocess.iou"


def test_thresholds_belong_to_the_weights(one_run: Path, tmp_path: Path) -> None:
    """A run that goes on trains other weights: its files have no thresholds."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("recipe.yaml", "last.pt", "best.pt"):
        (copy / name).write_bytes((one_run / name).read_bytes())
    evaluation = Evaluation(copy / "last.pt")
    found = find_thresholds(evaluation.judge(), Wish("f1"))
    judging.save_thresholds(evaluation, copy / "last.pt", Wish("f1"), found)
    assert checkpoint.load(copy / "last.pt")["thresholds"] is not None
    densedet.resume(copy, ["train.budget.steps=3"])
    assert checkpoint.load(copy / "last.pt")["thresholds"] is None
