"""Evaluators, weight maps and hooks that keep their contract or break it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from densedet.core import boxes as box_ops
from densedet.core.conformance import ConformanceError, check_part
from densedet.core.hookspecs import hookimpl
from densedet.core.name_rules import NameRules

BROKEN: list[Any] = []
LEGAL: list[Any] = []


def broken(kind: str, sentence: str) -> Any:
    def add(factory: Any) -> Any:
        BROKEN.append(pytest.param(kind, factory, sentence, id=f"{kind}-{factory.__name__}"))
        return factory

    return add


def legal(kind: str) -> Any:
    def add(factory: Any) -> Any:
        LEGAL.append(pytest.param(kind, factory, id=f"{kind}-{factory.__name__}"))
        return factory

    return add


class F1:
    """Share of objects and detections that meet at an IoU of .5; in pieces that the classes below break."""

    name = "F1"

    def __init__(self, *, source: Any, classes: tuple[str, ...]) -> None:
        self.source, self.rows = source, {}  # type: ignore[var-annotated]

    def hits(self, index: int, found: Any) -> tuple[int, int, int]:
        truth = self.source.annotation(index)
        overlap = (
            box_ops.pairwise_iou(truth.boxes, found.boxes) if len(found) else torch.zeros(len(truth.boxes), 0)
        )
        met = (overlap > 0.5) & (truth.labels.unsqueeze(1) == found.labels)
        counted = ~truth.ignore
        free = ~(overlap[truth.ignore] > 0.5).any(0)
        return int(met[counted].any(1).sum()), int(counted.sum()), int(free.sum())

    def add(self, index: int, detections: Any) -> None:
        self.rows[index] = self.hits(index, detections)

    def state(self) -> Any:
        return self.rows

    def merge(self, states: list[Any]) -> None:
        for state in states:
            self.rows.update(state)

    def value(self, met: int, objects: int, found: int) -> float:
        return 2 * met / max(objects + found, 1)

    def result(self) -> dict[str, Any]:
        sums = [sum(row[i] for row in self.rows.values()) for i in range(3)]
        return {self.name: self.value(*sums)}


@legal("evaluator")
class Plain(F1):
    pass


@legal("evaluator")
class Resampled(F1):
    """Also for any weight per image."""

    def resampled(self, weights: Any) -> Any:
        sums = weights @ np.array([self.rows[index] for index in sorted(self.rows)])
        return {self.name: np.array([self.value(*row) for row in sums])}


@broken("evaluator", "a column stands for an image, in the order of their indices")
class ColumnsAsAdded(Resampled):
    def resampled(self, weights: Any) -> Any:
        sums = weights @ np.array(list(self.rows.values()))
        return {self.name: np.array([self.value(*row) for row in sums])}


@broken("evaluator", "one number for each row")
class OneNumber(Resampled):
    def resampled(self, weights: Any) -> Any:
        return {name: values.mean() for name, values in super().resampled(weights).items()}


@broken("evaluator", "no 'F1', only val/F1: it gives what result")
class OtherNames(Resampled):
    def resampled(self, weights: Any) -> Any:
        return {f"val/{name}": values for name, values in super().resampled(weights).items()}


@broken("evaluator", "weights of 0 for the last two images")
class HeedlessOfWeights(Resampled):
    def resampled(self, weights: Any) -> Any:
        return super().resampled(weights * 0 + 1)


@legal("evaluator")
class MissRate(F1):
    """A smaller number is better."""

    name = "miss_rate"

    def value(self, met: int, objects: int, found: int) -> float:
        return 1 - met / max(objects, 1)


@legal("evaluator")
class Proposals(F1):
    """Recall, whatever the class."""

    name = "recall"

    def hits(self, index: int, found: Any) -> tuple[int, int, int]:
        truth = self.source.annotation(index)
        boxes = truth.boxes[~truth.ignore]
        overlap = box_ops.pairwise_iou(boxes, found.boxes) if len(found) else torch.zeros(len(boxes), 1)
        return int((overlap > 0.5).any(1).sum()), len(boxes), 0

    def value(self, met: int, objects: int, found: int) -> float:
        return met / max(objects, 1)


@broken("evaluator", "a larger number is better")
class Reversed(F1):
    """1 - AP."""

    name = "AP"

    def value(self, met: int, objects: int, found: int) -> float:
        return 1 - super().value(met, objects, found)


@broken("evaluator", "both for the truth")
class CornerAndSize(F1):
    """Takes xyxy for x, y, w, h."""

    def hits(self, index: int, found: Any) -> tuple[int, int, int]:
        found = type(found)(found.boxes + 500, found.scores, found.labels, found.anchors)
        return super().hits(index, found)


@broken("evaluator", "better for wrong labels|both for the truth")
class LabelsFromOne(F1):
    """Labels off by one."""

    def hits(self, index: int, found: Any) -> tuple[int, int, int]:
        labels = (found.labels - 1) % 3
        return super().hits(index, type(found)(found.boxes, found.scores, labels, found.anchors))


@broken("evaluator", "on a crowd")
class CountsCrowds(F1):
    """Detections on crowds hurt."""

    def hits(self, index: int, found: Any) -> tuple[int, int, int]:
        met, objects, _ = super().hits(index, found)
        return met, objects, len(found)


@broken("evaluator", "merged")
class CountsTwice(F1):
    """Adds up states, its own among them."""

    def state(self) -> Any:
        return [sum(row[i] for row in self.rows.values()) for i in range(3)]

    def merge(self, states: list[Any]) -> None:
        for number, state in enumerate(states):
            self.rows[-1 - number] = (state[0], state[1], 2 * state[2] + 1)


@broken("evaluator", "merged")
class IgnoresOthers(F1):
    """Each process has its own number."""

    def merge(self, states: list[Any]) -> None:
        pass


@broken("evaluator", "several processes")
class NoState(F1):
    """Cannot be merged."""

    def __getattribute__(self, name: str) -> Any:
        if name == "state":
            raise AttributeError(name)
        return super().__getattribute__(name)


@broken("evaluator", "order of the images")
class LastImage(F1):
    """The last image counts most."""

    def result(self) -> dict[str, Any]:
        total, value = 0.0, super().result()["F1"]
        for place, row in enumerate(self.rows.values()):
            total += place * row[0]
        return {"F1": value + 0.01 * total}


@broken("evaluator", "called twice")
class Consumes(F1):
    """Empties itself."""

    def result(self) -> dict[str, Any]:
        given = super().result()
        self.rows = {}
        return given


@broken("evaluator", "in place")
class ChangesDetections(F1):
    """Rounds the detections that others get."""

    def add(self, index: int, detections: Any) -> None:
        detections.boxes.add_(0.25)
        super().add(index, detections)


@broken("evaluator", "raised")
class NoImages(F1):
    """0/0 without images."""

    def value(self, met: int, objects: int, found: int) -> float:
        return 2 * met / (objects + found)


@broken("evaluator", "holds no number|gives a dict")
class ANumber(F1):
    """A bare number."""

    def result(self) -> Any:
        return super().result()["F1"]


@broken("evaluator", "both for the truth|is nan")
class NotANumber(F1):
    """NaN."""

    def value(self, met: int, objects: int, found: int) -> float:
        return float("nan")


@broken("evaluator", "should be 1")
class HalfAP(F1):
    """Counts every object twice."""

    name = "AP"

    def value(self, met: int, objects: int, found: int) -> float:
        return super().value(met, 2 * objects, found)


THEIRS = ("net.0.weight", "net.0.bias", "net.1.weight", "out.weight")
OURS = ("backbone.0.weight", "backbone.0.bias", "backbone.1.weight", "head.weight")


class Names:
    pairs: tuple[tuple[str, str], ...] = tuple(zip(THEIRS, OURS))

    def __init__(self) -> None:
        pass

    def ours(self, name: str) -> Any:
        return dict(self.pairs).get(name)

    def theirs(self, name: str) -> Any:
        return {o: t for t, o in self.pairs}.get(name)


LEGAL.append(pytest.param("weight_map", Names, id="weight_map-table"))
RULES = [("net.#.*", "backbone.#.*"), ("out.*", "head.*")]
LEGAL.append(pytest.param("weight_map", partial(NameRules, RULES), id="weight_map-rules"))


@legal("weight_map")
class TwoOfTheirs(Names):
    """An older and a newer name of theirs."""

    def ours(self, name: str) -> Any:
        return super().ours(name.replace("old.", "net."))


@broken("weight_map", "not inverse")
class OffByOneBack(Names):
    """The way back counts from 1."""

    def theirs(self, name: str) -> Any:
        given = super().theirs(name)
        return given and given.replace("net.0", "net.1")


@broken("weight_map", "not inverse|are both")
class TwoOfOurs(Names):
    """Two of ours get one of theirs."""

    def theirs(self, name: str) -> Any:
        return "net.0.weight" if name in ("backbone.0.weight", "backbone.1.weight") else super().theirs(name)


@broken("weight_map", "their state dict has this name")
class Forgets(Names):
    """Biases are unknown."""

    def ours(self, name: str) -> Any:
        return None if name.endswith("bias") else super().ours(name)


@broken("weight_map", "raised")
class KeyErrors(Names):
    """Unknown names raise."""

    def ours(self, name: str) -> Any:
        return dict(self.pairs)[name]


@broken("weight_map", "a name or None")
class Pairs(Names):
    """A pair of names."""

    def ours(self, name: str) -> Any:
        return (name, super().ours(name))


@broken("weight_map", "not inverse|their state dict has this name")
class WaysSwapped(Names):
    """ours and theirs mixed up."""

    def ours(self, name: str) -> Any:
        return super().theirs(name)

    def theirs(self, name: str) -> Any:
        return super().ours(name)


@broken("weight_map", "asked again")
class UsedUp(Names):
    """Each name once."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def ours(self, name: str) -> Any:
        known = name not in self.seen
        self.seen.add(name)
        return super().ours(name) if known else None


