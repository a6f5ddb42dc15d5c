"""Sources."""

from __future__ import annotations

import builtins
import inspect
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from densedet.core.conformance.requirements import (
    ConformanceError,
    Factory,
    check,
    finite,
    random_states,
    require,
    same,
    wire,
)
from densedet.core.data.decoding import Decoding, decode
from densedet.core.errors import DataError
from densedet.core.extras import carried, extras_of
from densedet.core.placement import Placement
from densedet.core.text import counted
from densedet.core.types import Annotation, Extra

MOST_ANNOTATIONS, MOST_IMAGES = 2000, 12
"""Of a source: how many annotations are read, and how many images are decoded."""
LARGEST_COPY = 5_000_000
"""Bytes of a data set's folder that is copied to see whether the fingerprint follows its content."""
TEXT = (".json", ".csv", ".txt", ".xml", ".yaml", ".jsonl", ".tsv")


@check("source")
def check_source(factory: Factory, **arguments: Any) -> None:
    """Check tables, every box, ids, images (each its own annotation's), pickling and the fingerprint.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe, for a small data set (``root`` too, if it needs one).

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    part = wire(factory, {"root": "."} | arguments if _takes_root(factory) else arguments)
    require(len(part) > 0, "the source has no images")
    _check_classes(part)
    state = random_states()
    truths = [part.annotation(index) for index in range(min(len(part), MOST_ANNOTATIONS))]
    for index, truth in enumerate(truths):
        check_annotation(truth, len(part.classes), f"annotation({index})")
        _check_extras(truth, extras_of(part))
    _check_tables(part, truths)
    _check_images(part, truths)
    require(random_states() == state, "a source draws from a global random generator")
    _check_copies(part, truths, factory, arguments)
    require(
        isinstance(part.invalid(), list) and all(isinstance(line, str) for line in part.invalid()),
        "invalid() gives a list of sentences",
    )
    _check_fingerprint(part, truths, factory, arguments)


def _check_extras(truth: Annotation, extras: dict[str, Extra]) -> None:
    try:
        values, known = carried(truth, extras)
    except DataError as error:
        raise ConformanceError(str(error)) from error
    undeclared = [name for name in truth.extra if name not in extras]
    require(not undeclared, f"Annotation.extra has {undeclared}, which the source's extras do not declare")
    for name, extra in extras.items():
        mask = known[name]
        require(
            mask.dtype == torch.bool and mask.shape == (len(truth.boxes),),
            f"extra_known[{name!r}] is bool (G,)",
        )
        require(finite(values[name][mask].double()), f"extra {name!r} holds NaN or infinity")
        if extra.kind == "keypoints":
            points = values[name][mask]
            seen = points[points[..., 2] > 0]
            limit = torch.tensor([truth.width, truth.height])
            require(
                bool(((seen[:, :2] >= -1e-3) & (seen[:, :2] <= limit + 1e-3)).all()),
                f"extra {name!r}: a visible keypoint leaves its image: x and y are in source pixels",
            )


def _takes_root(factory: Factory) -> bool:
    return "root" in inspect.signature(factory).parameters


def _check_classes(part: Any) -> None:
    require(
        isinstance(part.classes, tuple) and all(isinstance(name, str) and name for name in part.classes),
        f"classes is a tuple of names, none of them empty, not {part.classes!r}",
    )
    require(
        len(part.classes) == len(part.category_ids) == len(set(part.classes)) == len(set(part.category_ids)),
        "classes and category_ids: one id a class, names and ids unique",
    )


def check_annotation(truth: Annotation, classes: int, where: str) -> None:
    """Require one image's truth to keep its contract: boxes in its pixels, legal labels, ignored crowds."""
    require(isinstance(truth, Annotation), f"{where} is an Annotation, not {type(truth).__name__}")
    count = len(truth.boxes)
    require(
        truth.boxes.shape == (count, 4) and truth.boxes.dtype == torch.float32,
        f"{where}: boxes are float32 (G,4), also (0,4), not {truth.boxes.dtype} {tuple(truth.boxes.shape)}",
    )
    kinds = {"labels": torch.int64, "ignore": torch.bool, "crowd": torch.bool}
    for name in ("labels", "ignore", "crowd", "area"):
        values = getattr(truth, name)
        require(
            values.shape == (count,),
            f"{where}: {name} has {counted(len(values), 'entry')} for {counted(count, 'box')}",
        )
        wanted = kinds.get(name)
        require(
            values.dtype == wanted if wanted else values.is_floating_point(),
            f"{where}: {name} is {wanted or 'float'}, not {values.dtype}",
        )
    require(finite(truth.boxes, truth.area), f"{where}: a box or area is NaN or infinite")
    require(
        isinstance(truth.width, int) and isinstance(truth.height, int) and min(truth.width, truth.height) > 0,
        f"{where}: width and height are whole pixels, not {truth.width!r} x {truth.height!r}",
    )
    require(isinstance(truth.file_name, str), f"{where}: file_name is text, not {truth.file_name!r}")
    require(isinstance(truth.image_id, (int, str)), f"{where}: image_id is a number or text")
    corner, size = truth.boxes[:, 2:], torch.tensor([truth.width, truth.height])
    require(
        bool((corner > truth.boxes[:, :2]).all()), f"{where}: boxes are xyxy with x2 > x1, y2 > y1, in pixels"
    )
    require(
        bool((truth.boxes >= -1e-3).all() and (corner <= size + 1e-3).all()),
        f"{where}: a box leaves its image of {truth.width} x {truth.height} pixels: boxes are xyxy, clipped",
    )
    labels, ignore = truth.labels, truth.ignore
    require(bool(((labels >= -1) & (labels < classes)).all()), f"{where}: labels are 0..C-1, or -1")
    require(not bool((truth.crowd & ~ignore).any()), f"{where}: a crowd (iscrowd) is always ignored too")
    require(not bool(((labels == -1) & ~ignore).any()), f"{where}: an object of label -1 is ignored")
    areas = (corner - truth.boxes[:, :2]).prod(1)
    require(
        bool((truth.area <= 1.05 * areas + 1).all() and (truth.area >= 1e-3 * areas).all()),
        f"{where}: areas are in square pixels, at most their box's, not {truth.area.tolist()[:3]} for boxes "
        f"of {areas.tolist()[:3]}",
    )
    if truth.xywh is not None:
        exact = torch.cat([truth.xywh[:, :2], truth.xywh[:, :2] + truth.xywh[:, 2:]], 1)
        exact = torch.minimum(exact.clamp(min=0), size.repeat(2).double())
        require(same(exact, truth.boxes.double(), 1.0), f"{where}: xywh and boxes are different boxes")


