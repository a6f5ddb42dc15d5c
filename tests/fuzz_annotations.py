"""Mutates small valid annotation files by the thousand: each is read correctly or refused with a sentence.

    python tests/fuzz_annotations.py --db 100000 --others 10000 --seed 0

A crash, a hang (10 s for one file), another exception than DataError or memory beyond a bound ends it with
exit code 1 and the seed of the case.
"""

from __future__ import annotations

import argparse
import random
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.faults import CLIPPED, Faults, box_faults
from densedet.core.annotations.table import AnnotationTable
from densedet.core.errors import DataError
from densedet.plugins.sources._flatbuffers_file import Database
from densedet.plugins.sources.coco import CocoSource
from densedet.plugins.sources.flatbuffers_db import FlatBuffersSource
from densedet.plugins.sources.sqlite import SQLiteSource
from densedet.plugins.sources.voc import VOCSource
from densedet.plugins.sources.yolo import YOLOSource

SECONDS = 10
MEGABYTES = 300
"""Above what the process had at the start; the files have a few KB, SQLite's own caches some MB."""

NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    255,
    256,
    1 << 15,
    (1 << 16) - 1,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 4,
    (1 << 32) - 1,
)
FLOATS = (float("nan"), float("inf"), -float("inf"), -0.0, 5e-324, 1e308, -1e308, 1e-40, -1.0)
TEXTS = (
    b"../",
    b"..\\",
    b"/",
    b"C:",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"[",
    b"{",
    b'"',
    b"\\",
    b"<",
    b"&",
    b"<!DOCTYPE x",
    b"1e999",
    b"-",
    b"NaN",
    b"9" * 400,
    b"\n",
)


def table() -> AnnotationTable:
    """Three images, five boxes."""
    builder = TableBuilder("fuzz")
    builder.add_class(90, "toothbrush")
    builder.add_class(3, "car")
    for image_id, name in ((9, "a.jpg"), (4, "deep/b.jpg"), (7, "empty.jpg")):
        builder.add_image(image_id, name, 100, 50)
    for number, (image_id, label) in enumerate(((9, 90), (4, 3), (4, 90), (9, 3), (4, 3))):
        builder.add_box(
            image_id,
            label,
            (number, 1.5, 20, 3.25),
            area=60.5,
            crowd=number == 1,
            ignore=number == 2,
            id=number + 1,
        )
    return builder.finish()


