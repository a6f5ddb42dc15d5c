"""Views of a source: some of its images, some of their objects."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from densedet.core.contracts import ImageData, Source
from densedet.core.extras import extras_of
from densedet.core.types import Annotation, to_array

if TYPE_CHECKING:
    from torch import Tensor

KEEP, IGNORE, DROP, COUNT = range(4)
"""What a `Subset` does with a box: leaves it as it is, has it ignored, takes it out, or counts a crowd as one
object."""


class Subset:
    """Some images of a source, in a given order; a `Source` itself.

    Args:
        source: the source.
        indices: positions in it.
        actions: uint8 (M,) of `KEEP` .. `COUNT`, for all M boxes of the source in order; None leaves all as
            they are.
        offsets: (I+1,), where the boxes of each image of the source begin in ``actions``.
    """

    def __init__(
        self,
        source: Source,
        indices: Sequence[int] | np.ndarray,
        *,
        actions: np.ndarray | None = None,
        offsets: np.ndarray | None = None,
    ) -> None:
        self.source, self.indices = source, np.asarray(indices, dtype=np.int64)
        self.actions, self.offsets = actions, offsets
        self.classes, self.category_ids = source.classes, source.category_ids
        self.extras = extras_of(source)

    def __len__(self) -> int:
        return len(self.indices)

    def annotation(self, index: int) -> Annotation:
        actions = self.actions_on(index)
        annotation = self.source.annotation(int(self.indices[index]))
        if actions is None:
            return annotation
        import torch

        return acted_on(annotation, torch.from_numpy(actions))

    def truth(self, index: int) -> Annotation:
        """Return the truth of image ``index`` as arrays, as far as the source has it so."""
        actions = self.actions_on(index)
        truth = truth_of(self.source, int(self.indices[index]))
        return truth if actions is None else acted_on(truth, actions)

    def actions_on(self, index: int) -> np.ndarray | None:
        """Return uint8 (G,), what is done with each box of image ``index``; None where all stay."""
        if self.actions is None or self.offsets is None:
            return None
        position = int(self.indices[index])
        actions = self.actions[int(self.offsets[position]) : int(self.offsets[position + 1])]
        return actions if actions.any() else None

    def image(self, index: int) -> ImageData:
        return self.source.image(int(self.indices[index]))

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.source.fingerprint().encode() + self.indices.tobytes())
        if self.actions is not None:
            digest.update(self.actions.tobytes())
        return digest.hexdigest()

    def invalid(self) -> list[str]:
        return self.source.invalid()


def truth_of(source: Source, index: int) -> Annotation:
    """Return the truth of an image as arrays. A source without ``truth`` makes tensors first, with torch."""
    if hasattr(source, "truth"):
        truth: Annotation = source.truth(index)
        return truth
    truth = source.annotation(index)
    columns: dict[str, Any] = {
        name: None if getattr(truth, name) is None else to_array(getattr(truth, name))
        for name in ("boxes", "labels", "ignore", "crowd", "area", "xywh")
    }
    for name in ("extra", "extra_known"):
        columns[name] = {key: to_array(values) for key, values in getattr(truth, name).items()}
    return replace(truth, **columns)


def acted_on(annotation: Annotation, actions: Tensor | np.ndarray) -> Annotation:
    """Return an annotation with ``actions``, uint8 (G,), carried out; an array where it holds arrays."""
    ignore = (annotation.ignore | (actions == IGNORE)) & (actions != COUNT)
    crowd = annotation.crowd & (actions != COUNT)
    keep = actions != DROP
    xywh = None if annotation.xywh is None else annotation.xywh[keep]
    columns = {name: getattr(annotation, name)[keep] for name in ("boxes", "labels", "area")}
    return replace(
        annotation,
        **columns,
        ignore=ignore[keep],
        crowd=crowd[keep],
        xywh=xywh,
        extra={name: values[keep] for name, values in annotation.extra.items()},
        extra_known={name: known[keep] for name, known in annotation.extra_known.items()},
    )


def base_of(source: Source) -> tuple[Source, np.ndarray]:
    """Return the source beneath all `Subset`s, and int64 (I,), the position in it of each image."""
    indices = None
    while isinstance(source, Subset):
        indices = source.indices if indices is None else source.indices[indices]
        source = source.source
    return source, np.arange(len(source)) if indices is None else indices


def actions_of(source: Source, boxes: int) -> np.ndarray:
    """Return uint8 (M,) of `KEEP` .. `COUNT`, what `Subset`s do with each of the ``boxes`` of the source
    beneath."""
    while isinstance(source, Subset):
        if source.actions is not None:
            return source.actions
        source = source.source
    return np.full(boxes, KEEP, dtype=np.uint8)


def hold_out(source: Source, share: float, seed: int) -> tuple[Subset, Subset]:
    """Split a source in two at random; the same seed gives the same split.

    Args:
        source: the source.
        share: of the images that are held out, at least one of them.
        seed: any integer.

    Returns:
        The part for training and the part for validation.
    """
    order = permutation(len(source), seed)
    count = min(max(round(len(source) * share), 1), len(source) - 1)
    return Subset(source, sorted(order[count:])), Subset(source, sorted(order[:count]))


def permutation(count: int, seed: int) -> list[int]:
    """Return the positions 0..count-1 in the random order of torch.randperm with a generator of this seed: by
    Fisher and Yates on the same Mersenne twister."""
    raw = np.random.RandomState(seed % (1 << 32)).randint(0, 1 << 32, size=count, dtype=np.uint32).tolist()
    order = list(range(count))
    for place in range(count - 1):
        other = place + raw[place] % (count - place)
        order[place], order[other] = order[other], order[place]
    return order
