"""YOLO: data.yaml, folders of images, and a text file of labels for each image."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from densedet.core.errors import DataError
from densedet.core.sources import (
    SUFFIXES,
    AnnotationTable,
    Faults,
    FileNames,
    Progress,
    TableSource,
    added_by_macos,
    addition,
    existing,
    is_free,
    name_fault,
    new_folder,
)
from densedet.plugins.sources._label_files import NewFiles, listed
from densedet.plugins.sources._yolo_data import (
    SPLITS,
    data_text,
    extended_text,
    looks_like_yolo,
    read_yolo_data,
)
from densedet.plugins.sources._yolo_exact import (
    ExactBox,
    ExactFile,
    ExactImage,
    exact_file,
    exact_text,
    header_text,
)
from densedet.plugins.sources._yolo_labels import label_file, label_text
from densedet.plugins.sources._yolo_reading import YoloReading


class YOLOSource(TableSource):
    """Read YOLO's text files, found as Ultralytics' trainer finds them.

    The labels of .../images/a.jpg are in .../labels/a.txt, those of an image elsewhere are beside it. A line
    "class x y width height" is an object, with its centre and size as shares of the image's width and height;
    a polygon (class x1 y1 x2 y2 x3 y3 ...) counts as the box around it. An image without such a file has no
    objects. Its size is read from its header. Category ids are the labels, 0..C-1; image ids are the numbers
    in the names, where all names are numbers, else 1..I.

    `densedet convert` also writes a file densedet_extra_SPLIT.jsonl for what the text files cannot hold: ids,
    sizes, exact boxes, crowds and ignored objects, which other trainers would learn if they stood among the
    labels. Where a line of labels was changed since, the line counts; so do lines and images that were added
    or deleted.

    Args:
        data: the data.yaml; a relative path starts at ``root``. It holds ``train``, ``val`` and ``test``,
            each a folder of images, a .txt list of them or a list of these, relative to ``path`` (itself
            relative to data.yaml, whose folder it is by default); ``names`` of the classes; and optionally
            ``nc``, their number.
        split: which of the three is read.
        root: (wired) data.root, where relative paths start.

    Raises:
        DataError: a file or folder is missing, data.yaml is wrong, no image has labels, a line is no label or
            an image cannot be opened (converting only reports the last two).
    """

    layout: ClassVar[str] = "data.yaml, or a folder with data.yaml or dataset.yaml in it"
    suffixes: ClassVar[tuple[str, ...] | None] = ()
    image_folder: ClassVar[str | None] = "images/{split}"

    def __init__(
        self, *, data: str = "data.yaml", split: Literal["train", "val", "test"] = "train", root: str = "."
    ) -> None:
        file = existing(root, data, "data")
        self.data, self.split = read_yolo_data(file), split
        exact = exact_file(file, split)
        ours = file.parent / "images" / split
        self.exact = (
            exact
            if exact.is_file() and self.data.entries.get(split) == (f"images/{split}",) and not self.data.path
            else None
        )
        # Where only the annotations were kept, the folder of images may be gone.
        self._places = [ours] if self.exact is not None and not ours.exists() else self.data.places(split)
        self.files = (
            file,
            *([self.exact] if self.exact is not None else []),
            *(p for p in self._places if p.is_file()),
        )
        super().__init__(
            Path(os.path.commonpath([os.path.abspath(self._base(place)) for place in self._places]))
        )

    def _base(self, place: Path) -> Path:
        """Return the folder below which the images of a folder or list lie."""
        if not place.is_file():
            return place
        own = Path(os.path.abspath(place)).parent
        return next(
            (
                base
                for base in map(Path, map(os.path.abspath, self.data.bases))
                if base == own or base in own.parents
            ),
            own,
        )

    def _read(self) -> AnnotationTable:
        names = list(dict.fromkeys(name for place in self._places for name in self._names(place)))
        reading = YoloReading(self.data, self.images_folder, self.faults, self.on_progress)
        if self.exact is not None:
            reading.add_exact(ExactFile(self.exact), frozenset(names))
        reading.add_listed(names)
        table = reading.finish(self.split)
        self._found_digest = reading.digest.hexdigest()
        return table

    def _names(self, place: Path) -> Iterable[str]:
        """Return file names of images, relative to the folder of images."""
        if not place.is_file():
            below = os.path.relpath(os.path.abspath(place), self.images_folder)
            prefix = "" if below == "." else below.replace(os.sep, "/") + "/"
            listing = FileNames(place)
            if sentence := listing.left_out():
                self.faults.note("format", sentence, count=len(listing.unreadable))
            return [prefix + name for name in listing.images]
        return self._listed(place)

    def _listed(self, file: Path) -> Iterable[str]:
        lines = [line.strip() for line in listed(file) if line.strip()]
        own, base = Path(os.path.abspath(file)).parent, self._base(file)
        # Lines that start with ./ are relative to the list, others to where the first of them is.
        plain = next((line for line in lines if not line.startswith("./")), "")
        others = next((folder for folder in (own, base) if plain and os.path.exists(folder / plain)), base)
        for line in lines:
            path = os.path.normpath((own if line.startswith("./") else others) / line)
            name = os.path.relpath(path, self.images_folder).replace(os.sep, "/")
            if os.path.splitext(path)[1].lower() not in SUFFIXES:
                self.faults.entry("list", f"{file}: {line[:80]!r} is no image that can be read, by its name")
            elif name_fault(name) is not None:
                self.faults.entry(
                    "image", f"{file}: image {line[:80]!r} {name_fault(name)} ({self.images_folder})"
                )
            else:
                yield name

    @classmethod
    def recognise(cls, path: Path, split: str | None = None) -> dict[str, Any] | None:
        """Recognise a data.yaml, or a folder that holds one, dataset.yaml, or a single .yaml file like it."""
        if path.is_dir():
            named = [path / "data.yaml", path / "dataset.yaml"]
            others = sorted(
                file
                for file in path.glob("*.y*ml")
                if file.suffix in (".yaml", ".yml") and not added_by_macos(file.name)
            )
            files = [file for file in named if file.is_file()] or (others if len(others) == 1 else [])
        else:
            files = [path] if path.suffix.lower() in (".yaml", ".yml") and path.is_file() else []
        if not files or not looks_like_yolo(files[0]):
            return None
        data = read_yolo_data(files[0])
        wanted = next((own for own, keys in SPLITS.items() if split in keys), split)
        wanted = wanted or next(iter(data.entries), "train")
        if wanted not in data.entries:
            data.places(wanted)
        return {"data": str(files[0]), "split": wanted}

    @classmethod
    def _write(
        cls, table: AnnotationTable, path: Path, split: str, faults: Faults, on_progress: Progress
    ) -> None:
        """Write data.yaml, labels/SPLIT, an empty images/SPLIT and a side file; or add a split.

        The side file densedet_extra_SPLIT.jsonl keeps what the labels cannot hold. Crowds and ignored objects
        are not among the labels. A split can be added where the classes are the same and no file would be
        overwritten: data.yaml gets one line more.
        """
        if split not in SPLITS:
            raise DataError(f"YOLO has no split {split!r}: write one of {', '.join(SPLITS)}")
        new = is_free(path)
        with new_folder(path) if new else addition(path, last="data.yaml") as folder:
            text = (
                data_text(split, table.classes)
                if new
                else extended_text(path / "data.yaml", split, table.classes)
            )
            files = NewFiles(folder, f"labels/{split}/unnamed")
            with open(exact_file(folder / "data.yaml", split), "xb") as exact:
                exact.write(header_text(split, table.category_ids, table.classes))
                for index in range(len(table)):
                    image = _exact_image(table, index)
                    rule = str(PurePosixPath(label_file(f"/images/{split}/{image.name}")[1:-4]))
                    usable = [n for n in (rule, f"labels/{split}/{image.name}") if n.isprintable()]
                    lines = [
                        label_text(b.label, b.box, image.width, image.height) + "\n"
                        for b in image.boxes
                        if not b.flags
                    ]
                    stem = files.write(usable, ".txt", "".join(lines).encode())
                    if stem != rule:
                        faults.note(
                            "name",
                            f"{path}: the labels of image {image.name!r} are in {stem}.txt; other "
                            f"trainers look for {rule}.txt",
                        )
                    image.labels = f"{stem}.txt"
                    exact.write(exact_text(image))
                    on_progress(index + 1, len(table))
            for name in ("labels", "images"):
                (folder / name / split).mkdir(parents=True, exist_ok=True)
            (folder / "data.yaml").write_text(text, encoding="utf-8")


def _exact_image(table: AnnotationTable, index: int) -> ExactImage:
    part = slice(int(table.offsets[index]), int(table.offsets[index + 1]))
    columns = (
        column[part].tolist() for column in (table.ids, table.labels, table.xywh, table.areas, table.flags)
    )
    width, height = table.sizes[index].tolist()
    boxes = [ExactBox(own, label, tuple(box), area, flags) for own, label, box, area, flags in zip(*columns)]
    return ExactImage(table.image_id(index), table.name(index), width, height, "", boxes)
