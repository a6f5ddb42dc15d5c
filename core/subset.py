"""Views of a source: some of its images, e.g. a held-out share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from densedet.core.contracts import Source
from densedet.core.types import Annotation


class Subset:
    """The images of ``source`` at ``indices``, in that order; a `Source` itself."""

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.source, self.indices = source, tuple(indices)
        self.classes, self.category_ids = source.classes, source.category_ids

    def __len__(self) -> int:
        return len(self.indices)

    def annotation(self, index: int) -> Annotation:
        return self.source.annotation(self.indices[index])

    def image(self, index: int) -> Any:
        return self.source.image(self.indices[index])

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.source.fingerprint()} {self.indices}".encode()).hexdigest()

    def invalid(self) -> list[str]:
        return self.source.invalid()


def hold_out(source: Source, share: float, seed: int) -> tuple[Subset, Subset]:
    """(training, validation): a random ``share`` of the images, at least one of them, is held out; the same for the same seed."""
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed)).tolist()
    count = min(max(round(len(source) * share), 1), len(source) - 1)
    return Subset(source, sorted(order[count:])), Subset(source, sorted(order[:count]))
