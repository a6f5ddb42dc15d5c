"""The border at which the annotations of a plug-in's source are checked, as those of a file are.

Importing this does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from densedet.core.annotations.faults import CLIPPED, Faults, box_faults
from densedet.core.annotations.source import TableSource
from densedet.core.annotations.table import (
    CROWD,
    IGNORE,
    AnnotationTable,
    is_side,
    name_fault,
    pack_names,
    packed_ids,
)
from densedet.core.annotations.views import DROP, KEEP, acted_on
from densedet.core.contracts import ImageData, Source
from densedet.core.errors import DataError, PartError
from densedet.core.text import counted
from densedet.core.types import Annotation, to_array

if TYPE_CHECKING:
    from torch import Tensor


def checked(source: Source) -> Source:
    """Return the source behind a border; a `TableSource` checks its boxes while it reads them."""
    return source if isinstance(source, TableSource | CheckedSource) else CheckedSource(source)


class CheckedSource:
    """A source, each of whose annotations is checked when it is asked for.

    A box that is not finite, has no width or height above 0 or lies outside its image is dropped; one that
    leaves its image is clipped. A label of no class is refused. All other attributes are the source's.

    Args:
        source: any source.

    Attributes:
        source: the source.
        faults: collects what is wrong when `table` is made. With one that is not strict, an object of no
            class is left out instead.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.faults = Faults()
        self._table: AnnotationTable | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "source" or name.startswith("__"):  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.source, name)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": None}

    def __len__(self) -> int:
        return len(self.source)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; the index is the label."""
        return self.source.classes

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The data set's own id of each label."""
        return self.source.category_ids

    def image(self, index: int) -> ImageData:
        """Return the source's image."""
        return self.source.image(index)

    def fingerprint(self) -> str:
        """Return the source's fingerprint."""
        return self.source.fingerprint()

    def invalid(self) -> list[str]:
        """Return a sentence for each box that was left out or clipped."""
        return self.table.faults.told()

    def annotation(self, index: int) -> Annotation:
        """Return the truth of an image, without boxes that cannot be used.

        Raises:
            DataError: a label is that of no class.
            PartError: it is no `Annotation` as the contract has it.
        """
        import torch

        truth = self._given(index)
        labels = truth.labels.numpy()
        lost = _without_class(labels, truth.ignore.numpy(), len(self.classes))
        if lost.any() and self.faults.strict:
            raise DataError(self._label_sentence(truth, index, int(np.flatnonzero(lost)[0])))
        found = _found(truth)
        if not found.any() and not lost.any():
            return truth
        wrong = lost | ((found != 0) & (found != CLIPPED))
        truth = acted_on(truth, torch.from_numpy(np.where(wrong, DROP, KEEP)))
        size = torch.tensor([truth.width, truth.height] * 2, dtype=torch.float32)
        return replace(truth, boxes=torch.minimum(truth.boxes.clamp(min=0), size))

    @property
    def made_anyway(self) -> bool:
        """Whether all annotations were made already, or will be for their images' sizes."""
        return self._table is not None or not hasattr(self.source, "sizes")

    @property
    def table(self) -> AnnotationTable:
        """All boxes; every annotation is made at the first use."""
        if self._table is None:
            self.faults.clear()
            self._table = self.table_of_images(range(len(self)), self.faults)
        return self._table

    def table_of_images(self, indices: Iterable[int], faults: Faults) -> AnnotationTable:
        """Make a table of some images.

        Args:
            indices: their positions.
            faults: gets what is wrong.

        Raises:
            DataError: an image id occurs twice, or ``faults`` is strict and a label is that of no class.
            PartError: something is no `Annotation` as the contract has it.
        """
        indices = list(indices)
        truths = [self._told(index) for index in indices]
        for sentence in self.source.invalid():
            faults.note("reported", sentence)
        ids = [truth.image_id for truth in truths]
        if len(set(ids)) < len(ids):
            raise DataError(
                f"{self._name}: image id {_first_repeated(ids)!r} occurs twice: give each image its own"
            )
        counts = np.array([len(truth.labels) for truth in truths], dtype=np.int64)
        owners = np.repeat(np.arange(len(truths)), counts)
        starts = np.append(0, np.cumsum(counts))
        labels = _joined([truth.labels for truth in truths], np.int64)
        flags = _joined([truth.crowd * CROWD | truth.ignore * IGNORE for truth in truths], np.uint8)
        areas = _joined([truth.area for truth in truths], np.float64)
        boxes = _joined([truth.boxes for truth in truths], np.float64).reshape(-1, 4)
        xywh = _joined([_xywh(truth) for truth in truths], np.float64).reshape(-1, 4)
        sizes = np.array([(truth.width, truth.height) for truth in truths], dtype=np.int32).reshape(-1, 2)

        lost = _without_class(labels, flags != 0, len(self.classes))
        for row in np.flatnonzero(lost).tolist():
            image = int(owners[row])
            sentence = self._label_sentence(truths[image], indices[image], row - int(starts[image]))
            faults.entry("category", sentence)

        def place_of(row: int) -> str:
            image = int(owners[rows[row]])
            return self._place(truths[image], indices[image], int(rows[row] - starts[image]))

        rows = np.flatnonzero(~lost)
        keep = rows[
            faults.check_boxes(
                _checked_numbers(boxes, xywh, sizes[owners])[rows], sizes, owners[rows], place_of
            )
        ]
        faults.refuse()
        names, name_offsets = pack_names([_name(truth) for truth in truths])
        return AnnotationTable(
            classes=tuple(self.classes),
            category_ids=tuple(self.category_ids),
            image_ids=packed_ids(ids),
            names=names,
            name_offsets=name_offsets,
            sizes=sizes,
            offsets=np.searchsorted(owners[keep], np.arange(len(truths) + 1)).astype(np.int64),
            xywh=xywh[keep],
            labels=labels[keep],
            flags=flags[keep],
            areas=areas[keep],
            ids=np.arange(1, len(keep) + 1),
            faults=faults,
        )

    @property
    def _name(self) -> str:
        return type(self.source).__name__

    def _place(self, truth: Annotation, index: int, row: int) -> str:
        return f"{self._name}: object {row + 1} of image {truth.image_id} ({truth.file_name or index})"

    def _label_sentence(self, truth: Annotation, index: int, row: int) -> str:
        label, last = int(truth.labels[row]), len(self.classes) - 1
        what = (
            "-1, which only an ignored object may have" if label == -1 else f"{label}, not one of 0 to {last}"
        )
        return f"{self._place(truth, index, row)}: its label is {what}"

    def _told(self, index: int) -> Annotation:
        """Return the source's annotation: of arrays where it gives such, which spares torch."""
        truth: Annotation | None = self.source.truth(index) if hasattr(self.source, "truth") else None
        return self._given(index) if truth is None else truth

    def _given(self, index: int) -> Annotation:
        """Return the source's annotation with the contract's types and areas that can be used."""
        import torch

        truth = self.source.annotation(index)
        fault = _contract_fault(truth)
        if fault is not None:
            raise PartError(f"{self._name}.annotation({index}): {fault}", part="source")
        area = truth.area.double()
        if bool((area.isfinite() & (area >= 0)).all()) and truth.labels.dtype == torch.int64:
            return truth if truth.boxes.dtype == torch.float32 else replace(truth, boxes=truth.boxes.float())
        own = (truth.boxes[:, 2:] - truth.boxes[:, :2]).prod(1).double()
        return replace(
            truth,
            boxes=truth.boxes.float(),
            labels=truth.labels.long(),
            area=torch.where(area.isfinite() & (area >= 0), area, own),
        )


