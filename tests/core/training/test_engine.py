"""Runs: what they leave, how they stop, and that a resumed one ends as an uninterrupted one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from densedet.core import sealed_file
from densedet.core.api import build
from densedet.core.errors import CheckpointError, TrainingError, UsageError
from densedet.core.recipe.loading import RecipeError, load_recipe
from densedet.core.state_dict import COUNT
from densedet.core.training import checkpoint, engine, session
from densedet.core.training.checkpoint_fields import FORMAT
from densedet.core.training.ema import ExponentialMovingAverage
from densedet.core.training.folders import new_folder
from densedet.core.training.precision import candidates, check_precision, resolve_device
from densedet.core.training.prediction import load
from densedet.core.training.run import Run
from densedet.plugins.detectors.dense import DenseDetector
from densedet.plugins.hooks.metrics import cut_back

SMALL = (
    "data.train.count=24",
    "data.val.count=6",
    "train.batch_size=8",
    "train.evaluations=2",
    "model.backbone.widths=[8, 8, 8]",
    "run.hooks=[{name: metrics}, {name: checkpoint, every_steps: 2}, {name: pictures}]",
)


def recipe(folder: Path, *overrides: str, name: str = "quickstart_ssd") -> Any:
    return load_recipe(
        name, [*SMALL, "train.budget.steps=6", f"run.folder={json.dumps(str(folder))}", *overrides]
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


TIMES = ("seconds", "step_seconds", "data_seconds")


def test_a_run_folder_holds_what_the_tools_read(tmp_path: Path) -> None:
    run = session.train(recipe(tmp_path))
    assert run.folder == tmp_path / "quickstart_ssd" / "1"
    for name in ("recipe.yaml", "metrics.jsonl", "last.pt", "best.pt", "summary.json", "pictures.json"):
        assert (run.folder / name).stat().st_size > 0, name
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary["status"] == "done"
    assert summary["steps"] == 6
    assert summary["images_seen"] == 48
    assert summary["epochs"] == 2  # 24 images / 8 a step = 3 steps an epoch
    assert summary["flops"] == 2 * summary["macs"] > 0
    events = lines(run.folder)
    assert [e["step"] for e in events if e["event"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert [e["step"] for e in events if e["event"] == "evaluation"] == [3, 6]
    assert set(events[0]["losses"]) == {"class", "box"}
    assert load_recipe(run.folder / "recipe.yaml").values == run.recipe.values
    # A second run never touches the first one's folder.
    assert session.train(recipe(tmp_path, "train.budget.steps=1")).folder == tmp_path / "quickstart_ssd" / "2"


@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_a_resumed_run_ends_bit_for_bit_as_an_uninterrupted_one(tmp_path: Path, stop_at: int) -> None:
    """Stopped in the middle of an epoch, at its end, and behind an evaluation; augmentation and averaging
    included."""
    extra = ("data.batch_transforms=[{name: flip}]", "train.accumulate=1")
    whole = session.train(recipe(tmp_path / "whole", *extra))

    halves = recipe(tmp_path / "halves", *extra)
    run = Run(halves)
    run.hooks.register(StopAfter(stop_at))
    session.conduct(run)
    assert run.step == stop_at
    resumed = session.resume(run.folder)
    assert resumed.step == 6

    first, second = checkpoint.load(whole.folder / "last.pt"), checkpoint.load(resumed.folder / "last.pt")
    for part in ("detector", "ema"):
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part]), part
    for name, state in first["optimizer"]["torch"]["state"].items():
        assert all(
            torch.equal(torch.as_tensor(v), torch.as_tensor(second["optimizer"]["torch"]["state"][name][k]))
            for k, v in state.items()
        )
    strip = [
        [{k: v for k, v in e.items() if k not in TIMES} for e in lines(r.folder)] for r in (whole, resumed)
    ]
    assert strip[0] == strip[1]


class StopAfter:
    def __init__(self, step: int) -> None:
        self.step = step

    from densedet.core.hookspecs import hookimpl

    @hookimpl
    def densedet_run_step(self, run: Any, step: dict[str, Any]) -> None:
        if run.step == self.step:
            run.stop("the test says so")


def test_a_stopped_run_says_why(tmp_path: Path) -> None:
    run = Run(recipe(tmp_path))
    run.hooks.register(StopAfter(2))
    session.conduct(run)
    summary = json.loads((run.folder / "summary.json").read_text())
    assert (summary["status"], summary["reason"], summary["steps"]) == ("stopped", "the test says so", 2)


def test_a_finished_run_is_not_resumed(tmp_path: Path) -> None:
    run = session.train(recipe(tmp_path, "train.budget.steps=2"))
    with pytest.raises(CheckpointError, match=r"used its whole budget \(2 steps\): give a larger one"):
        session.resume(run.folder)
    assert session.resume(run.folder, ("train.budget.steps=3",)).step == 3


def test_budgets(tmp_path: Path) -> None:
    assert session.train(recipe(tmp_path, "train.budget.epochs=1")).step == 3
    timed = session.train(recipe(tmp_path, "train.budget.minutes=0.01"))  # 0.6 seconds
    assert timed.seconds >= 0.6
    assert timed.progress == 1.0


def test_a_batch_that_is_accumulated_twice_is_the_mean_of_both(tmp_path: Path) -> None:
    """One step of plain SGD on a batch, and one on the same batch twice, end at the same weights."""
    plain = ("train.optimizer={name: sgd, lr: 0.1, momentum: 0}", "train.clip_norm=null", "run.hooks=[]")
    ends = []
    for times in (1, 2):
        run = Run(recipe(tmp_path, *plain, "data.val=null", "train.precision=float32"))
        run.detector.eval()  # batch norm counts no batch twice
        engine.optimizer_step(run, (next(run.batches())[0],) * times)
        ends.append(torch.cat([p.detach().flatten() for p in run.detector.parameters()]))
    torch.testing.assert_close(*ends)
    start = torch.cat([p.detach().flatten() for p in Run(recipe(tmp_path, *plain)).detector.parameters()])
    assert not torch.allclose(start, ends[0])


def test_accumulated_gradients_count_one_step(tmp_path: Path) -> None:
    run = session.train(recipe(tmp_path, "train.accumulate=3", "train.budget.steps=2"))
    assert (run.step, run.epoch) == (2, 2)
    assert json.loads((run.folder / "summary.json").read_text())["images_seen"] == 48


def test_a_loss_that_is_not_finite_stops_with_its_parts_and_images(tmp_path: Path) -> None:
    run = Run(recipe(tmp_path))
    with torch.no_grad():
        next(run.detector.head.parameters()).fill_(float("nan"))
    with pytest.raises(
        TrainingError,
        match=r"not finite \(class nan, box [0-9.]+; image ids .* at step 1: .*a smaller train.optimizer.lr",
    ):
        session.conduct(run)
    assert json.loads((run.folder / "summary.json").read_text())["status"] == "failed"
    assert not (run.folder / "last.pt").exists(), "a broken state was kept"


def test_the_detector_knows_the_progress_and_box_losses_have_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four steps: trained at 0, 1/4, 2/4 and 3/4, and the averaged weights evaluated at 0 (before the first
    step), 1/2 and 1."""
    seen: dict[bool, list[float]] = {True: [], False: []}
    assign = DenseDetector.assign

    def watched(self: DenseDetector, *arguments: Any) -> Any:
        seen[self.training].append(self.progress)
        return assign(self, *arguments)

    monkeypatch.setattr(DenseDetector, "assign", watched)
    run = session.train(
        recipe(
            tmp_path,
            "train.budget.steps=4",
            "train.ema_decay=0.9",
            "model.box_loss=[{name: giou}, {name: smooth_l1, weight: 0.5}]",
            "run.hooks=[]",
        )
    )
    assert seen[True] == [0, 0.25, 0.5, 0.75]
    assert list(dict.fromkeys(seen[False])) == [0, 0.5, 1]
    assert set(run.metrics["losses"]) == {"class", "box_giou", "box_smooth_l1"}