class Counter:
    def __init__(self) -> None:
        self.steps = 0

    @hookimpl
    def densedet_run_step(self, run: Any, step: dict[str, Any]) -> None:
        self.steps += 1

    @hookimpl
    def densedet_state(self) -> dict[str, Any]:
        return {"steps": self.steps}

    @hookimpl
    def densedet_restore(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


LEGAL.append(pytest.param("hook", Counter, id="hook-counter"))


@legal("hook")
class AsksForMore:
    """Needs the data of a real run."""

    @hookimpl
    def densedet_run_start(self, run: Any) -> None:
        print(len(run.train_set))


@broken("hook", "no hook 'densedet_run_stepped'")
class Misspelt(Counter):
    """A name that nobody calls."""

    @hookimpl
    def densedet_run_stepped(self, run: Any) -> None:
        pass


@broken("hook", "never be called")
class Unmarked:
    """The mark is forgotten."""

    def densedet_run_epoch(self, run: Any, epoch: int) -> None:
        pass


@broken("hook", "never filled in")
class WrongArgument:
    """An argument of another name."""

    @hookimpl
    def densedet_run_evaluated(self, run: Any, results: Any) -> None:
        pass


@broken("hook", "has no hook")
class NoHook:
    """A class without a hook."""

    def on_step(self) -> None:
        pass


@broken("hook", "raised")
class Raises(Counter):
    """A key that a step does not have."""

    @hookimpl
    def densedet_run_step(self, run: Any, step: dict[str, Any]) -> None:
        print(step["accuracy"])


@broken("hook", "changes the step's numbers")
class ChangesStep(Counter):
    """Rounds what other hooks see."""

    @hookimpl
    def densedet_run_step(self, run: Any, step: dict[str, Any]) -> None:
        step["loss"] = round(step["loss"])


@broken("hook", "changes the metrics")
class ChangesMetrics(Counter):
    """Takes a metric away."""

    @hookimpl
    def densedet_run_evaluated(self, metrics: dict[str, Any]) -> None:
        metrics.pop("AP")


@broken("hook", "changes the detector's weights")
class ChangesWeights(Counter):
    """Clips the weights."""

    @hookimpl
    def densedet_run_epoch(self, run: Any) -> None:
        with torch.no_grad():
            for p in run.detector.parameters():
                p.mul_(0.5)


@broken("hook", "global random generator")
class Draws(Counter):
    """Picks images at random."""

    @hookimpl
    def densedet_run_epoch(self) -> None:
        torch.rand(1)


@broken("hook", "no densedet_restore")
class NeverRestores:
    """Saves and never takes back."""

    @hookimpl
    def densedet_state(self) -> dict[str, Any]:
        return {"steps": 1}


@broken("hook", "the state is another")
class RestoresOther(Counter):
    """Takes back something else."""

    @hookimpl
    def densedet_restore(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"] + 1


@broken("hook", "tensors and plain values only")
class SavesItself(Counter):
    """An object that a checkpoint cannot hold."""

    @hookimpl
    def densedet_state(self) -> dict[str, Any]:
        return {"self": self}


@broken("hook", "gives a dict")
class SavesNumber(Counter):
    """A number."""

    @hookimpl
    def densedet_state(self) -> Any:
        return self.steps


@pytest.mark.parametrize(("kind", "factory", "sentence"), BROKEN)
def test_broken(kind: str, factory: Any, sentence: str) -> None:
    arguments = {"names": THEIRS, "ours": OURS} if kind == "weight_map" else {}
    with pytest.raises(ConformanceError, match=sentence):
        check_part(kind, factory, **arguments)


@pytest.mark.parametrize(("kind", "factory"), LEGAL)
def test_legal(kind: str, factory: Any) -> None:
    arguments = {"names": THEIRS, "ours": OURS} if kind == "weight_map" else {}
    check_part(kind, factory, **arguments)