def _contract_fault(truth: Any) -> str | None:
    """Return what is wrong with the type of an annotation or of one of its fields, or None."""
    import torch
    from torch import Tensor

    if not isinstance(truth, Annotation):
        return f"an Annotation is wanted, not {type(truth).__name__}"
    fields = {name: getattr(truth, name) for name in ("boxes", "labels", "ignore", "crowd", "area")}
    for name, value in fields.items():
        if not isinstance(value, Tensor):
            return f"{name} is a tensor, not {type(value).__name__}: write torch.as_tensor(...)"
    count = len(truth.labels) if truth.labels.ndim else -1
    if truth.boxes.shape != (count, 4) or not truth.boxes.is_floating_point():
        return (
            f"boxes are float32 (G,4) xyxy for the {max(count, 0)} labels, also (0,4), not "
            f"{truth.boxes.dtype} {tuple(truth.boxes.shape)}"
        )
    for name in ("labels", "ignore", "crowd", "area"):
        if fields[name].shape != (count,):
            return f"{name} has shape {tuple(fields[name].shape)} for {counted(count, 'box')}"
    if truth.labels.is_floating_point() or truth.labels.dtype == torch.bool:
        return f"labels are int64, not {truth.labels.dtype}"
    for name in ("ignore", "crowd"):
        if fields[name].dtype != torch.bool:
            return f"{name} is bool, not {fields[name].dtype}"
    for name, value in {**truth.extra, **truth.extra_known}.items():
        if not isinstance(value, Tensor) or value.shape[:1] != (count,):
            return f"extra {name!r} is a tensor with a value for each of its boxes, {count} in all"
    if truth.xywh is not None and (not isinstance(truth.xywh, Tensor) or truth.xywh.shape != (count, 4)):
        return "xywh is None or a float64 tensor (G,4)"
    if not (is_side(truth.width) and is_side(truth.height)):
        return f"width and height are whole pixels above 0, not {truth.width!r} x {truth.height!r}"
    if type(truth.image_id) not in (int, str):
        return f"image_id is a whole number or a text, not {truth.image_id!r}"
    return None


def _without_class(labels: np.ndarray, ignored: np.ndarray, classes: int) -> np.ndarray:
    """Return bool (M,): which labels are those of no class, but for -1 of ignored objects."""
    return (labels < -1) | (labels >= classes) | ((labels == -1) & ~ignored)


def _xywh(truth: Annotation) -> np.ndarray:
    if truth.xywh is not None:
        return to_array(truth.xywh).astype(np.float64)
    boxes = to_array(truth.boxes).astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _found(truth: Annotation) -> np.ndarray:
    """Return what `box_faults` finds in the boxes of one image."""
    limits = np.broadcast_to((truth.width, truth.height), (len(truth.boxes), 2))
    return box_faults(_checked_numbers(truth.boxes.double().numpy(), _xywh(truth), limits), limits)


def _checked_numbers(boxes: np.ndarray, xywh: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return float64 (M,4) x, y, width, height to be checked: the source's own ``xywh``, or those of its
    ``boxes`` where these are worse. limits: (M,2), the (width, height) of each box's image."""
    derived = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    found = box_faults(derived, limits)
    return np.where(((found == 0) | (found == CLIPPED))[:, None], xywh, derived)


def _name(truth: Annotation) -> str:
    name = truth.file_name
    return name if isinstance(name, str) and name_fault(name) is None else str(truth.image_id)


def _joined(columns: Sequence[Tensor | np.ndarray], dtype: Any) -> np.ndarray:
    flat = (to_array(column).reshape(-1).astype(dtype) for column in columns)
    return np.concatenate([np.zeros(0, dtype), *flat])


def _first_repeated(ids: list[int | str]) -> int | str:
    seen: set[int | str] = set()
    return next(one for one in ids if one in seen or seen.add(one))  # type: ignore[func-returns-value]
