"""Comparisons that are killed, stopped, repeated and disturbed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import densedet
from densedet.core.files import locked
from densedet.core.study.study import read_study
from densedet.tools.main import main

TESTS = Path(__file__).parents[2]
FORKED = ("--plugin", str(TESTS / "forked_launcher.py"))
RECIPE = """
base: densedet:quickstart_ssd.yaml
plugins: [./trouble.py]
data:
  train: {count: 8}
  val: {count: 4}
  {data}
train: {batch_size: 4, evaluations: 2, threads: 1, budget: {steps: 4}}
run: {hooks: [metrics, {name: checkpoint, every_steps: 1}]}
"""
SLURM = "{name: slurm, cluster: local, poll_seconds: 0.2, cpus: 1}"
TROUBLE = """
import os, pathlib, signal, densedet

@densedet.hookimpl
def densedet_run_step(run):
    # Once: seed 1 is killed at once, seed 2 is asked to stop.
    number = {1: signal.SIGKILL, 2: signal.SIGTERM}.get(run.settings.seed)
    marker = pathlib.Path(f"trouble{run.settings.seed}")
    if run.step == 2 and number and marker.exists():
        marker.unlink()
        os.kill(os.getpid(), number)
    if pathlib.Path("fault").exists() and run.settings.seed == 0:
        raise ValueError("this is the fault")
    if pathlib.Path("edit").exists():
        pathlib.Path("edit").unlink()
        with open(__file__, "a") as file:
            file.write("# another content\\n")
"""


def timeless(value: Any) -> Any:
    """The numbers of a report without times, memory and folders."""
    spec = importlib.util.spec_from_file_location("survive_compare", TESTS / "survive_compare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.timeless(value)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "trouble.py").write_text(TROUBLE)
    (tmp_path / "small.yaml").write_text(RECIPE.replace("{data}", ""))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    leave_out(monkeypatch)
    return tmp_path / "work"


def leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare without judging runs and without charts and pictures, which take most of a small comparison's
    time and have tests of their own."""
    monkeypatch.setattr("densedet.core.report.page._attempt", lambda what, draw, warnings: None)
    monkeypatch.setattr("densedet.core.study.evidence.evidence", lambda *_: nullcontext([[]]))


def compare(*arguments: str, launcher: str = "forked") -> int:
    return main(["compare", "../small.yaml", *arguments, "--launcher", launcher, *FORKED])


def report(folder: Path = Path("runs/compare")) -> dict[str, Any]:
    newest = max(folder.glob("[0-9]*"), key=lambda path: int(path.name))
    return written(newest / "report.json")


def written(file: Path) -> dict[str, Any]:
    """What the JSON of a report says of its one data set."""
    [comparison] = json.loads(file.read_text())["comparisons"]
    assert isinstance(comparison, dict)
    return comparison


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of three runs that nobody has stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "trouble.py").write_text(TROUBLE)
    (folder / "small.yaml").write_text(RECIPE.replace("{data}", ""))
    (folder / "work").mkdir()
    before = os.getcwd()
    os.chdir(folder / "work")
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            leave_out(monkeypatch)
            assert compare("--seeds", "3") == 0
        return report()
    finally:
        os.chdir(before)


