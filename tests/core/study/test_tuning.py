"""Searches: their spaces, the pruner, and that the same command goes on."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from densedet.core.errors import UsageError
from densedet.core.recipe.loading import load_recipe
from densedet.core.study.search import Space, spaces_of
from densedet.core.study.study import StudyRun
from densedet.core.study.tuning import Trial, Watcher
from densedet.tools.main import main

optuna = pytest.importorskip("optuna")

RECIPE = """
base: densedet:quickstart_ssd.yaml
data:
  train: {count: 8}
  val: {count: 4}
train: {batch_size: 4, evaluations: 1, threads: 1, budget: {steps: 2}}
run: {hooks: [metrics, checkpoint]}
"""


def test_spaces() -> None:
    assert spaces_of(
        ["model.head.depth=1..4", "train.optimizer.lr=log:1e-4..1e-2", "model.neck=fpn,pan"]
    ) == [
        Space("model.head.depth", (), 1, 4, whole=True),
        Space("train.optimizer.lr", (), 1e-4, 1e-2, log=True),
        Space("model.neck", ("fpn", "pan")),
    ]
    assert spaces_of(["train.optimizer.lr=.1..2"]) == [Space("train.optimizer.lr", (), 0.1, 2.0)]
    fixed = optuna.trial.FixedTrial({"a.b": 3, "a.c": 0.123456789, "a.d": "fpn"})
    spaces = [Space("a.b", (), 1, 4, whole=True), Space("a.c", (), 0, 1), Space("a.d", ("fpn", "pan"))]
    assert [space.suggest(fixed) for space in spaces] == ["a.b=3", "a.c=0.123457", "a.d=fpn"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["lr=1..2"], "write train.optimizer.lr="),
        (["train.optimizer.lr"], "write train.optimizer.lr="),
        (["train.optimizer.lr=2..1"], "the smaller number comes first"),
        (["train.optimizer.lr=log:0..1"], "a logarithm begins above 0"),
        (["model.neck=fpn"], "nothing to choose from"),
        (["model.neck=fpn,pan", "model.neck=fpn,pan"], "is there twice"),
        (["train.seed=0..9"], "not how good they are"),
        (["data.val.count=4,8"], "not how good they are"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(given: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        spaces_of(given)


def test_a_run_below_the_median_is_stopped(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=3))
    for value in (0.4, 0.5, 0.6):  # the median of the first evaluations is 0.5
        trial = study.ask()
        trial.report(value, 0)
        study.tell(trial, value)
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    (tmp_path / ".holder").write_text(f"process {process.pid} on {socket.gethostname()}")
    run = StudyRun("trial 3", "", 0, tmp_path)
    watcher = Watcher(Trial(3, [], load_recipe("quickstart_ssd"), run), study.ask(), "AP")
    (tmp_path / "metrics.jsonl").write_text("")
    watcher.look()
    assert run.status == "planned"
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"event": "evaluation", "metrics": {"AP": 0.45}}))
    watcher.look()
    assert run.status == "pruned"
    assert process.wait() == -15


@pytest.mark.long
def test_the_same_search_takes_its_finished_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(RECIPE)
    forked = ["--launcher", "forked", "--plugin", str(Path(__file__).parents[2] / "forked_launcher.py")]
    command = [
        "tune",
        "small.yaml",
        "--search",
        "train.optimizer.lr=log:1e-3..1e-2",
        "--trials",
        "3",
        *forked,
    ]
    assert main(command) == 0
    runs = {file: file.stat().st_mtime_ns for file in Path("runs").rglob("last.pt")}
    assert len(runs) == 3
    assert main(command) == 0
    assert {file: file.stat().st_mtime_ns for file in Path("runs").rglob("last.pt")} == runs
    told = [json.loads(Path(f"runs/tune/{number}/best.json").read_text()) for number in (1, 2)]
    assert told[0] == told[1]
    values = [trial["value"] for trial in told[0]["trials"]]
    assert told[0]["best"] == values.index(max(values))
    best = load_recipe("runs/tune/1/best.yaml").values["train"]["optimizer"]["lr"]
    assert f"train.optimizer.lr={best:g}" in told[0]["trials"][told[0]["best"]]["changes"]
    assert "What mattered" in Path("runs/tune/1/best.html").read_text()
    assert main(["tune", "small.yaml", "--search", "train.optimizer.lr=-1..1", *forked]) == 2
    assert "train.optimizer.lr" in capfd.readouterr().err
