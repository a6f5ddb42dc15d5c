"""The numbers of an evaluation, for Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from densedet.core.text import counted


@dataclass(frozen=True, repr=False)
class EvaluationResult(Mapping[str, Any]):
    """Numbers of an evaluation, by name: ``result["AP"]``.

    Attributes:
        numbers: all numbers, as the evaluator gave them.
        metric_name: name of the number that the recipe goes by (``evaluate.metric``).
        metric: that number.
    """

    numbers: dict[str, Any]
    metric_name: str
    metric: float

    @property
    def classes(self) -> dict[str, dict[str, float]]:
        """Numbers of each class by name, such as ``result.classes["cat"]["AP"]``."""
        return dict(self.numbers.get("classes") or {})

    @property
    def losses(self) -> dict[str, float]:
        """Mean losses by name."""
        return dict(self.numbers.get("losses") or {})

    def __getitem__(self, name: str) -> Any:
        return self.numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def __repr__(self) -> str:
        others = {n: v for n, v in self.numbers.items() if isinstance(v, float) and n != self.metric_name}
        written = [f"{n} {v:.3f}" for n, v in [(self.metric_name, self.metric), *list(others.items())[:2]]]
        return f"EvaluationResult({', '.join(written)}; {counted(len(self.classes), 'class')})"
