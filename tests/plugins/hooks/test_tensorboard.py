"""The TensorBoard writer, read back through TensorBoard's own event reader."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from types import SimpleNamespace

import pluggy
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from densedet.core import hookspecs
from densedet.core.types import Batch, Detections, Explanation, Level, Targets
from densedet.plugins.hooks.tensorboard import TensorBoardHook, flat_values

CLASSES = ("cat", "dog", "bird")


def make_batch(count: int = 2) -> Batch:
    """Grey 64x32 images; each holds a dog and, in the second slot, a cat."""
    boxes = torch.tensor([[8.0, 8.0, 24.0, 24.0], [40.0, 4.0, 60.0, 28.0]])
    return Batch(
        images=torch.full((count, 1, 32, 64), 90, dtype=torch.uint8),
        valid_hw=torch.tensor([[32, 64]] * count),
        boxes=boxes.repeat(count, 1, 1),
        labels=torch.tensor([[1, 0]] * count),
        valid=torch.ones(count, 2, dtype=torch.bool),
        ignore=torch.zeros(count, 2, dtype=torch.bool),
        indices=torch.arange(count),
        image_ids=list(range(count)),
        source_hw=torch.tensor([[32, 64]] * count),
        to_source=torch.tensor([[1.0, 1.0, 0.0, 0.0]] * count),
    )


class FoundNothing(torch.nn.Module):
    """A detector that finds nothing and has no heat maps."""

    def predict(self, batch: Batch) -> list[Detections]:
        assert not self.training
        return [Detections.empty() for _ in range(len(batch))]


class Explained(FoundNothing):
    """The same with score maps of two levels, strides 8 and 16."""

    def explain(self, batch: Batch) -> Explanation:
        levels = (Level(4, 8, 2, 8), Level(2, 4, 2, 16))
        n = sum(level.count for level in levels)  # 4*8*2 + 2*4*2 = 80
        scores = torch.linspace(0, 1, n * 3).reshape(n, 3).repeat(len(batch), 1, 1)
        none = torch.zeros(len(batch), n, 4)
        empty = torch.zeros(len(batch), n, dtype=torch.int64)
        targets = Targets(none[0], levels, empty - 1, empty > 0, empty + 3, none)
        return Explanation(levels, none[0], scores, none, targets)


def make_run(folder: Path, detector: torch.nn.Module, *, step: int = 0) -> SimpleNamespace:
    return SimpleNamespace(
        folder=folder,
        step=step,
        epoch=0,
        is_main=True,
        classes=CLASSES,
        recipe=SimpleNamespace(
            values={"model": {"head": {"name": "ssd"}}, "data": {"input_size_wh": [64, 32]}},
            to_yaml=lambda: "model:\n  head: ssd\n",
        ),
        eval_detector=detector,
        sample_batch=lambda split, count: make_batch(count),
    )


STEP = {
    "losses": {"class": 1.0, "box": 0.5},
    "loss": 1.5,
    "learning_rate": 0.01,
    "step_seconds": 0.2,
    "data_seconds": 0.1,
    "images": 4,
}
METRICS = {
    "AP": 0.25,
    "AP50": 0.5,
    "APs": -1.0,
    "classes": {"cat": {"AP": 0.3, "AP50": 0.6}, "bird": {"AP": -1.0, "AP50": -1.0}},
    "losses": {"class": 0.75, "box": 0.25},
    "curves": {"cat": [1.0] * 51 + [0.0] * 50},
}


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def numbers(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]


def test_curves_are_means_since_the_last_point(tmp_path: Path) -> None:
    hook, run = TensorBoardHook(every=2), make_run(tmp_path, FoundNothing())
    hook.densedet_run_start(run=run)
    for loss in (4.0, 1.0, 2.0, 6.0, 8.0):
        run.step += 1
        hook.densedet_run_step(run=run, step={**STEP, "loss": loss})
    hook.densedet_run_end(run=run, summary={"status": "done"})
    events = read(tmp_path)
    # Step 1 alone, then 2 alone (since 1 was written), (2 + 6) / 2 = 4 at step 4, the rest at the end.
    assert numbers(events, "train/loss") == [(1, 4.0), (2, 1.0), (4, 4.0), (5, 8.0)]
    assert {"train/loss_class", "train/loss_box", "lr", "time/data", "time/step", "memory/used_mb"} <= set(
        events.Tags()["scalars"]
    )
    # 4 images in 0.2 seconds, waiting for data included
    assert numbers(events, "time/images_per_second")[0] == (1, 20.0)
    assert len(list(tmp_path.iterdir())) == 1, "no run beside the run"


def test_evaluation_numbers_pictures_and_heatmaps(tmp_path: Path) -> None:
    detector = Explained().train()
    hook, run = TensorBoardHook(images=2, heatmap_classes=1), make_run(tmp_path, detector, step=7)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        hook.densedet_run_start(run=run)
        hook.densedet_run_evaluated(run=run, metrics=METRICS)
        hook.densedet_run_end(run=run, summary={"status": "done", "AP": 0.25})
    assert detector.training, "the mode is given back"
    events = read(tmp_path)
    scalars = set(events.Tags()["scalars"])
    assert numbers(events, "val/AP") == [(7, 0.25)]
    assert numbers(events, "val/loss") == [(7, 1.0)]  # 0.75 + 0.25
    assert numbers(events, "val/loss_class") == [(7, 0.75)]
    assert numbers(events, "val_class/cat/AP") == [(7, 0.3)]
    assert "val/APs" not in scalars, "-1 means that there was nothing to judge"
    assert "val_class/bird/AP" not in scalars
    # Two labels occur twice each; the tie goes to the lower label, cat.
    assert set(events.Tags()["images"]) == {"images/predictions", "heatmaps/cat"}
    picture = Image.open(io.BytesIO(events.Images("images/predictions")[0].encoded_image_string))
    # 64 px enlarged to 512 = round(512/64)*64; truth and prediction with a gap of 8 between.
    assert picture.width == 512 + 8 + 512
    assert "val_pr/cat" in events.Tags()["tensors"]


def test_a_class_with_control_characters_has_a_plain_tag(tmp_path: Path) -> None:
    hook, run = TensorBoardHook(images=2, heatmap_classes=1), make_run(tmp_path, Explained(), step=7)
    run.classes = ("cat\x1b", "bird")
    hook.densedet_run_start(run=run)
    classes = {"cat\x1b": {"AP": 0.3}}
    curves = {"cat\x1b": [1.0] * 101}
    hook.densedet_run_evaluated(run=run, metrics={"classes": classes, "curves": curves})
    hook.densedet_run_end(run=run, summary={"status": "done"})
    tags = read(tmp_path).Tags()
    assert r"val_class/cat\x1b/AP" in tags["scalars"]
    assert r"heatmaps/cat\x1b" in tags["images"]
    assert r"val_pr/cat\x1b" in tags["tensors"]


def test_a_detector_without_explain_has_pictures_but_no_heatmaps(tmp_path: Path) -> None:
    hook, run = TensorBoardHook(images=1), make_run(tmp_path, FoundNothing())
    hook.densedet_run_start(run=run)
    hook.densedet_run_evaluated(run=run, metrics={"AP": 0.0})
    hook.densedet_run_end(run=run, summary={"status": "done"})
    assert read(tmp_path).Tags()["images"] == ["images/predictions"]


def test_a_failing_picture_warns_and_training_goes_on(tmp_path: Path) -> None:
    hook, run = TensorBoardHook(), make_run(tmp_path, FoundNothing())

    def no_images(split: str, count: int) -> Batch:
        raise OSError("disk gone")

    run.sample_batch = no_images
    hook.densedet_run_start(run=run)
    with pytest.warns(RuntimeWarning, match="no pictures of step 0: OSError: disk gone"):
        hook.densedet_run_evaluated(run=run, metrics=METRICS)
    hook.densedet_run_end(run=run, summary={"status": "done"})
    assert numbers(read(tmp_path), "val/AP") == [(0, 0.25)]


def test_resume_hides_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path, FoundNothing())
    for start, losses in ((0, (1.0, 2.0, 3.0)), (2, (30.0, 40.0))):
        hook = TensorBoardHook(every=1, images=0)
        run.step = start
        hook.densedet_run_start(run=run)
        for loss in losses:
            run.step += 1
            hook.densedet_run_step(run=run, step={**STEP, "loss": loss})
        hook.densedet_run_end(run=run, summary={"status": "done"})
    # The first run's step 3 is replaced by the second's, which resumed after step 2.
    assert numbers(read(tmp_path), "train/loss") == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0)]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    hook, run = TensorBoardHook(), make_run(tmp_path, FoundNothing())
    run.is_main = False
    hook.densedet_run_start(run=run)
    hook.densedet_run_step(run=run, step=STEP)
    hook.densedet_run_evaluated(run=run, metrics=METRICS)
    hook.densedet_run_end(run=run, summary={"status": "done"})
    assert list(tmp_path.iterdir()) == []


def test_hooks_fit_the_specification() -> None:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(TensorBoardHook())
    manager.check_pending()
    assert len(manager.hook.densedet_run_evaluated.get_hookimpls()) == 1


def test_flat_values() -> None:
    values = {"model": {"head": {"name": "ssd", "depth": 2}, "neck": None}, "size": [128, 64], "flip": True}
    assert flat_values(values) == {
        "model.head.name": "ssd",
        "model.head.depth": 2,
        "model.neck": "null",
        "size": "[128, 64]",
        "flip": True,
    }
