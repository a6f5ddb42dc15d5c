"""Whole runs on 1, 2 and 3 real processes (gloo): they do what one process does, and none waits for ever.

Three processes do all of it: all three, then two of them, then one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

import densedet
from densedet.core import api
from densedet.core.distributed import gather_objects, world
from densedet.core.errors import DataError, PeerError, TrainingError
from densedet.core.training import session
from densedet.core.training.run import Run
from densedet.plugins.losses.focal import FocalLoss

pytestmark = pytest.mark.skipif(not distributed.is_gloo_available(), reason="this torch has no gloo")

SMALL = [
    "data.train={name: digits, split: train, count: 11, size: [64, 32], min_side: 10, max_side: 20}",
    "data.val={name: digits, split: val, count: 7, size: [64, 32], min_side: 10, max_side: 20}",
    "data.input_size_wh=[64, 32]",
    "data.cache_gb=0",
    "model.backbone.widths=[8, 16]",
    "model.neck.stages=[{out_channels: 16, hidden_channels: 8}]",
    "model.anchors.scales=[0.3, 0.5, 0.7, 1.0]",
    "train.batch_size=5",
    "train.budget.steps=4",
    "train.evaluations=2",
    "train.precision=float32",
    "train.optimizer={name: sgd, lr: 0.005, momentum: 0.9}",
    "evaluate.batch_size=3",
    "run.hooks=[{name: checkpoint}, {name: metrics}]",
]
GROUP = ["model.backbone.norm=group", "model.neck.stages.0.norm=group"]
AUGMENTED = [
    "data.batch_transforms=[{name: flip}, {name: crop}, {name: affine}, {name: photometric}]",
    "data.input_sizes_wh=[[64, 32], [80, 48]]",
    "train.accumulate=2",
    "train.clip_norm=0.5",
]
MOSAIC = [
    "data.batch_transforms=[{name: mosaic, p: 1.0}]",
    "data.workers=1",
    "model.detector={name: dense, loss_normalizer: positives_per_image}",
]
FEW = [
    "data.train={name: digits, count: 11, size: [64, 32], min_objects: 0, max_objects: 1, min_side: 10, "
    "max_side: 20}",
    "model.class_loss={name: seldom}",
    "model.detector={name: dense, loss_normalizer: quality, box_weight: score}",
]
"""Shares without an object, for which a parameter of the loss is not used."""
EQUAL = {"augmented": AUGMENTED, "mosaic": MOSAIC, "few": FEW}


@densedet.register("class_loss", "seldom")
class SeldomLoss(FocalLoss):
    """Focal loss with a factor that is learned, of images with objects."""

    def __init__(self, *, num_classes: int) -> None:
        super().__init__(num_classes=num_classes)
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        loss = super().forward(logits, labels, quality)
        objects = ((labels >= 0) & (labels < self.num_classes)).any(dim=1, keepdim=True)  # (B,1)
        return torch.where(objects, loss * self.factor, loss) if bool(objects.any()) else loss


class Trouble:
    """A hook that makes trouble after step 2 on the last process."""

    all_ranks = True

    def __init__(self, kind: str) -> None:
        self.kind = kind

    @densedet.hookimpl
    def densedet_run_step(self, run: Run, step: dict[str, Any]) -> None:
        if run.rank != run.world - 1 or run.step != 2:
            return
        if self.kind == "stop":
            run.stop("enough")
        if self.kind == "nan":
            next(run.detector.parameters()).data.fill_(torch.nan)
        if self.kind == "error":
            distributed.destroy_process_group()  # as the end of the process would
            raise DataError("image 7 cannot be read")


def train(folder: Path, *changes: str, hooks: tuple[Any, ...] = ()) -> Run:
    recipe = api.load_recipe("quickstart_ssd", [*SMALL, *changes, f"run.folder={json.dumps(str(folder))}"])
    return session.train(recipe, hooks=hooks)


def numbers(run: Run) -> dict[str, Any]:
    """What a run has learned, printed and counted."""
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    evaluated = [line["metrics"] for line in lines if line["event"] == "evaluation"]
    return {
        "weights": run.detector.state_dict(),
        "average": run.eval_detector.state_dict(),
        "loss": [line["loss"] for line in steps],
        "grad_norm": [line["grad_norm"] for line in steps],
        "images": [line["images"] for line in steps],
        "val_loss": [list(metrics["losses"].values()) for metrics in evaluated],
        "AP": [metrics["AP"] for metrics in evaluated],
        "dropped": json.loads((run.folder / "summary.json").read_text())["lost_boxes"],
    }


def equal_runs(folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """What runs of these names come to."""
    found: dict[str, Any] = {}
    for name in names:
        found[name] = numbers(train(folder / name, *GROUP, *EQUAL[name]))
        assert [path.name for path in (folder / name / "quickstart_ssd").iterdir()] == ["1"]
    return found


def batch_norm(folder: Path) -> None:
    """Each process has the statistics of its own images, yet all hold and evaluate the same ones; and one
    process has no image to evaluate."""
    run = train(folder, "data.train.count=6", "data.val.count=1", "train.budget.steps=2")
    weights = {
        **run.detector.state_dict(),
        **{f"ema.{k}": v for k, v in run.eval_detector.state_dict().items()},
    }
    assert run.metrics["images"] == 1
    first = gather_objects((weights, run.metrics, run.best))[0]
    assert all(torch.equal(value, first[0][name]) for name, value in weights.items())
    assert (run.metrics, run.best) == first[1:]


def troubles(folder: Path) -> None:
    """The last process stops, breaks its weights, fails: all end, and know why."""
    rank, count = world()
    stopped = train(folder / "stop", hooks=(Trouble("stop"),))
    assert (stopped.step, stopped.stop_reason) == (2, "enough")
    with pytest.raises(TrainingError, match="not finite") as refused:
        train(folder / "nan", hooks=(Trouble("nan"),))
    assert set(gather_objects(str(refused.value))) == {str(refused.value)}
    failed = DataError if rank == count - 1 else PeerError
    with pytest.raises(failed) as ended:
        train(folder / "error", hooks=(Trouble("error"),))
    assert (rank == count - 1) == ("another process" not in str(ended.value))
    if rank == 0:
        summary = json.loads((folder / "error/quickstart_ssd/1/summary.json").read_text())
        assert summary["status"] == "failed"


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    for count, names in ((3, ("augmented",)), (2, tuple(EQUAL)), (1, tuple(EQUAL))):
        if rank >= count:
            return
        place = Path(folder, str(count))
        with process_group(f"{place}.store", rank, count):
            found = equal_runs(place, names)
            if rank == 0:
                torch.save(found, f"{place}.pt")
            if count == 2:
                batch_norm(place / "batch")
                troubles(place)


@contextmanager
def process_group(store: str, rank: int, count: int) -> Iterator[None]:
    """A group of ``count`` processes; what is inside may fail on one of them, and the others then notice."""
    if count == 1:
        yield
        return
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
    try:
        yield
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """{number of processes: what its runs came to}."""
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.get_context("forkserver").set_forkserver_preload([session.__name__, api.__name__])
    multiprocessing.start_processes(work, args=(str(folder),), nprocs=3, start_method="forkserver")
    return {count: torch.load(folder / f"{count}.pt", weights_only=False) for count in (1, 2, 3)}


@pytest.mark.parametrize(("name", "count"), [("augmented", 3), *((name, 2) for name in EQUAL)])
def test_processes_train_as_one_does(results: dict[int, dict[str, Any]], name: str, count: int) -> None:
    one, many = results[1][name], results[count][name]
    for kind in ("weights", "average"):
        for key, value in one[kind].items():
            torch.testing.assert_close(many[kind][key], value, atol=1e-5, rtol=0, msg=f"{kind} {key}")
    for kind in ("loss", "grad_norm", "val_loss", "AP"):
        torch.testing.assert_close(many[kind], one[kind], atol=1e-5, rtol=1e-5)
    assert many["images"] == one["images"]
    assert many["dropped"] == one["dropped"]