def mutated(content: bytes, draw: random.Random) -> bytes:
    """One to four changes: flipped bits, numbers of 16, 32 and 64 bits, texts, cuts, doublings, swaps."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(max(len(data), 1))
        kind = draw.randrange(8)
        if kind == 0 and data:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            form, value = draw.choice(("<H", "<I", "<Q")), draw.choice(NUMBERS)
            if draw.random() < 0.5:
                at -= at % 4
            piece = struct.pack(form, value & ((1 << 8 * struct.calcsize(form)) - 1))
            data[at : at + len(piece)] = piece
        elif kind == 2:
            data[at - at % 8 : at - at % 8 + 8] = struct.pack("<d", draw.choice(FLOATS))
        elif kind == 3:
            piece = draw.choice(TEXTS)
            data[at : at + (len(piece) if draw.random() < 0.5 else 0)] = piece
        elif kind == 4:
            del data[at:]
        elif kind == 5:
            other, length = draw.randrange(max(len(data), 1)), draw.choice((1, 4, 8, 32))
            data[at : at + length], data[other : other + length] = (
                data[other : other + length],
                data[at : at + length],
            )
        elif kind == 6:
            del data[at : at + draw.choice((1, 2, 4, 8))]
        else:
            data[at:at] = data[at : at + draw.choice((1, 4, 64))]
    return bytes(data)


def sound(found: AnnotationTable) -> None:
    """What every table that was read must keep to."""
    assert (
        len(found.xywh)
        == len(found.labels)
        == len(found.flags)
        == len(found.areas)
        == len(found.ids)
        == found.offsets[-1]
    )
    assert (np.diff(found.offsets.astype(np.int64)) >= 0).all()
    assert not len(found.labels) or int(found.labels.max()) < len(found.classes)
    assert np.isfinite(found.areas).all()
    assert set(np.unique(box_faults(found.xywh, found.sizes, found.owners()))) <= {0, CLIPPED}
    for index in range(len(found)):
        name = found.name(index)
        assert (
            "\0" not in name
            and not name.startswith(("/", "\\"))
            and ".." not in name.replace("\\", "/").split("/")
        ), name
        boxes = found.objects(index).boxes
        assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()


def read_db(path: Path) -> None:
    opened = Database(path)
    sound(opened.checked(Faults()))


def read_sqlite(path: Path) -> None:
    lenient = SQLiteSource(annotations=str(path), images=str(path.parent))
    lenient.faults = Faults(strict=False)
    sound(lenient.table)
    source = SQLiteSource(annotations=str(path), images=str(path.parent))
    alone = [source.annotation(index) for index in range(min(len(source), 50))]
    sound(source.table)
    assert len(alone) == min(len(source.table), 50)
    for where in ("class = 'car' or width > 3", "class = 'car'", "width > 3", "x > 1"):
        source.where_masks(where)


def read_json(path: Path) -> None:
    sound(CocoSource(annotations=str(path), images=str(path.parent)).table)


def read_voc(path: Path) -> None:
    sound(VOCSource(annotations=str(path.parent), images=str(path.parent)).table)


def read_yolo(path: Path) -> None:
    root = path.parent.parent.parent if path.suffix == ".txt" else path.parent
    sound(YOLOSource(root=str(root)).table)


def cases(folder: Path) -> dict[str, tuple[Path, Callable[[Path], None]]]:
    """{name: (a valid file, what reads it)}."""
    FlatBuffersSource.write(table(), folder / "db" / "x.db")
    SQLiteSource.write(table(), folder / "sqlite" / "x.sqlite")
    CocoSource.write(table(), folder / "json" / "x.json")
    VOCSource.write(table(), folder / "voc")
    YOLOSource.write(table(), folder / "yolo")
    return {
        "db": (folder / "db" / "x.db", read_db),
        "sqlite": (folder / "sqlite" / "x.sqlite", read_sqlite),
        "json": (folder / "json" / "x.json", read_json),
        "voc": (folder / "voc" / "Annotations" / "deep" / "b.xml", read_voc),
        "yolo label": (folder / "yolo" / "labels" / "train" / "a.txt", read_yolo),
        "yolo yaml": (folder / "yolo" / "data.yaml", read_yolo),
        "yolo side file": (folder / "yolo" / "densedet_extra_train.jsonl", read_yolo),
    }


def fuzz(name: str, path: Path, read: Callable[[Path], None], count: int, seed: int) -> Counter[str]:
    """{"read" or "refused": number}. Raises AssertionError with the case's number."""
    good, outcome = path.read_bytes(), Counter[str]()
    read(path)
    for case in range(count):
        content = mutated(good, random.Random(f"{name} {seed} {case}"))
        path.write_bytes(content)
        signal.alarm(SECONDS)
        try:
            read(path)
            outcome["read"] += 1
        except DataError as error:
            assert str(error).strip(), "an empty sentence"
            outcome["refused"] += 1
        except Exception as error:
            raise AssertionError(
                f"{name}, seed {seed}, case {case}: {type(error).__name__}: {error}"
            ) from error
        finally:
            signal.alarm(0)
    path.write_bytes(good)
    return outcome


def peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", type=int, default=100_000)
    parser.add_argument("--others", type=int, default=10_000, help="of each other format")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("a hang")))
    with tempfile.TemporaryDirectory() as folder:
        rows = cases(Path(folder))
        import densedet.core.types  # noqa: F401 torch itself is not what is measured

        before = peak_mb()
        for name, (path, read) in rows.items():
            begin = time.perf_counter()
            outcome = fuzz(
                name, path, read, arguments.db if name == "db" else arguments.others, arguments.seed
            )
            grown = peak_mb() - before
            print(
                f"{name}: {dict(outcome)} in {time.perf_counter() - begin:.0f} s, {grown:.0f} MB more "
                f"than at the start",
                flush=True,
            )
            assert grown < MEGABYTES, "memory grew"
    return 0


if __name__ == "__main__":
    sys.exit(main())
