"""The black box of a run: all that a step was computed from that was not finite, in one file that
`densedet check nan` replays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from densedet.core import assembly, sealed_file
from densedet.core.distributed import alone
from densedet.core.errors import CheckpointError, DensedetError, sentence
from densedet.core.state_dict import misfit, weights_follow
from densedet.core.text import counted
from densedet.core.training import checkpoint
from densedet.core.training.checkpoint_fields import AnyTensor, Count, Number, Plain, Weights
from densedet.core.training.first_fault import Fault, Search, Step, search
from densedet.core.training.parameter_groups import freeze, grouped
from densedet.core.training.precision import DTYPES, resolve_device
from densedet.core.training.random_states import put_states, seed_draws, seeded, states_of
from densedet.core.training.run import Run
from densedet.core.training.step_numbers import NotFiniteError
from densedet.core.types import Batch, Extra

FORMAT = 1
HUGE = 1e4
"""Magnitude of a weight, or growth of a loss, that a sentence about the learning rate points at."""


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Told(_Fields):
    """A `densedet.core.training.first_fault.Fault` as plain values."""

    what: str
    place: str
    value: Literal["nan", "inf"]
    batch: int
    images: list[int | str]
    largest: Number | None
    sound_input: bool


class Bundle(_Fields):
    """The table of a bundle."""

    black_box: Literal[1] = Field(description="version of this table")
    densedet: str = Field(description="version that wrote it")
    recipe: str = Field(description="the resolved recipe, YAML text")
    recipe_name: str = Field(description="its name")
    classes: list[str] = Field(min_length=1, description="class names in label order")
    phase: Literal["training", "evaluation"] = Field(description="what was not finite")
    step: Count = Field(description="optimizer steps done before it")
    progress: Number = Field(description="share of the budget that was used, 0..1")
    error: str = Field(description="the sentence that ended the run")
    faults: list[Told] = Field(description="what was found, in the order of the step")
    losses: list[dict[str, Number]] = Field(description="of each batch, by name")
    batches: list[dict[str, Plain]] = Field(description="fields of each `densedet.core.types.Batch`")
    targets: list[dict[str, AnyTensor]] = Field(
        description="matched_idxs, labels, quality of each batch's anchors; empty where they cannot be made"
    )
    history: list[dict[str, Plain]] = Field(description="numbers of the last steps before it")
    random: dict[str, Plain] = Field(description="states of the global generators at its start")
    precision: Literal["float32", "bf16", "float16"] = Field(description="that it was computed in")
    scale: Number = Field(description="float16's factor on the loss, else 1")
    finite_in_float32: bool | None = Field(
        description="whether the same step is finite in float32; None: it was computed so"
    )
    state: Weights = Field(description="weights and buffers before it, those that checkpoints lack included")


def left(run: Run, error: BaseException) -> NotFiniteError | None:
    """Write the bundle of a refused step or evaluation into the run folder.

    Each process of a torchrun writes its own, where its share is at fault; rank 0 always does.

    Args:
        run: it stands before the step.
        error: what ended it.

    Returns:
        The same error with the place of the fault and of the file, or with the reason why there is no file;
        None for other errors.
    """
    if not isinstance(error, NotFiniteError):
        return None
    phase = "training" if error.batches else "evaluation"
    name = f"nan_{'step' if error.batches else 'evaluation'}_{run.step + bool(error.batches)}"
    path = run.folder / (f"{name}.pt" if run.is_main else f"{name}_rank{run.rank}.pt")
    told = ""
    try:
        with alone():
            bundle = recorded(run, error, phase)
            if bundle["faults"] or run.is_main:
                sealed_file.write(path, bundle)
            if bundle["faults"]:
                told = f" First: {in_words(bundle)}."
    except Exception as other:  # the run's own error is the one to tell
        return NotFiniteError(f"{error}. No black box was written: {sentence(other)}", error.batches)
    if run.world > 1:  # all processes end with the same sentence
        told, path = "", run.folder / f"{name}*.pt"
    return NotFiniteError(f"{error}.{told} Replay it with: densedet check nan {path}", error.batches)


def recorded(run: Run, error: NotFiniteError, phase: str) -> dict[str, Any]:
    """Compute a refused step once more, and return its bundle."""
    from densedet import __version__

    training = phase == "training"
    detector: Any = run.detector if training else run.eval_detector
    batches = tuple(batch.to(run.device) for batch in error.batches) or _evaluated(run, detector)
    run.hand_on_progress(detector)
    step = Step(
        tuple(replace(batch, targets=None) for batch in batches),
        training=training,
        dtype=run.dtype if training else None,
        channels_last=run.settings.channels_last and training,
        scale=run.scaler.get_scale() if training and run.scaler.is_enabled() else 1.0,
        passed_over=_passed_over(detector, run.optimizer.param_groups, run.progress),
    )
    seed_draws(run.device, run.settings.seed, "step" if training else "evaluation", run.step, run.rank)
    random = states_of(run.device)
    state = {name: value.detach().clone() for name, value in _state(detector).items()}
    found = search(detector, step)
    finite = None
    if step.dtype is not None:
        put_states(random, run.device)
        finite = not search(detector, replace(step, dtype=None, scale=1.0)).faults
    return {
        "black_box": FORMAT,
        "densedet": __version__,
        "recipe": run.recipe.to_yaml(),
        "recipe_name": run.recipe.name,
        "classes": list(run.classes),
        "phase": phase,
        "step": run.step,
        "progress": run.progress,
        "error": str(error),
        "faults": [_told(fault) for fault in found.faults],
        "losses": found.losses,
        "batches": [_plain(batch) for batch in batches],
        "targets": [_targets(detector, batch) for batch in step.batches],
        "history": [_row(number, report) for number, report in run.history if number <= run.step],
        "random": random,
        "precision": (run.chosen_precision or "float32") if training else "float32",
        "scale": step.scale,
        "finite_in_float32": finite,
        "state": {name: value.cpu() for name, value in state.items()},
    }


def _evaluated(run: Run, detector: Any) -> tuple[Batch, ...]:
    """Return the first batch of the validation set whose losses are not finite.

    Raises:
        DensedetError: there is none.
    """
    assert run.val_set is not None
    training = detector.training
    detector.eval()
    try:
        with torch.no_grad():
            for batch in assembly.make_eval_loader(run.recipe, run.val_set):
                batch = batch.to(run.device)
                if len(batch) and not all(bool(v.isfinite().all()) for v in detector.losses(batch).values()):
                    return (batch,)
    finally:
        detector.train(training)
    raise DensedetError("no batch of the validation set gives the fault by itself")


def _state(detector: nn.Module) -> dict[str, Tensor]:
    return {**dict(detector.named_parameters()), **dict(detector.named_buffers())}


def _passed_over(detector: nn.Module, groups: Sequence[dict[str, Any]], progress: float) -> frozenset[str]:
    later = {id(p) for group in groups if progress < group.get("start", 0.0) for p in group["params"]}
    return frozenset(name for name, p in detector.named_parameters() if id(p) in later)


def _targets(detector: Any, batch: Batch) -> dict[str, Tensor]:
    """Return the training targets of a batch's anchors, in eval mode; empty where the detector cannot tell
    them."""
    training = detector.training
    detector.eval()
    try:
        made = detector.explain(batch).targets
        columns = {name: getattr(made, name) for name in ("matched_idxs", "labels", "quality")}
        return {name: value.cpu() for name, value in columns.items() if value is not None}
    except Exception:  # a matcher may fail on such numbers, and a detector need not explain
        return {}
    finally:
        detector.train(training)


def _row(step: int, report: dict[str, Any]) -> dict[str, Any]:
    names = ("losses", "loss", "learning_rate", "grad_norm")
    return {"step": step, **{name: report[name] for name in names}}


def _told(fault: Fault) -> dict[str, Any]:
    return {**asdict(fault), "images": list(fault.images)}


def _plain(batch: Batch) -> dict[str, Any]:
    """Return the fields of a batch as tensors on the CPU and plain values; the ones that are made anew, as
    the targets, are left out."""
    values = {f.name: getattr(batch.to("cpu"), f.name) for f in fields(batch)}
    for name in ("rows", "targets", "host_hw"):
        del values[name]
    values["images"] = values["images"].contiguous()
    values["extras"] = {
        name: {"shape": list(extra.shape), "kind": extra.kind, "pairs": [list(pair) for pair in extra.pairs]}
        for name, extra in batch.extras.items()
    }
    return values


def _batch(values: dict[str, Any]) -> Batch:
    extras = {
        name: Extra(tuple(row["shape"]), row["kind"], tuple(tuple(pair) for pair in row["pairs"]))
        for name, row in values["extras"].items()
    }
    return Batch(**{**values, "extras": extras})


def load(path: Path) -> dict[str, Any]:
    """Read a bundle onto the CPU.

    Raises:
        CheckpointError: it is missing, damaged, or no bundle.
    """
    if not os.path.isfile(path):
        what = "a folder" if os.path.isdir(path) else "no file"
        raise CheckpointError(
            f"{path} is {what}: give a bundle such as runs/quickstart_ssd/1/nan_step_7.pt, which a run "
            f"leaves whose loss or gradient is not finite"
        )
    try:
        values = sealed_file.read(path)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} is no readable bundle: {error}") from error
    if not isinstance(values, dict) or "black_box" not in values:
        known = isinstance(values, dict) and "detector" in values
        what = "a checkpoint, not the bundle of a refused step" if known else "no bundle of a refused step"
        raise CheckpointError(f"{path} is {what}: give a file such as nan_step_7.pt of a run folder")
    if values["black_box"] != FORMAT:
        raise CheckpointError(
            f"{path} has format {values['black_box']!r:.40}, this densedet reads {FORMAT}: use the version "
            f"that wrote it"
        )
    try:
        Bundle.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"][:4]))[:80] or "its fields"
        raise CheckpointError(
            f"{path} is not a bundle that densedet has written: {place}: {first['msg']}"
        ) from error
    return values


def replay(bundle: dict[str, Any], *, plugins: Sequence[str] = (), device: str = "cpu") -> Search:
    """Compute a bundle's step again.

    Args:
        bundle: from `load`.
        plugins: files with the parts that its recipe needs; those that it names are not imported by
            themselves.
        device: where to compute.

    Raises:
        RecipeError: a part is unknown.
        CheckpointError: the bundle does not fit its own recipe.
    """
    recipe = checkpoint.recipe_of(bundle, tuple(plugins), for_training=False)
    place = resolve_device(device)
    with seeded(0), weights_follow():
        detector: Any = assembly.build_detector(recipe, len(bundle["classes"]))
    training = bundle["phase"] == "training"
    freeze(detector, recipe)
    own = _state(detector)
    problem = misfit(own, bundle["state"], reader="detector", may_lack=())
    if problem:
        raise CheckpointError(f"the weights in this bundle do not fit its recipe: {problem}")
    for name, value in own.items():
        value.data = bundle["state"][name]  # as it lay in memory, on which the last digits depend
    detector.to(place)
    if hasattr(detector, "progress"):
        detector.progress = bundle["progress"]
    try:
        batches = tuple(_batch(values).to(place) for values in bundle["batches"])
        step = Step(
            batches,
            training=training,
            dtype=DTYPES[bundle["precision"]],
            channels_last=recipe.train.channels_last and training,
            scale=bundle["scale"],
            passed_over=_passed_over(detector, grouped(detector, recipe), bundle["progress"]),
        )
        with seeded(0):
            put_states(bundle["random"], place)
            return search(detector, step)
    except DensedetError:
        raise
    except Exception as error:
        raise CheckpointError(f"this bundle cannot be replayed: {sentence(error)}") from error


def faults_of(bundle: dict[str, Any]) -> list[Fault]:
    """Return the faults that a bundle was written with."""
    return [Fault(**{**row, "images": tuple(row["images"])}) for row in bundle["faults"]]


def in_words(bundle: dict[str, Any]) -> str:
    """Explain a bundle in a sentence or two: what is not finite first, the layer that shows it, and what
    most likely caused it."""
    faults = faults_of(bundle)
    if not faults:
        return (
            "the step is finite when it is computed again: what spoilt it is neither in the batch nor in the "
            "weights, as a hook that was added while the run went on, or the memory of the device."
        )
    first, layer = faults[0], Search(faults).layer
    told = _place(first)
    if layer is not None and layer is not first:
        told += f"; of all layers it shows first in this: the {_of_layer(layer)}"
    return f"{told}. {_cause(bundle, first)}"


def _place(fault: Fault) -> str:
    ids = _listed(fault.images)
    large = "" if fault.largest is None else f"{fault.largest:.3g}"
    if fault.what == "images":
        return f"the pixels of image id {ids} are not finite ({fault.value})"
    if fault.what == "box":
        return f"{fault.place} of image id {ids} is not finite ({fault.value})"
    if fault.what == "extra":
        return f"extra {fault.place!r} of an object of image id {ids} is not finite ({fault.value})"
    if fault.what in ("weight", "buffer"):
        return f"the {fault.what} {fault.place} is not finite ({fault.value})"
    if fault.what == "loss":
        return f"the loss {fault.place!r} is not finite ({fault.value}), though the output of each layer is"
    if fault.what == "norm":
        return f"each gradient is finite, their norm is not: {fault.place} has one of {large}"
    return f"the {_of_layer(fault)}"


def _of_layer(fault: Fault) -> str:
    where = f" (image id {_listed(fault.images)})" if fault.images else ""
    most = "" if fault.largest is None else f", at most {fault.largest:.3g}"
    if fault.what == "output":
        given = "its input is finite" if fault.sound_input else "its input is not finite either"
        return f"output of {fault.place} is not finite ({fault.value}){where}; {given}{most}"
    if fault.what == "statistics":
        return f"buffer {fault.place}, which the step has moved, is not finite ({fault.value})"
    of = "gradient of" if fault.what == "gradient" else "gradient of the output of"
    return f"{of} {fault.place} is not finite ({fault.value}){where}"


def _cause(bundle: dict[str, Any], fault: Fault) -> str:
    """Return what most likely caused a fault, and what to do."""
    if fault.what == "images":
        return "Look at these images and at data.transforms and data.batch_transforms"
    if fault.what in ("box", "extra"):
        return "Look at this annotation and at data.transforms and data.batch_transforms, which move it"
    if bundle["finite_in_float32"]:
        return f"It is finite in float32, not in {bundle['precision']}: try train.precision=float32"
    rates = _rates(bundle)
    if fault.what in ("weight", "buffer"):
        wrong = sum(row["what"] == fault.what for row in bundle["faults"])
        more = f", as are {wrong - 1} more" if wrong > 1 else ""
        return f"It was so before this step{more}; {rates}"
    sizes = [v.abs().max() for v in bundle["state"].values() if v.is_floating_point() and v.numel()]
    largest = max(map(float, sizes), default=0.0)
    if largest > HUGE:
        return f"The largest weight or buffer is {largest:.3g}; {rates}"
    if fault.what == "norm" or (fault.largest or 0) > HUGE:
        return f"Numbers have become too large; {rates}"
    if fault.what == "output" and not fault.sound_input:
        return f"Its input is computed outside of any layer: look at the coder and the matcher; {rates}"
    if fault.what.startswith("gradient"):
        return f"All outputs are finite: look for a root or a division at 0 behind it; {rates}"
    return f"Look there for a division by 0, or the root or logarithm of 0 or less; {rates}"


def _rates(bundle: dict[str, Any]) -> str:
    rows = bundle["history"]
    if not rows:
        return "it is the first step that this process took"
    first, last = rows[0], rows[-1]
    return (
        f"step {last['step']} was taken with the learning rate {last['learning_rate']:g}; over the last "
        f"{counted(len(rows), 'step')} the loss went from {first['loss']:.3g} to {last['loss']:.3g}"
    )


def _listed(images: Sequence[int | str]) -> str:
    more = f" and {len(images) - 5} more" if len(images) > 5 else ""
    return ", ".join(map(str, images[:5])) + more
