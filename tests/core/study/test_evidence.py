"""What is found out about finished runs: two tiny ones, each taken for two arms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from densedet.core.recipe.loading import load_recipe
from densedet.core.report.arms import Arm, Comparison
from densedet.core.report.records import RunRecord, read_run
from densedet.core.study.evidence import Wanted, _keep_pictures, evidence
from densedet.core.training import session

CHANGES = [
    *("data.train.count=8", "data.val.count=6", "data.cache_gb=0", "data.workers=0"),
    *("train.batch_size=4", "train.budget={steps: 2}", "run.hooks=[metrics, checkpoint]"),
]


PART = """
import densedet
from densedet.plugins.losses.smooth_l1 import SmoothL1Loss

@densedet.register("box_loss", "own")
class OwnLoss(SmoothL1Loss):
    "A loss of this file."
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunRecord]:
    """Runs of one recipe, which has a part of its own, with the seeds 0 and 1."""
    root = tmp_path_factory.mktemp("runs")
    part, file = root / "own_loss.py", root / "own.yaml"
    part.write_text(PART)
    file.write_text("base: densedet:quickstart_ssd.yaml\nplugins: [./own_loss.py]\n")
    for seed in (0, 1):
        recipe = load_recipe(file, [*CHANGES, "model.box_loss=own", f"train.seed={seed}"])
        session.train(recipe, folder=root / str(seed))
    return [replace(read_run(root / str(seed)), plugins=(str(part),)) for seed in (0, 1)]


def test_what_a_checkpoint_tells_comes_into_the_report(runs: list[RunRecord]) -> None:
    comparison = Comparison([Arm("a", list(runs)), Arm("b", runs[::-1])])
    with evidence([comparison], Wanted(rounds=2, resamples=50, seconds=0)) as [[pair]]:
        shown = [arm.shown for arm in comparison.arms]
        assert shown[0] is not None and shown[1] is not None
        rows = json.loads((shown[0].folder / "pictures.json").read_text())["images"]
    assert comparison.notes == []
    assert (pair.first, pair.second, pair.value) == ("a", "b", 0.0), "a run against itself"
    assert "not distinguishable" in comparison.verdicts[0]
    for arm in comparison.arms:
        assert len(arm.measured["images_per_second"].values) == 2
        assert arm.intervals["AP50"].value == pytest.approx(arm.value("AP50") or 0, abs=1e-9)
    assert len(rows) == 6, "the two agree on all images, so the first ones are shown"
    analysis = comparison.arms[0].analyses[0]
    assert sum(row["objects"] for row in rows) == analysis.objects, "these are all images"
    missed = sum(sum(row["missed"].values()) for row in shown[0].pictures["images"])
    assert missed == sum(analysis.missed.values())
    kept = runs[1].folder / "compare"
    pictures = {path.name for path in (kept / "charts").iterdir()}
    assert {"ap_against_minutes.png", "precision_and_recall.png", "confusion.png"} <= pictures
    assert len(list((kept / "pictures").iterdir())) == 18, "truth, detections and heat maps"
    assert sorted(path.name for path in kept.iterdir()) == ["charts", "pictures"]


def test_pictures_take_the_place_of_those_of_an_earlier_comparison(tmp_path: Path) -> None:
    drawn = tmp_path / "drawn" / "pictures"
    drawn.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (drawn / name).write_text("drawn")
        _keep_pictures(tmp_path / "compare", drawn)
        (drawn / name).unlink()
    assert [path.name for path in (tmp_path / "compare" / "pictures").iterdir()] == ["b.png"]
    assert [path.name for path in (tmp_path / "compare").iterdir()] == ["pictures"]


def test_what_cannot_be_found_out_is_noted(runs: list[RunRecord], tmp_path: Path) -> None:
    gone = RunRecord("gone", tmp_path / "nowhere", summary={"status": "done", "AP": 0.5})
    comparison = Comparison([Arm("a", [runs[0]]), Arm("b", [gone])])
    with evidence([comparison], Wanted(rounds=1, resamples=10, seconds=0)) as pairs:
        pass
    assert pairs == [[]]
    judged, measured = comparison.notes
    assert judged.startswith("b could not be judged: ")
    assert "nowhere" in judged
    assert measured.startswith("The speeds could not be measured in turns: ")
    assert comparison.pictured == "Images with the most errors"
    assert len(comparison.arms[0].analyses) == 1