def _check_tables(part: Any, truths: list[Annotation]) -> None:
    ids = [truth.image_id for truth in truths]
    require(len(set(ids)) == len(ids), "image ids are unique: two images of the source have the same")
    boxes = torch.cat([truth.boxes for truth in truths])
    largest = max(max(truth.width, truth.height) for truth in truths)
    require(
        len(boxes) == 0 or largest < 16 or float(boxes.max()) > 1.5,
        f"no box reaches beyond {float(boxes.max()) if len(boxes) else 0:g} in images of up to {largest} "
        f"pixels: boxes are in pixels of the source image, not in shares of it",
    )
    if hasattr(part, "sizes"):
        told = [tuple(int(v) for v in size) for size in part.sizes[: len(truths)]]
        require(
            told == [(truth.width, truth.height) for truth in truths],
            "sizes holds (width, height) of each image, as annotation gives it",
        )


def _content(image: Any) -> Any:
    return torch.as_tensor(image).clone() if hasattr(image, "shape") else image


def _check_images(part: Any, truths: list[Annotation]) -> None:
    """The pixels' size, the same twice, and the file that the annotation names."""
    step = max(1, len(truths) // MOST_IMAGES)
    names = {Path(truth.file_name).name for truth in truths}
    for index in range(0, len(truths), step):
        truth, image = truths[index], part.image(index)
        _, size = decode(image, decoding=Decoding("rgb"), placement_of=lambda w, h: Placement(8, 8, (8, 8)))
        require(
            size == (truth.width, truth.height),
            f"image({index}) is {size} (as displayed, after EXIF), its annotation says "
            f"{(truth.width, truth.height)}",
        )
        if isinstance(image, (str, os.PathLike)):
            name, wanted = Path(image).name, Path(truth.file_name).name
            require(
                name == wanted or name not in names,
                f"image({index}) is {name}, annotation({index}) is of {wanted}: both are of one image",
            )
        first, again = _content(image), _content(part.image(index))
        equal = torch.equal(first, again) if isinstance(first, torch.Tensor) else first == again
        require(equal, f"image({index}) gives another image when asked again")


def _check_copies(part: Any, truths: list[Annotation], factory: Factory, arguments: dict[str, Any]) -> None:
    twin = pickle.loads(pickle.dumps(part))
    again = wire(factory, {"root": "."} | arguments if _takes_root(factory) else arguments)
    for other, what in ((twin, "a pickled copy"), (again, "a second source"), (part, "the same source")):
        # The last first: an annotation must not depend on what was asked before.
        for index in reversed(range(len(truths))):
            given = other.annotation(index)
            require(
                len(other) == len(part)
                and given.image_id == truths[index].image_id
                and same(given, truths[index]),
                f"{what} must give the same annotation({index})",
            )
    with _without_hash():
        prints = [source.fingerprint() for source in (part, twin, again, part)]
    require(
        isinstance(prints[0], str) and prints[0] and len(set(prints)) == 1,
        f"fingerprint() is text, the same for a pickled copy and a second source of the same data: {prints}",
    )


@contextmanager
def _without_hash() -> Iterator[None]:
    """Python's own hash of texts differs from process to process."""
    real = builtins.hash

    def refuse(value: Any) -> int:
        require(
            not isinstance(value, (str, bytes, tuple)),
            "fingerprint() uses hash(), which differs from process to process: use hashlib",
        )
        return real(value)

    builtins.hash = refuse
    try:
        yield
    finally:
        builtins.hash = real


def _check_fingerprint(
    part: Any, truths: list[Annotation], factory: Factory, arguments: dict[str, Any]
) -> None:
    """A source of other content must have another fingerprint: whole numbers among the arguments are raised
    by 1, and in a copy of a small folder a line is taken from each annotation file."""
    for name, parameter in inspect.signature(factory).parameters.items():
        value = arguments.get(name, parameter.default)
        if isinstance(value, int) and not isinstance(value, bool):
            _compare(part, truths, factory, {**arguments, name: value + 1}, f"with {name} {value + 1}")
    root = Path(str(arguments.get("root", "")))
    if "root" not in arguments or not root.is_dir():
        return
    if sum(p.stat().st_size for p in root.rglob("*") if p.is_file()) > LARGEST_COPY:
        return
    with tempfile.TemporaryDirectory() as folder:
        for file in sorted(p for p in root.rglob("*") if p.suffix.lower() in TEXT)[:8]:
            changed = Path(folder) / "root"
            shutil.rmtree(changed, ignore_errors=True)
            shutil.copytree(root, changed)
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            (changed / file.relative_to(root)).write_text("".join(lines[:-1]), encoding="utf-8")
            _compare(
                part, truths, factory, {**arguments, "root": str(changed)}, f"without a line of {file.name}"
            )


def _compare(
    part: Any, truths: list[Annotation], factory: Factory, arguments: dict[str, Any], how: str
) -> None:
    try:
        other = factory(**arguments)
        differs = len(other) != len(part) or not all(
            same(other.annotation(i), truth) for i, truth in enumerate(truths)
        )
        own = other.fingerprint()
    except Exception:
        return  # the changed arguments or files are no data set
    require(
        not differs or own != part.fingerprint(),
        f"a source {how} has other annotations and the same fingerprint: it must change with the content",
    )
