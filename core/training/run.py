"""One training run: its parts, its progress, its folder, and what must survive a restart."""

from __future__ import annotations

import contextlib
import fnmatch
import platform
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pluggy
import torch
from torch import nn

from densedet.core import assembly, hookspecs
from densedet.core.data.loader import EvalLoader, TrainLoader, collate, train_loader
from densedet.core.distributed import world
from densedet.core.errors import CheckpointError
from densedet.core.recipe.loading import Recipe
from densedet.core.training import checkpoint
from densedet.core.training.ema import ExponentialMovingAverage
from densedet.core.training.evaluation import evaluate_on
from densedet.core.training.memory import used_mb
from densedet.core.training.precision import resolve_device, resolve_precision
from densedet.core.types import Batch

MEMORY_EVERY_SECONDS = 2.0


def new_folder(root: Path, name: str) -> Path:
    """runs/<name>/<n> with the next free n; never an existing folder."""
    parent = root / name
    parent.mkdir(parents=True, exist_ok=True)
    number = max((int(p.name) for p in parent.iterdir() if p.name.isdigit()), default=0)
    while True:
        number += 1
        with contextlib.suppress(FileExistsError):
            (parent / str(number)).mkdir()
            return parent / str(number)


def latest_folder(root: Path, name: str) -> Path:
    """The newest run folder of a recipe. CheckpointError where there is none."""
    numbers = [int(p.name) for p in (root / name).glob("*") if p.name.isdigit()]
    if not numbers:
        raise CheckpointError(f"there is no run of {name!r} under {root} to resume")
    return root / name / str(max(numbers))