def test_early_stop(tmp_path: Path) -> None:
    run = session.train(
        recipe(
            tmp_path,
            "train.budget.steps=40",
            "train.evaluations=20",
            "train.early_stop=2",
            "train.optimizer.lr=1e-9",
        )
    )
    assert run.step < 40
    assert run.stop_reason == "no better AP in 2 evaluations"


def test_frozen_parameters_and_their_statistics_stay(tmp_path: Path) -> None:
    run = Run(recipe(tmp_path, "train.frozen=['backbone.*']", "train.budget.steps=2"))
    before = {name: value.clone() for name, value in run.detector.state_dict().items()}
    assert any("running_mean" in name for name in before)
    session.conduct(run)
    after = run.detector.state_dict()
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert "backbone" not in changed
    assert "head" in changed


def test_hooks_are_called_in_listed_order(tmp_path: Path) -> None:
    file = tmp_path / "hooks.py"
    file.write_text(
        "import densedet\nCALLS = []\n"
        "class Hook:\n"
        "    def __init__(self, *, name_it: str) -> None:\n        self.it = name_it\n"
        "    @densedet.hookimpl\n    def densedet_run_epoch(self, run, epoch):\n        "
        "CALLS.append(self.it)\n"
        "densedet.register('hook', 'note')(Hook)\n"
        "@densedet.hookimpl\ndef densedet_run_start(run):\n    CALLS.append('module')\n"
    )
    yaml = tmp_path / "r.yaml"
    yaml.write_text(
        "base: densedet:quickstart_ssd.yaml\nplugins: [./hooks.py]\n"
        "run: {hooks: [{name: note, name_it: a}, {name: note, name_it: b}, {name: note, name_it: c}]}\n"
    )
    loaded = load_recipe(
        yaml, [*SMALL[:-1], "train.budget.epochs=1", f"run.folder={json.dumps(str(tmp_path))}"]
    )
    run = session.train(loaded)
    module = loaded.plugins.plugins[-1].plugin
    assert module.CALLS == ["module", "a", "b", "c"]
    # Weights of a run with plug-ins load only when the user hands the file over: it is never imported by
    # itself.
    assert (run.folder / "summary.json").exists()


