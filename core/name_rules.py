"""Names of one library against names of another, by rules that work both ways."""

from __future__ import annotations

import re
from collections.abc import Iterable

Rule = tuple[str, str]
"""(their pattern, our pattern): ``#`` stands for a number, ``*`` for any text that is not empty; both sides
have the same ones in the same order."""


class NameRules:
    """Renames by the first rule whose pattern fits the whole name. Where several of their patterns mean one
    of ours, the first is written."""

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
        """Our name of theirs, or None."""
        return _renamed(name, self._forward)

    def theirs(self, name: str) -> str | None:
        """Their name of ours, or None."""
        return _renamed(name, self._backward)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\#", r"(\d+)").replace(r"\*", "(.+)"))


def _renamed(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, target in rules:
        if match := pattern.fullmatch(name):
            parts = re.split("[#*]", target)
            return parts[0] + "".join(text + part for text, part in zip(match.groups(), parts[1:]))
    return None