class Run:
    """Everything that a run consists of; hooks get it and read (or `stop`) it.

    step: optimizer steps done. epoch, batch: where in the data the next batch is. seconds: spent in the loop,
    evaluation and hooks not counted. progress: share of the budget used, 0..1. metrics: of the last
    evaluation. best: {"AP", "step"}. notes: what the user should know at the start. broken: {position in the
    training source: sentence} of images that could not be read; dropped: objects that augmentation lost.
    """

    def __init__(
        self, recipe: Recipe, *, resume: dict[str, Any] | None = None, folder: Path | None = None
    ) -> None:
        self.import_memory_mb = used_mb()
        self.recipe = recipe
        self.settings = recipe.train
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)
        torch.manual_seed(self.settings.seed)
        random.seed(self.settings.seed)
        torch.use_deterministic_algorithms(self.settings.deterministic)
        self.device = resolve_device(self.settings.device)
        self.rank, self.world = world()
        self._build_data()
        self._build_model(resumed=resume is not None)
        self.step = self.epoch = self.batch = self.stale = 0
        self.seconds = self.peak_memory_mb = self._memory_read = 0.0
        self.metrics: dict[str, Any] = {}
        self.best: dict[str, Any] = {"AP": None, "step": 0}
        self.stop_reason: str | None = None
        self.resumed = resume is not None
        root = Path(recipe.run.folder)
        self.folder = folder or new_folder(root, recipe.name)
        self.hooks = self._hook_manager()
        if resume is not None:
            self.restore(resume)

    # -- building --------------------

    def _build_data(self) -> None:
        data = self.recipe.data
        source, validation = assembly.build_sources(self.recipe)
        self.classes = assembly.class_table(self.recipe, source)
        self.category_ids = assembly.category_ids(self.recipe, self.classes, source)
        work = tuple(
            data.working_size_wh
            or max(data.input_sizes_wh or [data.input_size_wh], key=lambda size: size[0] * size[1])
        )
        transforms = assembly.build_list(self.recipe, "data.transforms", "transform", {})
        self.notes: list[str] = []
        self.broken: dict[int, str] = {}
        self.dropped = 0
        self.train_set = assembly.make_dataset(
            self.recipe, source, self.classes, transforms=transforms, size=work, notes=self.notes
        )
        self.val_set = (
            None
            if validation is None
            else assembly.make_dataset(self.recipe, validation, self.classes, notes=self.notes)
        )
        self._eval_loader: EvalLoader | None = None
        self.loader: TrainLoader = train_loader(
            self.train_set,
            batch_size=self.settings.batch_size // self.world,
            seed=self.settings.seed,
            workers=data.workers,
            pad_to=data.pad_to,
            batch_transforms=assembly.build_list(
                self.recipe, "data.batch_transforms", "batch_transform", {"size_wh": work}
            ),
            sizes=data.input_sizes_wh or ([data.input_size_wh] if data.working_size_wh else []),
            rank=self.rank,
            world=self.world,
        )

    def _build_model(self, *, resumed: bool) -> None:
        detector, loaded = assembly.build_with_weights(self.recipe, len(self.classes), wanted=not resumed)
        if loaded is not None:
            self.notes.append(str(loaded))
        for name, parameter in detector.named_parameters():
            if any(fnmatch.fnmatch(name, pattern) for pattern in self.settings.frozen):
                parameter.requires_grad_(False)
        detector.to(self.device)
        self.detector: nn.Module = detector
        self.model: nn.Module = detector
        if self.world > 1:
            self.model = nn.parallel.DistributedDataParallel(detector)
        self.dtype = resolve_precision(self.settings.precision, self.device, detector)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        self.ema = (
            None
            if self.settings.ema_decay is None
            else ExponentialMovingAverage(detector, self.settings.ema_decay)
        )
        self.optimizer: torch.optim.Optimizer = assembly.build_component(
            self.recipe,
            "train.optimizer",
            "optimizer",
            self.recipe.train.optimizer,
            {"parameters": parameter_groups(detector)},
        )
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.schedule: Callable[[float, int], float] = assembly.build_component(
            self.recipe, "train.schedule", "schedule", self.recipe.train.schedule, {}
        )

    def _hook_manager(self) -> pluggy.PluginManager:
        """The run's hooks, in listed order; off rank 0 only those that ask for all ranks."""
        listed = assembly.build_list(self.recipe, "run.hooks", "hook", {"run": self})
        # Functions of plug-in modules, after the recipe's list and in the order in which the plug-ins were
        # loaded.
        events = ("densedet_run_", "densedet_state", "densedet_restore")
        strangers = [
            p.plugin
            for p in self.recipe.plugins
            if p.status == "loaded" and any(n.startswith(events) for n in p.hooks)
        ]
        return hookspecs.manager_of(
            [h for h in listed + strangers if self.rank == 0 or getattr(h, "all_ranks", False)]
        )

    # -- what hooks ask --------------------

    @property
    def is_main(self) -> bool:
        """Rank 0: the process that writes and shows."""
        return self.rank == 0

    @property
    def eval_detector(self) -> nn.Module:
        """The averaged weights if the recipe asks for them, else the trained ones."""
        return self.detector if self.ema is None else self.ema.model

    @property
    def progress(self) -> float:
        """How much of the budget is used, 0..1."""
        budget = self.settings.budget
        if budget.steps:
            return min(self.step / budget.steps, 1.0)
        if budget.epochs:
            done = self.step * self.settings.accumulate / self.loader.batches_per_epoch
            return min(done / budget.epochs, 1.0)
        return min(self.seconds / (60 * float(budget.minutes or 1)), 1.0)

    @property
    def finished(self) -> bool:
        """Out of budget, or told to stop."""
        return self.progress >= 1 or self.stop_reason is not None

    def stop(self, reason: str) -> None:
        """End the run after this step; ``reason`` goes into summary.json."""
        self.stop_reason = self.stop_reason or reason

    def sample_batch(self, split: str = "val", count: int = 4) -> Batch:
        """The first ``count`` images of "val" (or "train", unaugmented, where there is no validation set),
        always the same."""
        dataset = self.val_set
        if split != "val" or dataset is None:
            dataset = assembly.make_dataset(self.recipe, self.train_set.source, self.classes)
        samples, broken = dataset.samples(0, range(min(count, len(dataset))), replacing=False)
        return collate(samples, pad_to=self.recipe.data.pad_to, broken=broken).to(self.device)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision that the network trains in; it is judged in float32."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    @property
    def precision(self) -> str:
        """What `autocast` trains in, as people write it: "bfloat16"."""
        return str(self.dtype or torch.float32).removeprefix("torch.")

    # -- progress --------------------

    def stream(self) -> Iterator[tuple[Batch, bool]]:
        """Batches without end from where the run stands; True with the last of an epoch."""
        while True:
            count = self.loader.batches_per_epoch
            for batch in self.loader.batches(self.epoch, self.batch):
                self.batch += 1
                self.dropped += batch.dropped
                self.broken.update(batch.broken)
                last = self.batch == count
                if last:
                    self.epoch, self.batch = self.epoch + 1, 0
                yield batch, last

    def note_memory(self) -> None:
        """Sample the memory now and then (reading it takes milliseconds)."""
        if self.seconds - self._memory_read > MEMORY_EVERY_SECONDS or self.step <= 2:
            self._memory_read = self.seconds
            self.peak_memory_mb = max(self.peak_memory_mb, used_mb())

    def evaluate(self, limit: int | None = None) -> dict[str, Any]:
        """Metrics of `eval_detector` on the validation set (on its first ``limit`` images)."""
        if self.val_set is None:
            return {}
        if limit is not None:
            batches = assembly.make_eval_loader(self.recipe, self.val_set, limit)
        else:
            batches = self._eval_loader = self._eval_loader or assembly.make_eval_loader(
                self.recipe, self.val_set
            )
        return evaluate_on(
            self.recipe, self.eval_detector, self.val_set, self.classes, batches, device=self.device
        )

    # -- what survives --------------------

    def state(self, *, with_optimizer: bool = True) -> dict[str, Any]:
        """The checkpoint's dict; its keys are `checkpoint.FIELDS`."""
        from densedet import __version__

        kept: dict[str, Any] = {}
        for part in self.hooks.hook.densedet_state(run=self):
            kept.update(part)
        return {
            "format": checkpoint.FORMAT,
            "densedet": __version__,
            "recipe": self.recipe.to_yaml(),
            "recipe_name": self.recipe.name,
            "classes": list(self.classes),
            "category_ids": list(self.category_ids),
            "step": self.step,
            "epoch": self.epoch,
            "batch": self.batch,
            "seconds": self.seconds,
            "detector": self.detector.state_dict(),
            "ema": None if self.ema is None else self.ema.model.state_dict(),
            "optimizer": self.optimizer.state_dict() if with_optimizer else None,
            "scaler": self.scaler.state_dict(),
            "rng": rng_state(),
            "best": dict(self.best),
            "metrics": self.metrics,
            "stale": self.stale,
            "plugins": kept,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's dict. CheckpointError where it does not fit the recipe."""
        if state["optimizer"] is None:
            raise CheckpointError(
                "this checkpoint holds weights only (best.pt): resume from last.pt or the run folder"
            )
        if tuple(state["classes"]) != self.classes:
            raise CheckpointError(
                f"the checkpoint was trained on {state['classes']}, the recipe's data has "
                f"{list(self.classes)}"
            )
        checkpoint.load_weights(self.detector, state["detector"])
        if self.ema is not None and state["ema"] is not None:
            checkpoint.load_weights(self.ema.model, state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"] or {})
        for name in ("step", "epoch", "batch", "seconds", "metrics", "stale"):
            setattr(self, name, state[name])
        self.best = dict(state["best"])
        restore_rng(state["rng"])
        self.hooks.hook.densedet_restore(run=self, state=state["plugins"])


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: weights (decayed) and biases, norms and scalars (not)."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if (p.ndim > 1) == decay], "decay": decay} for decay in (True, False)
    ]
    return [group for group in groups if group["params"]]


def rng_state() -> dict[str, Any]:
    """Random states as tensors and plain values."""
    version, internal, gauss = random.getstate()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"torch": torch.get_rng_state(), "cuda": cuda, "python": [version, list(internal), gauss]}


def restore_rng(state: dict[str, Any]) -> None:
    """Put `rng_state` back."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torchvision

    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


__all__ = ["Run", "latest_folder", "machine", "new_folder"]