def test_hooks_keep_what_must_survive_a_resume(tmp_path: Path) -> None:
    class Counter:
        from densedet.core.hookspecs import hookimpl

        count = 0

        @hookimpl
        def densedet_run_step(self, run: Any, step: dict[str, Any]) -> None:
            self.count += 1

        @hookimpl
        def densedet_state(self, run: Any) -> dict[str, Any]:
            return {"counter": self.count}

        @hookimpl
        def densedet_restore(self, run: Any, state: dict[str, Any]) -> None:
            self.count = state["counter"]

    run = Run(recipe(tmp_path, "train.budget.steps=3"))
    run.hooks.register(Counter(), "Counter#1")
    session.conduct(run)
    state = checkpoint.load(run.folder / "last.pt")
    assert state["plugins"] == {"Counter#1": {"counter": 3}}
    counter = Counter()
    again = Run(recipe(tmp_path), resume=state, folder=run.folder, hooks=[counter])
    again.start()
    assert counter.count == 3


def test_loading_runs_no_code_and_names_damage(tmp_path: Path) -> None:
    run = session.train(recipe(tmp_path, "train.budget.steps=1"))
    good = (run.folder / "best.pt").read_bytes()
    assert len(load(run.folder).classes) == 10
    bad = tmp_path / "bad.pt"
    zeros = b"\0" * 4096
    half = len(good) // 2
    for content in (b"", b"not a checkpoint", good[:half], good[:half] + zeros + good[half + 4096 :]):
        bad.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"bad\.pt"):
            load(bad)
        with pytest.raises(RecipeError, match=r"bad\.pt"):  # as weights to start from, too
            build(recipe(tmp_path, f"model.weights={bad}"), num_classes=10)
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (marker,))

    sealed_file.write(bad, {"format": FORMAT, "detector": Evil()})
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        load(bad)
    assert not marker.exists()
    sealed_file.write(bad, {"weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="not a densedet checkpoint"):
        load(bad)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load(tmp_path / "missing.pt")


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    run = session.train(recipe(tmp_path, "train.budget.steps=1"))
    state = checkpoint.load(run.folder / "last.pt")
    for name in (
        next(n for n in state["detector"] if n.startswith("head.")),
        next(n for n in state["detector"] if n.endswith(COUNT)),
    ):
        value = state["detector"].pop(name)
        with pytest.raises(CheckpointError, match=f"they lack {name}"):
            Run(recipe(tmp_path), resume=state)
        state["detector"][name] = value


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    one, two, evaluated, three = (
        json.dumps({"event": event, "step": step}) + "\n"
        for event, step in (("step", 1), ("step", 2), ("evaluation", 2), ("step", 3))
    )
    path.write_text(one + two + evaluated + three + '{"event": "st')
    cut_back(path, 2, evaluated=True)
    assert path.read_text() == one + two + evaluated
    cut_back(path, 2, evaluated=False)  # the checkpoint was written before the evaluation
    assert path.read_text() == one + two


def test_run_folders_count_up(tmp_path: Path) -> None:
    assert new_folder(tmp_path, "a").name == "1"
    (tmp_path / "a" / "7").mkdir()
    (tmp_path / "a" / "notes").mkdir()
    assert new_folder(tmp_path, "a").name == "8"


def test_the_average_follows_by_its_decay() -> None:
    model = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(model.weight, 0.0)
    average = ExponentialMovingAverage(model, 0.9)
    torch.nn.init.constant_(model.weight, 1.0)
    average.update(model, step=10_000)  # the ramp is over: decay 0.9
    assert float(average.model.weight) == pytest.approx(0.1)
    average.update(model, step=10_000)
    assert float(average.model.weight) == pytest.approx(0.19)  # 0.9 * 0.1 + 0.1
    assert average.decay_at(1) < 0.01, "a short run must not be averaged with its random start"


def test_devices_and_precisions() -> None:
    assert resolve_device("cpu").type == "cpu"
    for name in ("gpu", "cuda:99"):
        with pytest.raises(UsageError, match=name):
            resolve_device(name)
    for name in ("auto", "float32", "bf16"):
        check_precision(name, torch.device("cpu"))
    with pytest.raises(UsageError, match="float16 needs a CUDA device"):
        check_precision("float16", torch.device("cpu"))
    assert candidates(torch.device("cpu")) == ("float32", "bf16")
    assert candidates(torch.device("mps")) == ("float32",)


def test_bf16_trains(tmp_path: Path) -> None:
    run = session.train(recipe(tmp_path, "train.precision=bf16", "train.budget.steps=2"))
    assert all(torch.isfinite(p).all() for p in run.detector.parameters())
    assert all(p.dtype is torch.float32 for p in run.detector.parameters())


def test_the_held_out_share_is_seeded_and_disjoint(tmp_path: Path) -> None:
    first, second, other = (
        Run(recipe(tmp_path, "data.val=null", "data.holdout=0.25", f"train.seed={seed}"))
        for seed in (0, 0, 1)
    )
    assert first.val_set is not None
    held, kept = set(first.val_set.source.indices), set(first.train_set.source.indices)
    assert len(held) == 6  # a quarter of 24
    assert held | kept == set(range(24))
    assert not held & kept
    assert held == set(second.val_set.source.indices)
    assert held != set(other.val_set.source.indices)


@pytest.mark.parametrize("read", [float, torch.as_tensor])
@pytest.mark.parametrize(("limit", "left"), [(None, [3.0, 4.0]), (6.0, [3.0, 4.0]), (1.0, [0.6, 0.8])])
def test_gradients_are_shortened_only_where_they_are_too_long(
    limit: float | None, left: list[float], read: Any
) -> None:
    """The host's look at the norm, and a GPU's without one."""
    module = torch.nn.ParameterList([torch.zeros(1), torch.zeros(1), torch.zeros(1)])
    module[0].grad, module[1].grad = torch.tensor([3.0]), torch.tensor([4.0])  # the third took no part
    norm = read(engine.gradient_norm(module))
    engine.clip_gradients(module, norm, limit)
    assert float(norm) == pytest.approx(5.0)
    assert [float(p.grad) for p in list(module)[:2]] == pytest.approx(left)
