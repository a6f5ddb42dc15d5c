"""Sources that keep their contract in a way of their own, and some that break it."""

from __future__ import annotations

import csv
import hashlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from densedet.core.conformance import ConformanceError, check_source
from densedet.core.types import Annotation, Extra

BROKEN: list[Any] = []
LEGAL: list[Any] = []


def broken(sentence: str) -> Any:
    def add(factory: Any) -> Any:
        BROKEN.append(pytest.param(factory, sentence, id=factory.__name__))
        return factory

    return add


def legal(factory: Any) -> Any:
    LEGAL.append(pytest.param(factory, id=factory.__name__))
    return factory


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs of which the last is turned by EXIF, and boxes.csv: file, x1, y1, x2, y2, class."""
    root = tmp_path_factory.mktemp("boxes")
    for number, size in enumerate([(60, 40), (50, 50), (64, 32)]):
        picture, exif = Image.new("RGB", size, (90, 40 * number, 0)), Image.Exif()
        if number == 2:
            exif[0x0112] = 6  # displayed as 32 x 64
        picture.save(root / f"{number}.jpg", exif=exif)
    rows = ["0.jpg,5,6,25,30,cat", "0.jpg,30,8,55,38,dog", "1.jpg,10,10,40,45,dog", "2.jpg,4,20,30,60,cat"]
    (root / "boxes.csv").write_text("\n".join(rows) + "\n")
    return root


class Csv:
    """Reads boxes.csv; in pieces that the classes below break."""

    classes: tuple[str, ...] = ("cat", "dog")
    category_ids: tuple[int, ...] = (1, 2)

    def __init__(self, *, root: str) -> None:
        self.root = Path(root)

    def rows(self) -> list[tuple[str, list[list[str]]]]:
        found: dict[str, list[list[str]]] = {}
        for row in csv.reader((self.root / "boxes.csv").read_text().splitlines()):
            found.setdefault(row[0], []).append(row[1:])
        return list(found.items())

    def __len__(self) -> int:
        return len(self.rows())

    def size(self, name: str) -> tuple[int, int]:
        return (32, 64) if name == "2.jpg" else Image.open(self.root / name).size

    def annotation(self, index: int) -> Any:
        name, rows = self.rows()[index]
        boxes = torch.tensor([[float(v) for v in row[:4]] for row in rows]).view(-1, 4)
        none = torch.zeros(len(rows), dtype=torch.bool)
        width, height = self.size(name)
        labels = torch.tensor([self.classes.index(row[4]) for row in rows])
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        return self.last(Annotation(boxes, labels, none, none.clone(), area, index, name, width, height))

    def last(self, truth: Annotation) -> Any:
        return truth

    def image(self, index: int) -> Any:
        return self.root / self.rows()[index][0]

    def fingerprint(self) -> str:
        return hashlib.sha256((self.root / "boxes.csv").read_bytes()).hexdigest()

    def invalid(self) -> list[str]:
        return []


@legal
class Plain(Csv):
    pass


@legal
class Encoded(Csv):
    """Bytes, as out of an archive."""

    def image(self, index: int) -> bytes:
        return super().image(index).read_bytes()  # type: ignore[no-any-return]


@legal
class NamesAsIds(Csv):
    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, image_id=truth.file_name)


@legal
class WithExtras(Csv):
    extras = {"age": Extra()}

    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, extra={"age": truth.labels * 2.0})


@legal
class FilteredClass(Csv):
    """Dogs are ignored objects without a class."""

    def last(self, truth: Annotation) -> Annotation:
        dogs = truth.labels == 1
        return replace(truth, labels=truth.labels.masked_fill(dogs, -1), ignore=dogs)


@broken("x2 > x1|leaves its image|areas are in square pixels")
class CornerAndSize(Csv):
    """x, y, w, h."""

    def last(self, truth: Annotation) -> Annotation:
        b = truth.boxes
        return replace(truth, boxes=torch.cat([b[:, :2], b[:, 2:] - b[:, :2]], 1))


@broken("in shares|in pixels|areas are")
class Shares(Csv):
    """Boxes and areas as shares of the image."""

    def last(self, truth: Annotation) -> Annotation:
        size = torch.tensor([truth.width, truth.height] * 2)
        return replace(truth, boxes=truth.boxes / size, area=truth.area / (truth.width * truth.height))


@broken("areas are in square pixels")
class AreaShare(Csv):
    """Areas as shares of the image."""

    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, area=truth.area / (truth.width * truth.height) / 10)


@broken("leaves its image")
class Unclipped(Csv):
    """A box beyond the border."""

    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, boxes=truth.boxes + torch.tensor([0.0, 0, 30, 0]), area=truth.area + 30)


@broken("x2 > x1")
class Inverted(Csv):
    """x2, y2, x1, y1."""

    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, boxes=truth.boxes[:, [2, 3, 0, 1]])


@broken("0..C-1")
class LabelsFromOne(Csv):
    """The file's ids as labels."""

    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, labels=truth.labels + 1)


