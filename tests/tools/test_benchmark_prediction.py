"""The arithmetic of `densedet benchmark prediction` and `evaluation`, and that they run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from densedet.tools.benchmark_prediction import Watch
from densedet.tools.main import main

QUICK = (
    "data.train.count=8",
    "data.val.count=4",
    "train.batch_size=8",
    "train.evaluations=1",
    "model.backbone.widths=[8, 8, 8]",
    "train.budget.steps=1",
    "run.hooks=[{name: metrics}, {name: checkpoint}]",
)


def test_parts_add_up_within_a_round_and_the_first_round_does_not_count() -> None:
    """Medians of 4 and 8 seconds over two images: 3,000 ms an image; of all cores 1 and 2 seconds, 750 ms."""
    watch = Watch()
    watch.rounds = [{"a": (99.0, 9.0)}, {"a": (4.0, 1.0)}, {"a": (8.0, 2.0)}]
    assert watch.clock("a") == [4.0, 8.0]
    assert watch.cores("a") == [1.0, 2.0]
    assert watch.per_image(2) == {"a ms": 3000.0, "a ms of all cores": 750.0}
    watch.rounds.append({"a": (1.0, 1.0)})
    watch.add("a", lambda: None)
    assert 1 < watch.rounds[-1]["a"][0] < 2


def test_both_topics_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "quickstart_ssd", *QUICK, f"run.folder={tmp_path}"]) == 0
    run = str(tmp_path / "quickstart_ssd" / "1")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (80, 60), (9, 200, 30)).save(tmp_path / "photos" / "a.jpg")
    capsys.readouterr()
    given = ["--rounds", "1", "--json"]
    assert main(["benchmark", "prediction", run, str(tmp_path / "photos"), "--images", "3", *given]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 3
    assert {key for key in told if key.endswith(" ms")} == {
        "decoding ms",
        "network ms",
        "predict ms",
        "predict with pictures ms",
    }
    slower, shortest, both = (
        told[f"predict / {what}"]
        for what in (
            "the slower of network and decoding",
            "the shortest time for both",
            "network and decoding",
        )
    )
    assert slower >= shortest and slower >= both
    assert main(["benchmark", "evaluation", run, *given]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 4
    assert {key for key in told if key.endswith("forward pass and decoding")} == {
        "cached: evaluation / forward pass and decoding",
        "uncached: evaluation / forward pass and decoding",
    }
    assert told["cached: evaluation / forward pass and decoding, seconds of all cores"] > 0
