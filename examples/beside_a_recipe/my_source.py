"""A data source of its own: images and one CSV file with a line per box, ``file,x1,y1,x2,y2,class``."""

import csv
import hashlib
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image

import densedet
from densedet.core.errors import DataError
from densedet.core.types import Annotation


@densedet.register("source", "csv_boxes")
class CsvBoxes:
    """Images and a CSV file with the columns file, x1, y1, x2, y2, class.

    An image without objects has a line with its name alone.

    Args:
        root: (wired) the folder at which the paths start, data.root.
        boxes: the CSV file.
        images: the folder of the images; null: the folder of the CSV file.
        classes: names in label order.

    Raises:
        DataError: the file cannot be read, or a line of it is wrong, with its number.
    """

    def __init__(self, *, root: str, boxes: str, images: str | None = None, classes: tuple[str, ...]) -> None:
        self.file = Path(root) / boxes
        self.folder = self.file.parent if images is None else Path(root) / images
        self.classes = tuple(classes)
        self.category_ids = tuple(range(len(classes)))

    @cached_property
    def _table(self) -> tuple[list[tuple[str, list[tuple[list[float], int]]]], list[str]]:
        """(name, [(box, label), ...]) of each image, and sentences about lines that were left out. Read at
        first use."""
        rows: dict[str, list[tuple[list[float], int]]] = {}
        dropped: list[str] = []
        try:
            reader = csv.reader(self.file.read_text(encoding="utf-8").splitlines())
        except OSError as error:
            raise DataError(f"{self.file} cannot be read: {error.strerror}") from error
        for name, *values in filter(None, reader):
            place, objects = f"{self.file}:{reader.line_num}", rows.setdefault(name, [])
            if not values:
                continue
            try:
                x1, y1, x2, y2 = map(float, values[:-1])
                label = self.classes.index(values[-1])
            except ValueError as error:
                wanted = f"file,x1,y1,x2,y2,class with a class of {', '.join(self.classes)}"
                raise DataError(f"{place}: {','.join([name, *values])!r} is not {wanted}") from error
            if x2 > x1 and y2 > y1:
                objects.append(([x1, y1, x2, y2], label))
            else:
                dropped.append(f"{place}: a box without area was dropped")
        return list(rows.items()), dropped

    def __len__(self) -> int:
        return len(self._table[0])

    def annotation(self, index: int) -> Annotation:
        name, objects = self._table[0][index]
        try:
            with Image.open(self.folder / name) as image:  # reads the header only
                width, height = image.size
        except OSError as error:
            raise DataError(f"{self.folder / name} cannot be read: {error}") from error
        boxes = torch.tensor([box for box, _ in objects]).reshape(-1, 4)
        none = torch.zeros(len(objects), dtype=torch.bool)
        return Annotation(
            boxes=boxes,
            labels=torch.tensor([label for _, label in objects], dtype=torch.int64),
            ignore=none,
            crowd=none.clone(),
            area=(boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
            image_id=index,
            file_name=name,
            width=width,
            height=height,
        )

    def image(self, index: int) -> Path:
        return self.folder / self._table[0][index][0]

    def fingerprint(self) -> str:
        return hashlib.sha256(self.file.read_bytes() + repr(self.classes).encode()).hexdigest()

    def invalid(self) -> list[str]:
        return self._table[1]
