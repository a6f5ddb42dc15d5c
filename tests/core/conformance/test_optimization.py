"""Optimizers, schedules and samplers that keep their contract or break it."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from densedet.core.conformance import ConformanceError, check_part

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


Groups = list[dict[str, Any]]


def decayed(parameters: Groups) -> Groups:
    return [{"weight_decay": 0.01 if g["decay"] else 0.0, **g} for g in parameters]


@legal("optimizer")
def rmsprop(*, parameters: Groups, lr: float = 1e-3) -> Any:
    return torch.optim.RMSprop(decayed(parameters), lr=lr)


@legal("optimizer")
def no_decay(*, parameters: Groups) -> Any:
    return torch.optim.Adam(parameters, lr=1e-3)


@broken("optimizer", "parameters, each once")
def first_group(*, parameters: Groups) -> Any:
    """The biases never move."""
    return torch.optim.SGD(decayed(parameters)[:1], lr=0.01)


@broken("optimizer", "keep the wired groups")
def one_group(*, parameters: Groups) -> Any:
    """The groups are lost."""
    return torch.optim.SGD([p for g in parameters for p in g["params"]], lr=0.01)


@broken("optimizer", "weight decay applies only")
def decays_all(*, parameters: Groups) -> Any:
    """Norms and biases decay too."""
    return torch.optim.SGD(parameters, lr=0.01, weight_decay=0.1)


@broken("optimizer", "grows|not finite")
def uphill(*, parameters: Groups) -> Any:
    """The sign is turned."""
    return torch.optim.SGD(parameters, lr=0.01, maximize=True)


@broken("optimizer", "gives a torch.optim.Optimizer")
def a_list(*, parameters: Groups) -> Any:
    """An optimizer per group."""
    return [torch.optim.SGD([g], lr=0.01) for g in parameters]


@broken("optimizer", "lr` above 0")
def no_rate(*, parameters: Groups) -> Any:
    """A learning rate of 0: a schedule's factor cannot raise it."""
    return torch.optim.SGD(parameters, lr=0.0)


class FixedRate(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data.sub_(0.01 * p.grad)


@broken("optimizer", "learning rate of 0")
def own_rate(*, parameters: Groups) -> Any:
    """Does not look at its groups' rates."""
    return FixedRate(parameters, lr=0.01)


class Stateless(torch.optim.SGD):
    """Momentum that no state dict holds."""

    def step(self, closure: Any = None) -> Any:
        self.sums = getattr(self, "sums", {})
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.sums[p] = 0.9 * self.sums.get(p, 0) + p.grad
                    p.data.sub_(group["lr"] * self.sums[p])


@broken("optimizer", "a resumed run would differ")
def forgets(*, parameters: Groups) -> Any:
    """Its momentum is lost with a checkpoint."""
    return Stateless(parameters, lr=0.01)


class Idle(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        pass


@broken("optimizer", "was not stepped")
def idle(*, parameters: Groups) -> Any:
    """Steps nothing."""
    return Idle(parameters, lr=0.01)


@broken("optimizer", "grows|not finite")
def wild(*, parameters: Groups) -> Any:
    """A learning rate of 1000."""
    return torch.optim.SGD(parameters, lr=1000.0)


class Linear:
    def __init__(self) -> None:
        pass

    def __call__(self, progress: float, step: int) -> Any:
        return 1 - progress


@legal("schedule")
class OneCycle(Linear):
    """Peaks above 1."""

    def __call__(self, progress: float, step: int) -> Any:
        return 0.1 + 1.9 * (1 - abs(2 * progress - 0.6)) if progress < 0.8 else 0.01


@legal("schedule")
class LinearDecay(Linear):
    pass


@broken("schedule", "not negative")
class BelowZero(Linear):
    """Falls below 0."""

    def __call__(self, progress: float, step: int) -> Any:
        return 1 - 2 * progress


@broken("schedule", "not the rate itself")
class TheRate(Linear):
    """Gives the learning rate."""

    def __call__(self, progress: float, step: int) -> Any:
        return 1e-3 * (1 - progress)


@broken("schedule", "another order")
class Counts(Linear):
    """Decays with each call."""

    factor = 1.0

    def __call__(self, progress: float, step: int) -> Any:
        self.factor *= 0.9
        return self.factor


@broken("schedule", "another order")
class Random(Linear):
    """Random restarts."""

    def __call__(self, progress: float, step: int) -> Any:
        return random.random()


@broken("schedule", "gives a number")
class ATensor(Linear):
    """A tensor."""

    def __call__(self, progress: float, step: int) -> Any:
        return torch.tensor(1 - progress)


@broken("schedule", "raised")
class DividesByStep(Linear):
    """1 / step at step 0."""

    def __call__(self, progress: float, step: int) -> Any:
        return 1 / step


@broken("schedule", "finite and not negative")
class NotANumber(Linear):
    """NaN at the end."""

    def __call__(self, progress: float, step: int) -> Any:
        return float("inf") if progress == 1 else 1.0


class InOrder:
    def __init__(self, *, source: Any, seed: int) -> None:
        self.source, self.seed = source, seed

    def __len__(self) -> int:
        return len(self.source)

    def __call__(self, epoch: int) -> Any:
        return list(range(len(self)))


@legal("sampler")
class Sequential(InOrder):
    pass


@legal("sampler")
class Twice(InOrder):
    """Images with objects come twice."""

    def __call__(self, epoch: int) -> Any:
        return [i for i in range(len(self.source)) for _ in self.source.annotation(i).boxes[:2]]

    def __len__(self) -> int:
        return len(self(0))


@broken("sampler", "global random generator")
class GlobalShuffle(InOrder):
    """The global generator."""

    def __call__(self, epoch: int) -> Any:
        return torch.randperm(len(self)).tolist()


@broken("sampler", "another order when asked again")
class Remembers(InOrder):
    """Goes on where it was."""

    at = 0

    def __call__(self, epoch: int) -> Any:
        self.at += 1
        return [(i + self.at) % len(self) for i in range(len(self))]


@broken("sampler", "positions beyond")
class FromOne(InOrder):
    """Positions counted from 1."""

    def __call__(self, epoch: int) -> Any:
        return list(range(1, len(self) + 1))


@broken("sampler", "len\\(\\) tells")
class Shrinks(InOrder):
    """Epochs of different lengths."""

    def __call__(self, epoch: int) -> Any:
        return list(range(len(self) - epoch % 2))


@broken("sampler", "at least one image")
class Empty(InOrder):
    """No image."""

    def __len__(self) -> int:
        return 0


@broken("sampler", "positions beyond")
class Ids(InOrder):
    """Image ids in the place of positions."""

    def __call__(self, epoch: int) -> Any:
        return [self.source.annotation(i).image_id for i in range(len(self))]


@pytest.mark.parametrize(("kind", "factory", "sentence"), BROKEN)
def test_broken(kind: str, factory: Any, sentence: str) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        check_part(kind, factory)


@pytest.mark.parametrize(("kind", "factory"), LEGAL)
def test_legal(kind: str, factory: Any) -> None:
    check_part(kind, factory)