@pytest.mark.parametrize(
    ("launcher", "library"),
    [
        ("forked", "torch"),
        pytest.param("{name: local, jobs: 2}", "torch", marks=pytest.mark.long),
        pytest.param(SLURM, "submitit", marks=pytest.mark.long),
        pytest.param("ray", "ray", marks=pytest.mark.long),
    ],
)  # fmt: skip
def test_of_three_runs_one_is_killed_one_is_stopped_and_the_same_report_follows(
    launcher: str,
    library: str,
    undisturbed: dict[str, Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    engine = pytest.importorskip(library)
    for seed in (1, 2):
        Path(f"trouble{seed}").touch()
    if launcher == "ray":
        engine.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        assert compare("--seeds", "3", launcher=launcher) == 1
        told = capfd.readouterr().err
        assert re.search(r"warning: small seed 1 failed: its process was ended by SIGKILL", told)
        assert re.search(r"warning: small seed 2 failed: its process was ended by SIGTERM", told)
        assert len(report()["runs"]) == 3  # what there is of the three is reported all the same
        assert compare("--seeds", "3", launcher=launcher) == 0
    finally:
        if launcher == "ray":
            engine.shutdown()
    told = capfd.readouterr().err
    assert "small seed 0: finished already" in told
    assert "small seed 1: goes on in" in told
    assert "small seed 2: goes on in" in told
    assert timeless(report()) == timeless(undisturbed)
    study = read_study(Path("runs/compare/2/study.json"))
    assert [(run.seed, run.status) for run in study.runs] == [(0, "done"), (1, "done"), (2, "done")]
    assert [run.folder.name.rpartition("-")[2] for run in study.runs_of("small")] == [
        "seed0",
        "seed1",
        "seed2",
    ]


def test_finished_runs_are_reused_by_other_comparisons(capfd: pytest.CaptureFixture[str]) -> None:
    assert compare() == 0
    before = {file: file.stat().st_mtime_ns for file in Path("runs/compare/runs").rglob("*.pt")}
    # Another study, in which the recipe is one arm of a grid.
    assert compare("--vary", "train.batch_size=4,8") == 0
    told = capfd.readouterr().err
    assert "batch_size=4 seed 0: finished already" in told
    assert all(file.stat().st_mtime_ns == time for file, time in before.items())
    assert [run["name"] for run in report()["runs"]] == ["batch_size=4", "batch_size=8"]


@pytest.mark.long
def test_a_ladder_shares_the_runs_at_its_ends(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    changes = "model: {matcher: {negative: 0.4}}\ntrain: {ema_decay: 0.9}\n"
    (here.parent / "upper.yaml").write_text(f"base: small.yaml\n{changes}")
    ends = ("../upper.yaml",)
    assert compare(*ends) == 0
    capfd.readouterr()
    assert compare(*ends, "--ladder", "--fail-if-worse", "0.1") == 1
    told = capfd.readouterr()
    assert "3 rungs and 1 in the other order, 1 seed each: 4 runs" in told.err
    assert "small seed 0: finished already" in told.err
    assert "upper seed 0: finished already" in told.err
    assert "2 forks" in told.err
    assert "upper against small: whether it is, cannot be told" in told.err, "one run is no judgement"
    ladder = report()["ladder"]
    assert [step["changes"] for step in ladder["steps"]] == [
        {"model.matcher": "negative 0.5 → 0.4"},
        {"train.ema_decay": "0.99 → 0.9"},
    ]
    assert ladder["swaps"][0]["arm"] == "1' +ema_decay"
    assert "1 +matcher" in told.out
    assert compare(*ends, "--ladder", "--vary", "train.batch_size=2,4") == 2
    assert "--ladder changes one part a step, and --vary" in capfd.readouterr().err
    assert compare("--swaps", "1") == 2
    assert "--swaps is for a ladder" in capfd.readouterr().err


def test_a_run_that_fails_stops_no_other(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "fault").touch()
    assert compare("--seeds", "2") == 1
    captured = capfd.readouterr()
    assert "failed: this is the fault (trouble.py line" in captured.err
    study = read_study(Path("runs/compare/1/study.json"))
    assert [run.status for run in study.runs] == ["failed", "done"]
    (here / "fault").unlink()
    assert compare("--seeds", "2") == 0


@pytest.mark.long
def test_a_plugin_that_is_edited_meanwhile_mixes_no_runs(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("edit").touch()  # the first run edits the plug-in
    assert compare("--seeds", "2") == 1
    told = capfd.readouterr().err
    assert (
        f"of these files of small one has changed since the run was planned: {here.parent}/trouble.py" in told
    )
    assert "another file of small has changed meanwhile" in report()["warnings"][-2]
    assert [run["status"] for run in report()["runs"]] == ["done"], "the other one did not begin"
    [first] = [path for path in Path("runs/compare/runs").iterdir() if (path / "summary.json").exists()]
    assert compare("--seeds", "2") == 0
    told = capfd.readouterr().err
    assert "small seed 0 is trained anew, since a plug-in, weights or another file of its recipe has" in told
    assert f"changed since the run in {first}, which" in told
    study = read_study(Path("runs/compare/2/study.json"))
    assert first not in [run.folder for run in study.runs]


@pytest.mark.long
def test_a_run_whose_data_have_changed_is_trained_anew(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = here / "cats"
    write_coco(folder, width=8)
    sets = ("--on", "cats=cats/train.json,cats/train.json", "--on-images", "cats=cats")
    assert compare(*sets) == 0
    write_coco(folder, width=12)
    assert compare(*sets) == 0
    told = capfd.readouterr().err
    assert "small on cats seed 0 is trained anew, since the boxes of the training images have changed" in told
    runs = sorted(path.name for path in Path("runs/compare/runs").iterdir())
    assert len(runs) == 2
    assert runs[1] == f"{runs[0]}.2"
    write_coco(folder, width=8)  # as it was: the first run counts again
    assert compare(*sets) == 0
    assert f"small on cats seed 0: finished already, in runs/compare/runs/{runs[0]}" in capfd.readouterr().err


def write_coco(folder: Path, width: int) -> None:
    from PIL import Image

    folder.mkdir(exist_ok=True)
    images, boxes = [], []
    for number in range(1, 5):
        Image.new("L", (128, 64), 40 * number).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 64})
        box = {"bbox": [8, 8, width, 16], "area": 16 * width, "category_id": 1, "iscrowd": 0}
        boxes.append({"id": number, "image_id": number, **box})
    document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "train.json").write_text(json.dumps(document))


def test_a_run_that_another_process_trains_is_waited_for(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["compare", "../small.yaml", "--dry-run"]) == 0
    folder = Path(re.search(r"--folder (\S+)", capfd.readouterr().out)[1])  # type: ignore[index]
    folder.mkdir(parents=True)
    ready, over = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        with locked(folder):
            os.write(ready[1], b"1")
            os.read(over[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    sleep = time.sleep

    def release(seconds: float) -> None:
        """The other process ends as soon as this one waits for it."""
        os.write(over[1], b"1")
        sleep(0.01)

    monkeypatch.setattr(time, "sleep", release)
    assert compare() == 0
    os.waitpid(pid, 0)
    assert f"waiting: {folder} is in use by process {pid}" in capfd.readouterr().err


@pytest.mark.long
def test_commands_of_a_dry_run_are_taken_by_the_comparison(capfd: pytest.CaptureFixture[str]) -> None:
    assert compare("--seeds", "2", "data.workers=0", "--dry-run") == 0
    captured = capfd.readouterr()
    lines = captured.out.splitlines()
    assert len(lines) == 2
    assert "2 runs to train, 0 finished" in captured.err
    import shlex

    for line in lines:
        words = shlex.split(line)
        assert main(words[words.index("train") :]) == 0
    # Given again, it leaves the run as it is.
    assert main(words[words.index("train") :]) == 0
    assert "holds this run already" in capfd.readouterr().out
    # A later change to the recipe's file reaches no run of the study.
    recipe = Path(words[words.index("train") + 1])
    assert recipe.parent.parent.name == "recipes"
    assert compare("--seeds", "2") == 0
    assert "small seed 1: finished already" in capfd.readouterr().err


def test_another_recipe_does_not_go_on_in_the_folder_of_a_run(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "../small.yaml", "--folder", "a"]) == 0
    assert main(["train", "../small.yaml", "train.batch_size=2", "--folder", "a"]) == 2
    assert (
        "a holds a run of another recipe (train.batch_size is 4 there and 2 here)" in capfd.readouterr().err
    )


def test_finished_detectors_are_evaluated_on_other_images(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "../small.yaml", "--folder", "a"]) == 0
    assert main(["train", "../small.yaml", "train.seed=1", "--folder", "b"]) == 0
    assert main(["compare", "a", "b", "data.val.count=6", "--output", "c/report.html"]) == 0
    study = read_study(Path("c/study.json"))
    assert [arm.name for arm in study.arms] == ["small"]  # two seeds of one recipe are one arm
    assert [run.changes for run in study.runs] == [("data.val.count=6",)] * 2
    numbers = [densedet.evaluate(f"{run.folder}/last.pt", run.changes)["AP"] for run in study.runs]
    assert [summary["AP"] for summary in written(Path("c/report.json"))["summaries"]] == numbers
    assert main(["compare", "a", "train.batch_size=2"]) == 2
    assert "train.batch_size=2 changes nothing" in capfd.readouterr().err


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="processes are killed by Linux's rules")
def test_a_comparison_that_is_killed_goes_on_to_the_same_report(tmp_path: Path) -> None:
    import subprocess

    command = [
        sys.executable,
        str(TESTS / "survive_compare.py"),
        "--moments",
        "1",
        "--seeds",
        "1",
        "--launcher",
        "forked",
    ]
    done = subprocess.run([*command, "--folder", str(tmp_path)], capture_output=True, text=True, check=False)
    assert "1 of 1 comparisons end with the same report" in done.stdout, done.stdout + done.stderr