@broken("labels is torch.int64")
class FloatLabels(Csv):
    """Labels as floats."""

    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, labels=truth.labels.float())


@broken("float32")
class DoubleBoxes(Csv):
    """float64."""

    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, boxes=truth.boxes.double())


@broken("always ignored too")
class CrowdCounts(Csv):
    """Crowds that are not ignored."""

    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, crowd=~truth.crowd)


@broken("label -1 is ignored")
class FilteredCounts(Csv):
    """Label -1 that is not ignored."""

    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, labels=truth.labels - 2 * (truth.labels == 1))


@broken("has 1 entry for|has 3 entries for")
class Lengths(Csv):
    """A flag too few."""

    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, ignore=torch.cat([truth.ignore, truth.ignore[:1]]))


@broken("image ids are unique")
class OneId(Csv):
    """The same id for all."""

    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, image_id=7)


@broken("both are of one image|its annotation says")
class NextImage(Csv):
    """The image of the next annotation."""

    def image(self, index: int) -> Any:
        return super().image((index + 1) % len(self))


@broken("leaves its image|its annotation says")
class IgnoresExif(Csv):
    """The stored size of a turned photograph."""

    def size(self, name: str) -> tuple[int, int]:
        return Image.open(self.root / name).size


@broken("raised|its annotation says|leaves its image")
class HeightFirst(Csv):
    """(height, width)."""

    def size(self, name: str) -> tuple[int, int]:
        return super().size(name)[::-1]


@broken("raised")
class FloatPixels(Csv):
    """Pixels in 0..1."""

    def image(self, index: int) -> Any:
        return np.zeros((*self.size(self.rows()[index][0])[::-1], 3), dtype=np.float32)


@broken("another image when asked again|global random generator")
class RandomPixels(Csv):
    """Another image each time."""

    def image(self, index: int) -> Any:
        width, height = self.size(self.rows()[index][0])
        return np.random.default_rng().integers(0, 256, (height, width, 3), dtype=np.uint8)


@broken("the same annotation")
class Shuffled(Csv):
    """Each object has its own order of images."""

    def __init__(self, *, root: str) -> None:
        super().__init__(root=root)
        self.order = random.Random().sample(range(3), 3) + [id(self)]

    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, image_id=self.order[3] + int(truth.image_id))


@broken("one id a class")
class IdsMissing(Csv):
    """One id for two classes."""

    category_ids = (1,)


@broken("names and ids unique")
class NamesTwice(Csv):
    """A class twice."""

    classes, category_ids = ("cat", "dog", "dog"), (1, 2, 3)


@broken("raised")
class NoPickle(Csv):
    """An open file: no worker process can have it."""

    def __init__(self, *, root: str) -> None:
        super().__init__(root=root)
        self.file = open(self.root / "boxes.csv")  # noqa: SIM115


@broken("same fingerprint")
class ConstantPrint(Csv):
    """A fingerprint that never changes."""

    def fingerprint(self) -> str:
        return "csv"


@broken("uses hash\\(\\)")
class HashPrint(Csv):
    """Python's hash differs from process to process."""

    def fingerprint(self) -> str:
        return str(hash((self.root / "boxes.csv").read_text()))


@broken("fingerprint\\(\\) is text")
class ObjectPrint(Csv):
    """The object's address."""

    def fingerprint(self) -> str:
        return str(id(self))


@broken("list of sentences")
class InvalidNumber(Csv):
    """A count in the place of sentences."""

    def invalid(self) -> Any:
        return 0


@broken("has no images")
class Nothing(Csv):
    """No image."""

    def rows(self) -> Any:
        return []


@broken("do not declare")
class ExtrasUndeclared(Csv):
    """Values that nobody declared."""

    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, extra={"age": truth.labels * 2.0})


@broken("the source declares")
class ExtrasShape(WithExtras):
    """A shape that is not the declared one."""

    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, extra={"age": truth.boxes})


@broken("NaN")
class NotANumber(Csv):
    """A NaN from an empty field."""

    def last(self, truth: Annotation) -> Annotation:
        return replace(truth, boxes=truth.boxes * float("nan"))


@pytest.mark.parametrize(("factory", "sentence"), BROKEN)
def test_broken(factory: Any, sentence: str, folder: Path) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        check_source(factory, root=str(folder))


@pytest.mark.parametrize("factory", LEGAL)
def test_legal(factory: Any, folder: Path) -> None:
    check_source(factory, root=str(folder))
