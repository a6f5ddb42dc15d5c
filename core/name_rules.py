"""Translate names of one library into those of another, by rules that work in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable

Rule = tuple[str, str]
"""(their pattern, our pattern), e.g. ("body.layer#.*", "backbone.layer#.*"). ``#`` stands for a number, ``*``
for any text that is not empty; both sides have the same ones in the same order."""


class NameRules:
    """A weight map that renames by the first rule whose pattern matches the whole name.

    Where several of their patterns stand for one of ours, `theirs` takes the first.

    Args:
        rules: pairs of patterns.

    Raises:
        ValueError: where the sides of a rule differ in their ``#`` and ``*``.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._forward, self._backward = [], []
        for theirs, ours in rules:
            if re.findall("[#*]", theirs) != re.findall("[#*]", ours):
                raise ValueError(
                    f"rule {theirs!r} <-> {ours!r}: both sides need the same '#' and '*' in the same order"
                )
            self._forward.append((_pattern(theirs), ours))
            self._backward.append((_pattern(ours), theirs))

    def ours(self, name: str) -> str | None:
        """Translate their name into ours; None where no rule matches."""
        return _renamed(name, self._forward)

    def theirs(self, name: str) -> str | None:
        """Translate our name into theirs; None where no rule matches."""
        return _renamed(name, self._backward)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\#", r"(\d+)").replace(r"\*", "(.+)"))


def _renamed(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, target in rules:
        if match := pattern.fullmatch(name):
            parts = re.split("[#*]", target)
            return parts[0] + "".join(text + part for text, part in zip(match.groups(), parts[1:]))
    return None
