"""The arithmetic of `densedet benchmark`; what it measures is nothing for a test."""

import json

import pytest

from densedet.core.annotations.builder import TableBuilder
from densedet.core.errors import TrainingError
from densedet.plugins.sources.coco import CocoSource
from densedet.tools import benchmark_training
from densedet.tools.main import main


def metrics(folder):
    """Two epochs of two steps; the first waits 0.3 of 1 second, the second 0.02 of 0.4."""
    folder.mkdir()
    rows = [(0, 0.2, 0.6), (1, 0.1, 0.4), (1, 0.015, 0.2), (2, 0.005, 0.2)]
    lines = [
        {"event": "step", "epoch": epoch, "data_seconds": data, "step_seconds": step}
        for epoch, data, step in rows
    ]
    lines.append({"event": "evaluation", "epoch": 2})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


WANTED = {
    "share waiting, first epoch": 0.3,
    "share waiting, later epochs": 0.05,
    "waiting ms a step": 10.0,
    "step ms": 200.0,
}


def test_waiting_by_hand(tmp_path):
    assert benchmark_training.waiting(metrics(tmp_path / "run")) == WANTED


def test_training_runs_both_heads_with_and_without_the_cache(tmp_path, monkeypatch, capsys):
    builder = TableBuilder("memory")
    builder.add_class(1, "thing")
    builder.add_image(1, "a.png", 8, 8)
    (tmp_path / "images").mkdir()
    CocoSource.write(builder.finish(), tmp_path / "annotations_train.json")
    run, commands = metrics(tmp_path / "run"), []
    monkeypatch.setattr(benchmark_training, "trained", lambda command: (commands.append(command), run)[1])
    assert main(["benchmark", "training", str(tmp_path), "--epochs", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told.pop("images") == 1
    assert told == {
        f"{head}, {cache}: {key}": value
        for head in ("ssd", "retinanet")
        for cache in ("cached", "uncached")
        for key, value in WANTED.items()
    }
    assert [("ssd" in c, "data.cache_gb=0" in c) for c in commands] == [
        (True, False),
        (True, True),
        (False, False),
        (False, True),
    ]
    assert all(c[c.index("--images") + 1] == str(tmp_path / "images") for c in commands)
    assert main(["benchmark", "training", str(tmp_path), "--epochs", "1"]) == 2
    assert "--epochs must be 2 or more" in capsys.readouterr().err


def test_a_run_that_fails_says_why():
    with pytest.raises(
        TrainingError, match="densedet train --db none.db failed: .*there is nothing at none.db"
    ):
        benchmark_training.trained(["--db", "none.db"])
