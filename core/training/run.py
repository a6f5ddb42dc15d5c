"""One training run: its parts, its progress, its folder, and what must survive a restart."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy
import torch
from torch import nn

from densedet.core import assembly, files, hookspecs
from densedet.core.data.facts import box_counts, check_trainable, data_facts, notes_on
from densedet.core.data.fingerprint import fingerprint
from densedet.core.distributed import from_main, spread, world
from densedet.core.errors import CheckpointError, OutputError, TrainingError, UsageError
from densedet.core.recipe.loading import Recipe
from densedet.core.training import checkpoint, optimizer_state
from densedet.core.training.buffers import Buffers
from densedet.core.training.checkpoint_fields import FORMAT
from densedet.core.training.ema import ExponentialMovingAverage
from densedet.core.training.evaluation import evaluate_on
from densedet.core.training.folders import new_folder
from densedet.core.training.memory import forget_peak, gpu_peak_mb, peak_mb, used_mb
from densedet.core.training.parameter_groups import freeze, grouped
from densedet.core.training.precision import DTYPES, autocast, check_precision, resolve_device
from densedet.core.training.random_states import seeded
from densedet.core.training.step_numbers import LAG
from densedet.core.types import Batch

if TYPE_CHECKING:
    from densedet.core.contracts import Schedule
    from densedet.core.data.dataset import DetectionDataset
    from densedet.core.data.loader import BatchLoader
    from densedet.core.recipe.sections import Budget

MEMORY_EVERY_SECONDS = 2.0

HISTORY = 20
"""Steps whose numbers are kept for the black box."""

MOVING = ("seconds", "metrics", "best", "stale", "evaluations", "images_seen", "dropped")
"""What moves on within a step or an evaluation, beside the weights and the sampler."""


class Run:
    """The state of a training run. Hooks get it, read it, and may `stop` it.

    Building a run changes nothing outside of it: no file, no thread count, no random state. `start` does.

    Args:
        recipe: what to train.
        resume: the dict of a checkpoint to continue from.
        folder: where the run writes; None makes the next free folder below ``run.folder`` at the start.
        hooks: hook objects that are called after those of the recipe.

    Attributes:
        step: optimizer steps done.
        seconds: time spent in the loop; evaluation and hooks are not counted.
        detector: the network being trained, which `ema` follows.
        metrics: of the last evaluation.
        best: ``{"value", "step"}`` of the best evaluation by ``evaluate.metric``; value None before the
        first.
        stale: evaluations since the best one.
        evaluations: evaluations done.
        data_facts: {"train" and "val": `densedet.core.data.facts.data_facts`}.
        notes: sentences that the user should see at the start.
        chosen_precision: what ``train.precision`` is or came to, "float32", "bf16" or "float16"; None:
            ``auto`` is still to be measured.
        dtype: of autocast in training; None: there is none.
        measured_ms: {what was measured before the first step: milliseconds of a batch}.
        broken: {position in the training source: sentence} of images that could not be read.
        images_seen: training images of all steps, over all processes, each time that they were taken.
        dropped: objects that augmentation lost.
        report: of the last step, as hooks get it, or None before the first.
        history: (step, what hooks got of it) of the last steps of this process, for the black box.
        lag: steps by which the numbers of a step may come late, see `read_late`. Hooks that want the numbers
            of each step read them when ``lag`` further steps are done.
        refused: 1 from the first step on that the device refused, else 0, float (); None where the host
            decides.
        unread: reads the numbers of each step that were not read yet; see `confirm`.
        buffers: copies of the buffers of the networks that a step moves.
        stop_reason: why the run ends early, or None; the same on all processes of a torchrun.
        stop_wish: why this process wants the run to end early, or None.
        asked: number of a signal that asks this process to stop after its step, or None.
        signal: number of the signal that has stopped the run, in all processes, or None.
        status: "building", "running" from `start` on; at the end "done", "stopped" or "failed".
        resumed: whether it continues from a checkpoint.
        held: what the run holds from `start` on: its folder's lock. Closed by
            `densedet.core.training.session`.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        resume: dict[str, Any] | None = None,
        folder: Path | None = None,
        hooks: Sequence[Any] = (),
    ) -> None:
        self.import_memory_mb = used_mb()
        forget_peak()
        self.recipe, self.settings = recipe, recipe.train
        self.device = resolve_device(self.settings.device)
        self.rank, self.world = world()
        self.notes: list[str] = []
        self.broken: dict[int, str] = {}
        self.measured_ms: dict[str, float] = {}
        self.step = self.stale = self.dropped = self.evaluations = self.images_seen = 0
        self.seconds = self.peak_memory_mb = self._memory_read = 0.0
        self.metrics: dict[str, Any] = {}
        self.best: dict[str, Any] = {"value": None, "step": 0}
        self.report: dict[str, Any] | None = None
        self.history: deque[tuple[int, dict[str, Any]]] = deque(maxlen=HISTORY)
        self._settled: dict[str, Any] | None = None
        self._batches_ahead = 0  # of those that steps account for, where a resume changed the batch size
        self.stop_reason: str | None = None
        self.stop_wish: str | None = None
        self.asked: int | None = None
        self.signal: int | None = None
        self.lag = 0
        self.status = "building"
        self.resumed = resume is not None
        self.held = contextlib.ExitStack()
        self.unread: deque[Callable[[], None]] = deque()
        self._folder = folder
        with seeded(self.settings.seed):
            self._build_data()
            self._build_model()
        self.hooks = self._hook_manager(hooks)
        self._checkpoint = resume
        self._recipe_text = self.recipe.to_yaml()  # once: each checkpoint holds it
        if resume is not None:
            self._restore(resume)

    # -- building --------------------

    def _build_data(self) -> None:
        recipe = self.recipe
        source, validation = assembly.build_sources(recipe)
        self.classes = assembly.class_table(recipe, source)
        self.category_ids = assembly.category_ids(recipe, self.classes, source)
        self.train_set = assembly.make_train_set(recipe, source, self.notes)
        self.val_set = None
        if validation is not None:
            self.val_set = assembly.make_dataset(recipe, validation, self.classes, notes=self.notes)
        self.data_facts = {"train": data_facts(source, self.classes)}
        check_trainable(self.data_facts["train"])
        self.recipe, told = assembly.with_class_weights(recipe, self.classes, box_counts(source))
        self.notes += [told] if told else []
        if validation is not None:
            self.data_facts["val"] = data_facts(validation, self.classes)
        self.notes += notes_on(self.data_facts, source.classes)
        self.sampler = assembly.build_batch_sampler(recipe, self.train_set.source)
        self.sampler.progress_of = self._progress_of
        self.loader = assembly.make_train_loader(
            recipe, self.train_set, self.sampler, device=self.device, notes=self.notes
        )
        self._eval_loaders: dict[tuple[int, int, int | None], BatchLoader] = {}

    def _build_model(self) -> None:
        detector, loaded = assembly.build_with_weights(
            self.recipe, len(self.classes), wanted=not self.resumed
        )
        if loaded is not None:
            self.notes.append(str(loaded))
        if not (self.settings.sync_batch_norm and self.world > 1):
            assembly.check_norms(self.recipe, detector)
        else:
            if self.device.type != "cuda":
                raise self.recipe.error(
                    "train.sync_batch_norm",
                    f"torch synchronises batch norm on GPUs alone, not on {self.device.type}: write "
                    f"train.sync_batch_norm=false, or take group norm, which does not depend on the batch",
                )
            detector = nn.SyncBatchNorm.convert_sync_batchnorm(detector)
        freeze(detector, self.recipe)
        detector.to(self.device)
        self.detector: nn.Module = detector
        self.loader.prepare = getattr(detector, "with_targets", None)
        self.model: nn.Module = detector
        check_precision(self.settings.precision, self.device)
        self.chosen_precision: str | None = None
        self.dtype: torch.dtype | None = None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=False)
        if self.settings.precision != "auto":
            self.use_precision(self.settings.precision)
        decay = self.settings.ema_decay
        self.ema = None if decay is None else ExponentialMovingAverage(detector, decay)
        groups = grouped(detector, self.recipe)
        self.optimizer: torch.optim.Optimizer = assembly.build_component(
            self.recipe, "train.optimizer", "optimizer", self.settings.optimizer, {"parameters": groups}
        )
        self.read_late(LAG if self.device.type == "cuda" and self.world == 1 else 0)
        self.schedule: Schedule = assembly.build_component(
            self.recipe, "train.schedule", "schedule", self.settings.schedule, {}
        )
        self._optimizer_at_start = optimizer_state.values_of(self.optimizer)
        # The learning rate of each group at the top of the schedule.
        self.base_lrs = [group["lr"] * group.get("lr_factor", 1.0) for group in self.optimizer.param_groups]

    def read_late(self, lag: int) -> None:
        """Let steps wait for numbers of ``lag`` steps before alone, where the optimizer can refuse a step by
        itself, as torch's fused ones can; else, and with float16's scaler, read them at once."""
        able = getattr(self.optimizer, "_step_supports_amp_scaling", False) and not self.scaler.is_enabled()
        self.lag = lag if able else 0
        self.refused = torch.zeros((), device=self.device) if self.lag else None
        networks = [self.detector] if self.ema is None or not self.lag else [self.detector, self.ema.model]
        self.buffers = [Buffers(network, steps=self.lag + 1) for network in networks]

    def _hook_manager(self, extra: Sequence[Any]) -> pluggy.PluginManager:
        """The run's hooks: the recipe's list, then those of plug-in modules in the order of loading, then
        ``extra``. Off rank 0 only those take part that ask for all ranks."""
        listed = assembly.build_list(self.recipe, "run.hooks", "hook", {"run": self})
        modules = [
            p.plugin
            for p in self.recipe.plugins
            if p.status == "loaded" and any(name in hookspecs.OF_A_RUN for name in p.hooks)
        ]
        hooks = [*listed, *modules, *extra]
        return hookspecs.manager_of([h for h in hooks if self.rank == 0 or getattr(h, "all_ranks", False)])

    def start(self) -> None:
        """Make the run folder with its recipe, hand the hooks what they kept in a checkpoint, and
        hand the network to the processes of a torchrun. `densedet.core.training.session` seeds this process
        beforehand, and puts threads and random states back at the end."""
        self.status = "running"
        self._folder = from_main(self._taken_folder)
        if self.is_main:
            _ = self.fingerprints  # of the data as they are now, not at the first checkpoint
            files.write_text(self.folder / "recipe.yaml", self._recipe_text)
        if self.world > 1:
            spread(self.detector)
            spread(self.eval_detector)
            self.model = self._distributed()
        if self._checkpoint is not None:
            hookspecs.restore_state(self.hooks, self, self._checkpoint["plugins"])
            self._checkpoint = None

    def _taken_folder(self) -> Path:
        """Lock the run folder; make the next free one where none was given.

        Raises:
            BusyError: another process uses it.
            OutputError: it cannot be made.
            UsageError: it holds another run, which would be overwritten.
        """
        folder = self._folder or new_folder(Path(self.recipe.run.folder), self.recipe.name)
        files.make_folder(folder, "give the run another folder")
        self.held.enter_context(files.locked(folder))
        if not self.resumed and (folder / "last.pt").exists():
            raise UsageError(f"{folder} holds a run already: resume it, or give another folder")
        return folder

    def _distributed(self) -> nn.Module:
        """Return the detector as one whose gradients are averaged over the processes. The engine averages the
        buffers itself. A step may leave parameters unused, on one process alone too."""
        with warnings.catch_warnings():
            # Newer versions of torch call broadcast_buffers otherwise, older ones know no other name.
            warnings.simplefilter("ignore", FutureWarning)
            return nn.parallel.DistributedDataParallel(
                self.detector, broadcast_buffers=False, find_unused_parameters=True
            )

    # -- what hooks ask --------------------

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        if self._folder is None:
            raise RuntimeError("this run has no folder yet: call start() first")
        return self._folder

    def check_folder(self) -> None:
        """Raise OutputError where somebody has deleted the run folder."""
        if not self.folder.is_dir():
            raise OutputError(
                f"{self.folder} has been deleted while the run wrote to it: its results are gone"
            )

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the process that writes and shows."""
        return self.rank == 0

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.sampler.epoch

    @property
    def eval_detector(self) -> nn.Module:
        """The averaged weights if the recipe asks for them, else the trained ones."""
        return self.detector if self.ema is None else self.ema.model

    @property
    def progress(self) -> float:
        """Share of the budget that is used, 0..1."""
        return self._progress_at(self.step)

    def _progress_at(self, step: int) -> float:
        """The progress when ``step`` optimizer steps are done; of a budget in minutes the present one."""
        budget = self.settings.budget
        if budget.steps:
            return min(step / budget.steps, 1.0)
        if budget.epochs:
            # By steps: the sampler moves on before the step that takes its batch.
            batches = step * self.settings.accumulate + self._batches_ahead
            return min(batches / (self.sampler.batches_per_epoch * budget.epochs), 1.0)
        return min(self.seconds / (60 * float(budget.minutes or 1)), 1.0)

    def _progress_of(self, epoch: int, number: int) -> float:
        """The progress when a step takes the batch at this place, from which batches are made ahead."""
        batches = epoch * self.sampler.batches_per_epoch + number - self._batches_ahead
        return self._progress_at(batches // self.settings.accumulate)

    def steps_in(self, budget: Budget) -> int | None:
        """Return the optimizer steps that a budget comes to; None where it is in minutes."""
        if budget.epochs:
            return math.ceil(budget.epochs * self.sampler.batches_per_epoch / self.settings.accumulate)
        return budget.steps

    def _batches_passed(self) -> int:
        """Batches from the first epoch to the sampler's position, at this run's batches an epoch."""
        return self.sampler.epoch * self.sampler.batches_per_epoch + self.sampler.batch

    @functools.cached_property
    def fingerprints(self) -> dict[str, Any]:
        """What the data are, in a few short texts; "train" and "val"."""
        train, val = (None if s is None else fingerprint(s.source) for s in (self.train_set, self.val_set))
        return {"train": train, "val": val}

    @property
    def evaluations_due(self) -> int:
        """Evaluations that the progress so far asks for."""
        return int(self.progress * self.settings.evaluations + 1e-9)

    @property
    def finished(self) -> bool:
        """Whether the budget is used, or somebody asked to stop."""
        return self.progress >= 1 or self.stop_reason is not None

    @property
    def exit_code(self) -> int:
        """0, or 128 + the signal that has stopped the run, as a shell has it."""
        return 0 if self.signal is None or self.status == "done" else 128 + self.signal

    def stop(self, reason: str) -> None:
        """End the run after this step; ``reason`` goes into summary.json. The processes of a torchrun end
        after the same step, whichever of them asks."""
        self.stop_wish = self.stop_wish or reason
        if self.world == 1:
            self.stop_reason = self.stop_wish

    def sample_batch(self, split: str = "val", count: int = 4) -> Batch:
        """Return the first ``count`` images of "val", always the same; of "train", without augmentation,
        where there is no validation set or ``split`` says so."""
        dataset = self.val_set
        if split != "val" or dataset is None:
            dataset = assembly.make_dataset(self.recipe, self.train_set.source, self.classes)
        return assembly.first_batch(self.recipe, dataset, count).to(self.device)

    def use_precision(self, name: str) -> None:
        """Train in the precision of this name, one of ``train.precision`` but "auto"."""
        self.chosen_precision, self.dtype = name, DTYPES[name]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        if self.scaler.is_enabled() and self.lag:
            self.read_late(0)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision that the network trains in. Evaluation runs in float32."""
        return autocast(self.device, self.dtype)

    @property
    def precision(self) -> str:
        """Name of the training precision, e.g. "bfloat16"."""
        return str(self.dtype or torch.float32).removeprefix("torch.")

    # -- progress --------------------

    def batches(self) -> Iterator[tuple[Batch, bool]]:
        """Training batches without end from where the run stands, each with whether it ends an epoch."""
        for batch in self.loader:
            yield batch, self.sampler.advance()

    def end_workers(self, *, at_once: bool = False) -> None:
        """End the processes that load data, ``at_once`` or each after what it does; what needs a batch
        afterwards starts new ones."""
        for loader in (self.loader, *self._eval_loaders.values()):
            loader.close(at_once=at_once)

    def settle(self) -> None:
        """Note where the run stands, after a whole step or evaluation."""
        place = self.sampler.epoch, self.sampler.batch
        self._settled = {"place": place, **{name: getattr(self, name) for name in MOVING}}

    def unsettle(self) -> None:
        """Note that what belongs to a checkpoint is about to change, or that this step shall not be kept."""
        self._settled = None

    def confirm(self, *, keep: int = 0) -> None:
        """Read the numbers of all steps but the last ``keep``.

        Raises:
            TrainingError: one was refused; the run is back before it.
        """
        while len(self.unread) > keep:
            self.unread.popleft()()

    def place(self) -> tuple[int, dict[str, Any] | None]:
        """Return what `rewind` takes to come back here."""
        return self.step, self._settled

    def rewind(self, step: int, settled: dict[str, Any] | None) -> None:
        """Go back to a `place` whose weights are there still: no step has been taken since."""
        self.step, self.report = step, None
        self._settled = settled and {**settled, "dropped": self.dropped}
        self.go_back()

    def go_back(self) -> bool:
        """Go back to the last whole step or evaluation of this process, where the weights are still those of
        it.

        Returns:
            Whether they are.
        """
        with contextlib.suppress(TrainingError):
            self.confirm()
        if self._settled is None:
            return False
        for name in MOVING:
            setattr(self, name, self._settled[name])
        self.sampler.seek(*self._settled["place"])
        return True

    def note_memory(self) -> None:
        """Read the peak of the memory now and then, which takes milliseconds: worker processes that end take
        theirs along."""
        if self.seconds - self._memory_read > MEMORY_EVERY_SECONDS or self.step <= 2:
            self._memory_read = self.seconds
            self.peak_memory_mb = max(self.peak_memory_mb, peak_mb())

    @property
    def gpu_peak_memory_mb(self) -> float | None:
        """The most memory that torch has held on the GPU; None on other devices."""
        return gpu_peak_mb(self.device)

    def evaluate_from_now_on(self, dataset: DetectionDataset | None) -> None:
        """Take another validation set."""
        for loader in self._eval_loaders.values():
            loader.close()
        self.val_set, self._eval_loaders = dataset, {}

    def hand_on_progress(self, detector: Any) -> None:
        """Set ``detector.progress`` for the parts that ask for it, where the detector has one."""
        if hasattr(detector, "progress"):
            detector.progress = self.progress

    def evaluate(self, limit: int | None = None, leave: Callable[[], bool] | None = None) -> dict[str, Any]:
        """Evaluate `eval_detector` on the validation set, or on its first ``limit`` images.

        Args:
            limit: null: all images.
            leave: asked before each batch whether to break off.

        Returns:
            The evaluator's metrics; empty where there is no validation set, or where it was broken off.
        """
        if self.val_set is None:
            return {}
        place = (*world(), limit)  # within a hook, rank 0 may evaluate alone
        if place not in self._eval_loaders:
            self._eval_loaders[place] = assembly.make_eval_loader(self.recipe, self.val_set, limit)
        self.hand_on_progress(self.eval_detector)
        return evaluate_on(
            self.recipe,
            self.eval_detector,
            self.val_set,
            self.classes,
            self._eval_loaders[place],
            device=self.device,
            leave=leave,
        )

    # -- what survives --------------------

    def state(self, *, with_optimizer: bool = True) -> dict[str, Any]:
        """The checkpoint's dict; its keys are those of `densedet.core.training.checkpoint_fields.Fields`.

        Raises:
            TrainingError: a step whose numbers had not been read was refused.
        """
        from densedet import __version__

        self.confirm()
        return {
            "format": FORMAT,
            "densedet": __version__,
            "recipe": self._recipe_text,
            "recipe_name": self.recipe.name,
            "classes": list(self.classes),
            "category_ids": list(self.category_ids),
            "step": self.step,
            "epoch": self.sampler.epoch,
            "images": self.sampler.batch * self.sampler.batch_size,
            "seconds": self.seconds,
            "detector": self.detector.state_dict(),
            "ema": None if self.ema is None else self.ema.model.state_dict(),
            "optimizer": optimizer_state.kept_state(*self._optimizer()) if with_optimizer else None,
            "precision": self.chosen_precision,
            "scaler": self.scaler.state_dict(),
            "best": dict(self.best),
            "metrics": json.loads(json.dumps(self.metrics)),  # an evaluator may give NumPy's numbers
            "stale": self.stale,
            "evaluations": self.evaluations,
            "fingerprints": self.fingerprints,
            "counters": {
                "images_seen": self.images_seen,
                "lost_boxes": self.dropped,
                "broken_images": {str(index): text for index, text in self.broken.items()},
            },
            "plugins": hookspecs.collect_state(self.hooks, self),
            "thresholds": None,
        }

    def _optimizer(self) -> tuple[torch.optim.Optimizer, str, list[dict[str, Any]], nn.Module]:
        """The optimizer, its name in the recipe, its values before the first step, and the detector."""
        return self.optimizer, self.settings.optimizer["name"], self._optimizer_at_start, self.detector

    def _restore(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's dict, all but what hooks kept (see `start`).

        Raises:
            CheckpointError: it does not fit the recipe.
        """
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
        if self.ema is not None:
            checkpoint.load_weights(self.ema.model, state["ema"] or state["detector"])
            if state["ema"] is None:
                self.notes.append("train.ema_decay is new: the average starts at the trained weights")
        elif state["ema"] is not None:
            self.notes.append("train.ema_decay is null: the averaged weights so far are left out")
        self.notes += optimizer_state.restore(state["optimizer"], *self._optimizer())
        chosen = state.get("precision")
        if self.settings.precision == "auto" and chosen is not None:
            check_precision(chosen, self.device)
            self.use_precision(chosen)
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        for name in ("step", "seconds", "metrics", "stale"):
            setattr(self, name, state[name])
        self.sampler.seek(state["epoch"], -(-state["images"] // self.sampler.batch_size))
        self._batches_ahead = self._batches_passed() - self.step * self.settings.accumulate
        self.best = dict(state["best"])
        self.images_seen = state["counters"]["images_seen"]
        self.dropped = state["counters"]["lost_boxes"]
        self.broken = {int(index): text for index, text in state["counters"]["broken_images"].items()}
        self.evaluations = min(state["evaluations"], self.evaluations_due)  # the budget may be another
