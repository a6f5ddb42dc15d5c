"""In which order the parts of one recipe can take the place of another's, one a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Fault = Callable[[frozenset[str]], str]
"""Why a mixture with these parts changed cannot be built; "" where it can be."""

TRIES = 150
"""Mixtures that are built in the search for single steps, before parts are changed together."""


class Climber:
    """Finds an order of steps.

    Args:
        order: what is to change, in the order that is wished for. All of it together can be built.
        fault: tells why a mixture cannot be built.
    """

    def __init__(self, order: Sequence[str], fault: Fault) -> None:
        self.order = list(order)
        self._fault = fault
        self._known: dict[frozenset[str], str] = {frozenset(order): ""}
        self._dead: set[frozenset[str]] = set()

    def fault(self, taken: frozenset[str]) -> str:
        """Return why a mixture cannot be built, each one looked at once."""
        if taken not in self._known:
            self._known[taken] = self._fault(taken)
        return self._known[taken]

    def climb(self, start: Sequence[tuple[str, ...]] = ()) -> list[tuple[str, ...]]:
        """Return the steps, each of as few parts as can be.

        The first single change in the order that can be built is taken; where that leads nowhere, another
        one. Where no order of single changes is found, parts that only work together change together.

        Args:
            start: steps that come first, as they are.
        """
        taken = frozenset(path for step in start for path in step)
        singles = self._singles(taken)
        return [*start, *(self._together(taken) if singles is None else singles)]

    def _singles(self, taken: frozenset[str]) -> list[tuple[str, ...]] | None:
        left = self._left(taken)
        if not left:
            return []
        for path in left:
            more = taken | {path}
            if more in self._dead or len(self._known) > TRIES or self.fault(more):
                continue
            rest = self._singles(more)
            if rest is not None:
                return [(path,), *rest]
        self._dead.add(taken)
        return None

    def _together(self, taken: frozenset[str]) -> list[tuple[str, ...]]:
        steps = []
        while left := self._left(taken):
            step = next(((path,) for path in left if not self.fault(taken | {path})), None)
            steps.append(step or self._smallest(taken, left))
            taken |= set(steps[-1])
        return steps

    def _smallest(self, taken: frozenset[str], left: Sequence[str]) -> tuple[str, ...]:
        """The parts without which no fewer of the others can be built: those are left out one by one."""
        group = list(left)
        for path in reversed(left):
            fewer = [other for other in group if other != path]
            if fewer and not self.fault(taken | set(fewer)):
                group = fewer
        return tuple(group)

    def _left(self, taken: frozenset[str]) -> list[str]:
        return [path for path in self.order if path not in taken]
