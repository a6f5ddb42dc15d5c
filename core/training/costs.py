"""What finished runs cost: training and predicting images, measured in turns in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from densedet.core import assembly
from densedet.core.distributed import synchronize
from densedet.core.repeats import alike
from densedet.core.training import checkpoint
from densedet.core.training.energy import EnergyMeter
from densedet.core.training.engine import optimizer_step
from densedet.core.training.prediction import load
from densedet.core.training.random_states import seeded
from densedet.core.training.run import Run

Rounds = dict[str, list[float]]
"""Of one run, {key: a number for each round}: "images_per_second" (training), "predict_images_per_second",
and where the system tells it "train_joules" and "predict_joules" an image."""

PASSES = 5
"""Times that all rounds are measured at most, where they differ."""

ACTS = {"train": "images_per_second", "predict": "predict_images_per_second"}


def measure_in_turns(
    folders: Sequence[Path],
    *,
    rounds: int = 5,
    seconds: float = 0.5,
    plugins: Sequence[Sequence[str]] = (),
    meter: EnergyMeter | None = None,
    on_round: Callable[[int], object] | None = None,
) -> list[Rounds]:
    """Measure finished runs in turns: in each round each of them once, so that a machine that slows down for
    a while does so for all. Where rounds differ by more than a tenth, all of them are measured again, up to
    five times, and a round's number is the median of its measurements.

    Training is a step on one batch of its images, at a learning rate of 0; prediction is network, decoding
    and NMS on the first validation batch, in float32. The images are in memory already. Peak memory is not
    measured here: in one process it cannot be told apart.

    Args:
        folders: run folders with a last.pt.
        rounds: how often each is measured; one more round before them is not counted.
        seconds: least duration of a measurement.
        plugins: plug-in files that the recipe of each needs; empty: none does.
        meter: of energy; None: that of this machine.
        on_round: called after each round with its number, from 0.

    Raises:
        DensedetError: a checkpoint, its recipe or its images cannot be used.
    """
    with seeded(0):
        acts = [_acts_of(folder, own) for folder, own in zip(folders, plugins or [()] * len(folders))]
        devices = [device for _, device in acts]
        meter = meter or EnergyMeter(next((d for d in devices if d.type != "cpu"), None))
        passes: list[list[Rounds]] = []
        found: list[Rounds] = []
        while len(passes) < PASSES and not (found and all(map(_settled, found))):
            passes.append([{} for _ in folders])
            for number in range(0 if passes[1:] else -1, rounds):
                for (of_run, device), told in zip(acts, passes[-1]):
                    for name, (act, images) in of_run.items():
                        speed, joules = _measure(act, images, device, seconds, meter)
                        if number >= 0:
                            told.setdefault(ACTS[name], []).append(speed)
                            if joules is not None:
                                told.setdefault(f"{name}_joules", []).append(joules)
                if on_round is not None:
                    on_round(number + 1)
            found = [_medians(several) for several in zip(*passes)]
    return found


def _settled(told: Rounds) -> bool:
    """Whether the rounds of both speeds agree, or there are none to compare."""
    return all(len(told[key]) == 1 or alike(told[key]) for key in ACTS.values())


def _medians(passes: Sequence[Rounds]) -> Rounds:
    """Return the median of each round over the passes."""
    return {key: [statistics.median(own) for own in zip(*(one[key] for one in passes))] for key in passes[0]}


def _acts_of(
    folder: Path, plugins: Sequence[str]
) -> tuple[dict[str, tuple[Callable[[], Any], int]], torch.device]:
    """What is measured of a run, by name: a call, and the images that it takes; and the run's device."""
    state = checkpoint.load(folder / "last.pt")
    recipe = checkpoint.recipe_of(state, tuple(plugins))
    run = Run(recipe.with_overrides(["run.hooks=[]", "data.workers=0", "model.weights=null"]))
    checkpoint.load_weights(run.detector, state["detector"])
    run.use_precision(state["precision"] or run.chosen_precision or "float32")
    run.detector.train()
    run.base_lrs = [0.0 for _ in run.base_lrs]  # the weights stay, however often they are trained
    run.step = 1  # the first step's warnings were given when the run was trained
    batch = next(run.batches())[0]
    detector = load(folder / "last.pt", device=str(run.device), plugins=plugins).detector
    held = batch
    if run.val_set is not None:
        held = next(iter(assembly.make_eval_loader(run.recipe, run.val_set)))
    held = held.to(run.device)

    def predict() -> None:
        with torch.no_grad():
            detector.predict(held)  # type: ignore[operator]

    acts: dict[str, tuple[Callable[[], Any], int]] = {
        "train": (lambda: optimizer_step(run, (batch,)), len(batch)),
        "predict": (predict, len(held)),
    }
    return acts, run.device


def _measure(
    act: Callable[[], Any], images: int, device: torch.device, seconds: float, meter: EnergyMeter
) -> tuple[float, float | None]:
    """Repeat a call for a time. Returns images per second, and joules an image where they are told."""
    count, before, begin = 0, meter.read(), time.perf_counter()
    while count < 2 or time.perf_counter() - begin < seconds:
        act()
        synchronize(device)
        count += 1
    taken = time.perf_counter() - begin
    joules = meter.between(before, meter.read())
    return count * images / taken, None if joules is None else joules / (count * images)
