"""The runs of a ladder: from one recipe to another by their differing parts, one a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from densedet.core.errors import UsageError
from densedet.core.mappings import at_path
from densedet.core.recipe.loading import Recipe
from densedet.core.report.rungs import Ladder, Step, Swap
from densedet.core.study.climbing import Climber
from densedet.core.study.data_sets import DataSet
from densedet.core.study.mixing import OF_THE_MACHINE, Mixer, change_words, paths_between
from densedet.core.study.planning import NOWHERE, Plan, arm_titles, fair_recipe
from densedet.core.study.study import Arm, Study, StudyRun, in_turns

Group = tuple[str, ...]
"""Dotted paths that change in one step."""


def plan_ladder(
    names: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    sets: Sequence[DataSet] = (),
    seeds: int | None = None,
    order: str = "",
    swaps: str = "",
) -> Plan:
    """Plan the runs of a ladder, in an order in which each step can be built.

    Args:
        names: the lower and the upper recipe.
        overrides: changes to both, as on the command line.
        sets: data sets that every rung is trained on; none: the recipes' own.
        seeds: number of seeds, which are 0, 1, 2 ...; None: the lower recipe's own.
        order: the parts that change first, as "neck,anchors+head"; the others follow in an order that can be
            built.
        swaps: of which pairs of neighbouring steps the other order is trained, too: "2" for the lowest two,
            "neck,head" for those in which one of these takes part; "" for all that can be built.

    Raises:
        UsageError: there are not two recipes, they train the same, or they do not compare; or the order
            cannot be built, or a swap is of no step.
        RecipeError: one of the two is faulty.
    """
    lower, upper = _two(names)
    ends = {}
    for data in sets or [DataSet()]:
        given = [*data.overrides, *overrides]
        first, second = (fair_recipe(name, given, data.plugins) for name in (lower, upper))
        ends[data.name] = (first, second)
    paths = paths_between(*next(iter(ends.values())))
    if not paths:
        raise UsageError(f"{lower} and {upper} train the same: there is no step between them")
    mixer = Mixer(ends)
    climber = Climber(paths, mixer.fault)
    groups = climber.climb(_wished(order, climber))
    titles = arm_titles([lower, upper])
    stairs = _Stairs(climber, groups, mixer, titles[lower], titles[upper])
    ladder = Ladder(stairs.steps, list(stairs.swaps(swaps)))
    places = [*stairs.places, *((swap.arm, stairs.beside(swap)) for swap in ladder.trained_swaps)]
    return _plan(ladder, places, mixer, ends, seeds)


def _two(names: Sequence[str]) -> tuple[str, str]:
    for name in names:
        if Path(name).is_dir():
            raise UsageError(
                f"--ladder goes from one recipe to another, and {name} is a folder: a run's recipe is "
                f"{Path(name) / 'recipe.yaml'}"
            )
    if len(names) != 2:
        told = f"{len(names)} are given" if len(names) != 1 else f"{names[0]} is given alone"
        raise UsageError(f"--ladder goes from one recipe to another, and {told}: name two")
    if names[0] == names[1]:
        raise UsageError(f"{names[0]} is named twice: there is no step between a recipe and itself")
    return names[0], names[1]


def _plan(
    ladder: Ladder,
    places: Sequence[tuple[str, frozenset[str]]],
    mixer: Mixer,
    ends: dict[str, tuple[Recipe, Recipe]],
    seeds: int | None,
) -> Plan:
    """Make the study of the arms at their places."""
    (first, second), *_ = ends.values()
    arms, runs, recipes = [], list[StudyRun](), dict[tuple[str, str], Recipe]()
    for name, taken in places:
        for data, recipe in mixer.recipes(taken, top=name == ladder.whole[0]).items():
            recipes[name, data] = recipe
            chosen = [first.train.seed] if seeds is None else range(seeds)
            runs += [StudyRun(name, data, seed, NOWHERE) for seed in chosen]
        changed = {path: at_path(second.values, path) for path in sorted(taken)}
        arms.append(Arm(name, recipes[name, next(iter(ends))].name, changed))
    study = Study(arms, list(ends), in_turns(runs))
    apart = [p for p in OF_THE_MACHINE if at_path(first.values, p) != at_path(second.values, p)]
    if apart:
        study.notes.append(f"All rungs have the {', '.join(apart)} of {ladder.rungs[0]}.")
    return Plan(study, recipes, ladder)


@dataclass
class _Stairs:
    """Steps with the arms below and above them.

    Attributes:
        climber: knows which mixtures can be built.
        groups: paths of each step.
        mixer: makes the recipes.
        bottom: name of the lowest arm.
        top: name of the highest one.
    """

    climber: Climber
    groups: Sequence[Group]
    mixer: Mixer
    bottom: str
    top: str

    @property
    def places(self) -> list[tuple[str, frozenset[str]]]:
        """(name of the arm, paths that have changed) of each rung."""
        names = [f"{number} +{self._title(group)}" for number, group in enumerate(self.groups, start=1)]
        return list(zip([self.bottom, *names[:-1], self.top], self._states()))

    @property
    def steps(self) -> list[Step]:
        """All steps."""
        ends = next(iter(self.mixer.ends.values()))
        places = self.places
        return [
            Step(
                title=self._title(group),
                below=places[number][0],
                above=places[number + 1][0],
                changes={p: change_words(*(at_path(end.values, p) for end in ends)) for p in group},
                refused=tuple(self._refused(number)),
            )
            for number, group in enumerate(self.groups)
        ]

    def swaps(self, wanted: str) -> Iterator[Swap]:
        """Yield each two neighbouring steps in the other order."""
        titles = {name.strip() for name in wanted.split(",") if wanted and not wanted.isdigit()}
        known = [step.title for step in self.steps]
        for name in titles.difference(known):
            raise UsageError(
                f"--swaps {wanted}: {name!r} is no step; write how many pairs, or the steps that take part: "
                f"{', '.join(known)}"
            )
        trained, most = 0, int(wanted) if wanted.isdigit() else None
        for number, (lower, upper) in enumerate(pairwise(self.steps)):
            fault = self.climber.fault(self._states()[number] | set(self.groups[number + 1]))
            if fault or trained == most or (titles and titles.isdisjoint({lower.title, upper.title})):
                yield Swap(lower, upper, why=fault)
                continue
            trained += 1
            yield Swap(lower, upper, f"{number + 1}' +{upper.title}")

    def beside(self, swap: Swap) -> frozenset[str]:
        """Return the paths that have changed in the arm of a swap."""
        number = self.steps.index(swap.lower)
        return self._states()[number] | set(self.groups[number + 1])

    def _states(self) -> list[frozenset[str]]:
        states = [frozenset[str]()]
        for group in self.groups:
            states.append(states[-1] | set(group))
        return states

    def _refused(self, number: int) -> Iterator[str]:
        """Say why a step does not come earlier, where the wished order has it earlier, or is of more than one
        part."""
        group, states = self.groups[number], self._states()
        for path in group:
            if len(group) > 1 and (fault := self.climber.fault(states[number] | {path})):
                yield f"{short_path(path, self.climber.order)} cannot change alone: {fault}"
        place = self.climber.order.index
        for before in range(number):
            fault = self.climber.fault(states[before] | set(group))
            if fault and place(group[0]) < place(self.groups[before][0]):
                between = " and ".join(self._title(other) for other in self.groups[before:number])
                yield f"{self._title(group)} cannot change before {between}: {fault}"
                return

    def _title(self, group: Group) -> str:
        return " + ".join(short_path(path, self.climber.order) for path in group)


def short_path(path: str, paths: Sequence[str]) -> str:
    """Return the last key of a path, or all of it where another path ends alike."""
    key = path.rpartition(".")[2]
    return key if [other.rpartition(".")[2] for other in paths].count(key) == 1 else path


def _wished(order: str, climber: Climber) -> list[Group]:
    """Read --order.

    Raises:
        UsageError: it names something that does not differ, or a step cannot be built.
    """
    known = {short_path(path, climber.order): path for path in climber.order}
    steps, taken = list[Group](), frozenset[str]()
    for text in filter(None, order.split(",")):
        names = [name.strip() for name in text.split("+")]
        for name in names:
            if known.get(name, name) not in climber.order:
                raise UsageError(f"--order {order}: {name!r} is none of what differs: {', '.join(known)}")
        step = tuple(known.get(name, name) for name in names)
        if len(set(step)) < len(step) or taken & set(step):
            raise UsageError(f"--order {order}: {text.strip()} changes twice")
        if fault := climber.fault(taken | set(step)):
            after = f"after {', '.join(short_path(p, climber.order) for s in steps for p in s)}"
            where = after if steps else "first"
            raise UsageError(f"--order {order}: {text.strip()} cannot change {where}: {fault}")
        steps.append(step)
        taken |= set(step)
    return steps
