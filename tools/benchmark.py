"""Measure what BENCHMARKS.md states: annotation databases at COCO's size, decoding and the cache,
augmentation, waiting for data, a training step beside torchvision's, prediction and evaluation beside their
network and decoding."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

REPEATS = 7


def add_parser(subparsers: Any) -> None:
    """densedet benchmark TOPIC"""
    from densedet.tools.benchmark_gpu import gpu
    from densedet.tools.benchmark_inference import inference
    from densedet.tools.benchmark_large import large
    from densedet.tools.benchmark_plan import plan
    from densedet.tools.benchmark_prediction import evaluation, prediction
    from densedet.tools.benchmark_race import OURS, PEERS, race
    from densedet.tools.benchmark_recipes import recipes
    from densedet.tools.benchmark_speed import speed, startup
    from densedet.tools.benchmark_step import step
    from densedet.tools.benchmark_training import training

    parser = subparsers.add_parser(
        "benchmark", help="measure the figures of BENCHMARKS.md on this machine", description=__doc__
    )
    topics = parser.add_subparsers(dest="topic", metavar="TOPIC", required=True)
    boxes = topics.add_parser(
        "annotations", help="databases of COCO train2017's size", description=databases.__doc__
    )
    boxes.add_argument(
        "--scale", type=float, default=1.0, help="share of 118,287 images and 860,001 boxes (default 1)"
    )
    boxes.add_argument(
        "--json-too",
        action="store_true",
        help="also a 560 MB JSON file: converted, and read by pycocotools where it is installed",
    )
    boxes.set_defaults(run=databases)
    pictures = topics.add_parser(
        "images", help="decoding, the cache, augmentation", description=images.__doc__
    )
    pictures.add_argument("folder", help="a folder of JPEGs of about 640x480")
    pictures.add_argument("--size", nargs=2, type=int, metavar=("WIDTH", "HEIGHT"), default=(128, 64))
    pictures.set_defaults(run=images)
    runs = topics.add_parser(
        "training", help="the share of training time spent waiting for data", description=training.__doc__
    )
    runs.add_argument("data", help="a folder in COCO's format (or its annotation file)")
    runs.add_argument("--split", default="train", help="which part of the folder (default train)")
    runs.add_argument("--epochs", type=int, default=5, help="of each of the four runs (default 5)")
    runs.add_argument("--threads", type=int, help="cores that PyTorch may use (default: all)")
    runs.set_defaults(run=lambda arguments: tell(training(arguments), arguments.json))
    whole = topics.add_parser(
        "large", help="memory and first step on a set of COCO train2017's size", description=large.__doc__
    )
    whole.add_argument("--scale", type=float, default=1.0, help="share of its images and boxes (default 1)")
    whole.add_argument("--epochs", type=int, default=3, help="of a run (default 3)")
    whole.add_argument("--folder", help="where the set is made, about 2 GB (default: the temporary folder)")
    whole.set_defaults(run=lambda arguments: tell(large(arguments), arguments.json))
    steps = topics.add_parser(
        "step",
        help="a training step beside torchvision's, same network and weights",
        description=step.__doc__,
    )
    steps.add_argument(
        "--rounds", type=int, default=15, help="how often each is timed, in turns (default 15)"
    )
    steps.set_defaults(run=lambda arguments: tell(step(arguments) | step_memory(), arguments.json))
    predicting = topics.add_parser(
        "prediction",
        help="predict on a folder beside its network and decoding",
        description=prediction.__doc__,
    )
    predicting.add_argument("checkpoint", help="a run folder or a checkpoint")
    predicting.add_argument("folder", help="a folder of photographs, which are taken again until --images")
    predicting.add_argument("--images", type=int, default=1000, help="number of images (default 1000)")
    predicting.add_argument("--batch_size", type=int, default=16, help="images at once (default 16)")
    predicting.add_argument("--score", type=float, default=0.3, help="as of densedet predict (default 0.3)")
    predicting.set_defaults(run=lambda arguments: tell(prediction(arguments), arguments.json))
    evaluating = topics.add_parser(
        "evaluation", help="an evaluation beside its forward pass", description=evaluation.__doc__
    )
    evaluating.add_argument("checkpoint", help="a run folder or a checkpoint")
    evaluating.add_argument("overrides", nargs="*", metavar="path=value", help="e.g. data.root=DIR")
    evaluating.set_defaults(run=lambda arguments: tell(evaluation(arguments), arguments.json))
    for one in (predicting, evaluating):
        one.add_argument("--rounds", type=int, default=5, help="rounds that count (default 5)")
        one.add_argument("--device", default="cpu", help="auto, cpu, cuda, mps (default cpu)")
    plans = topics.add_parser("plan", help="what --plan predicts beside short runs", description=plan.__doc__)
    plans.add_argument("recipes", nargs="*", help="names or files (default: all shipped recipes)")
    plans.add_argument("--set", nargs="+", default=[], metavar="path=value", help="for all of them")
    plans.set_defaults(run=lambda arguments: tell(plan(arguments), arguments.json))
    proofs = topics.add_parser(
        "recipes",
        help="what recipes say that they reach, and what they reach here",
        description=recipes.__doc__,
    )
    proofs.add_argument(
        "recipes",
        nargs="*",
        metavar="RECIPE|path=value",
        help="recipes, each with its changes, e.g. bccd_ssd data.root=DIR (default: the shipped ones that "
        "state something)",
    )
    proofs.set_defaults(run=recipes)
    racing = topics.add_parser(
        "race",
        help="AP after the same minutes beside torchvision's, and the minutes until an AP",
        description=race.__doc__,
    )
    racing.add_argument(
        "contestants",
        nargs="*",
        metavar="NAME",
        help=f"{', '.join((*OURS, *PEERS))}, or a recipe (default: these five)",
    )
    racing.add_argument("--db", required=True, metavar="FILE", help="annotations to train on")
    racing.add_argument("--images", metavar="DIR", help="their images (default: where the format has them)")
    racing.add_argument("--val-db", metavar="FILE", help="annotations to evaluate on, as of densedet train")
    racing.add_argument("--val-images", metavar="DIR", help="their images (default: --images)")
    racing.add_argument("--minutes", type=float, default=10, help="of training each (default 10)")
    racing.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default 0 1 2)")
    racing.add_argument("--to", type=float, metavar="AP", help="find the minutes, up to --minutes, until it")
    racing.add_argument("--set", nargs="+", default=[], metavar="path=value", help="for all of them")
    racing.set_defaults(plugin=[], run=lambda arguments: tell(race(arguments), arguments.json))
    speeds = topics.add_parser(
        "speed", help="images/s and memory of training small recipes", description=speed.__doc__
    )
    speeds.add_argument("recipes", nargs="*", help="names or files (default: laptop_nano, the quick starts)")
    speeds.add_argument("--steps", type=int, default=200, help="of a run (default 200)")
    speeds.add_argument("--rounds", type=int, default=3, help="runs of each, in turns (default 3)")
    speeds.add_argument("--set", nargs="+", default=[], metavar="path=value", help="for all of them")
    speeds.set_defaults(run=lambda arguments: tell(speed(arguments), arguments.json))
    begins = topics.add_parser(
        "startup", help="seconds until commands and runs begin", description=startup.__doc__
    )
    begins.add_argument("--rounds", type=int, default=5, help="how often each is timed, in turns (default 5)")
    begins.set_defaults(run=lambda arguments: tell(startup(arguments), arguments.json))
    found = topics.add_parser(
        "inference",
        help="PyTorch, ONNX and int8, batch 1 and 16, 1 and 2 threads",
        description=inference.__doc__,
    )
    found.add_argument("detectors", nargs="+", metavar="RUN", help="run folders, checkpoints or recipes")
    found.add_argument(
        "--set", nargs="+", default=[], dest="overrides", metavar="path=value", help="for all of them"
    )
    found.add_argument(
        "--rounds", type=int, default=15, help="how often each is timed, in turns (default 15)"
    )
    found.set_defaults(run=lambda arguments: tell(inference(arguments), arguments.json))
    card = topics.add_parser(
        "gpu", help="training steps on a GPU: images/s, share busy, waits", description=gpu.__doc__
    )
    card.add_argument("recipes", nargs="*", help="names or files (default: the quick starts, bccd_retinanet)")
    card.add_argument("--seconds", type=float, default=10, help="of each measurement (default 10)")
    card.add_argument("--workers", type=int, default=4, help="processes that load (default 4)")
    card.add_argument("--device", default="cuda", help="cuda, cuda:1 ... (default cuda)")
    card.set_defaults(run=lambda arguments: tell(gpu(arguments), arguments.json))
    for one in (
        *(boxes, pictures, runs, whole, steps, predicting, evaluating),
        *(plans, proofs, racing, speeds, begins, found, card),
    ):
        one.add_argument("--json", action="store_true", help="print as JSON")


def databases(arguments: argparse.Namespace) -> int:
    """Write, open, check, filter and read a made database, each figure the median of seven, memory in a
    process of its own."""
    from densedet.tools.benchmark_files import BOXES, IMAGES, coco_like, coco_like_table

    count = int(IMAGES * arguments.scale), int(BOXES * arguments.scale)
    rows: dict[str, Any] = {"images": count[0], "boxes": count[1]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.json_too:
            table = coco_like(folder / "x.json", *count)
            rows["json MB"] = round((folder / "x.json").stat().st_size / 1e6)
            for label, script in READERS.items():
                rows[label] = in_process(script, str(folder))
        else:
            table = coco_like_table(*count)

        for suffix, name_of_source in (("db", "flatbuffers"), ("sqlite", "sqlite")):
            kind = part("source", name_of_source)
            begin = time.perf_counter()
            kind.write(table, folder / f"x.{suffix}")
            rows[f".{suffix}: write s"] = round(time.perf_counter() - begin, 2)
            rows[f".{suffix}: MB"] = round((folder / f"x.{suffix}").stat().st_size / 1e6, 1)
            rows |= {
                f".{suffix}: {key}": value for key, value in in_process(DATABASE, str(folder), suffix).items()
            }
    return tell(rows, arguments.json)


DATABASE = """
import json, resource, sys, time
from pathlib import Path
from statistics import median
import numpy as np
from densedet.core.annotations.where import where_masks
from densedet.core.training.memory import used_mb
folder, suffix = sys.argv[1:]
from densedet.plugins.sources.flatbuffers_db import FlatBuffersSource
from densedet.plugins.sources.sqlite import SQLiteSource
kind = {"db": FlatBuffersSource, "sqlite": SQLiteSource}[suffix]
import torch
from densedet.core.annotations.filters import filtered
from densedet.core.annotations.filter_rules import FilterSection
from densedet.plugins.resize.exact import ExactResize
before = used_mb()
def source(): return kind(annotations=f"x.{suffix}", images=".", root=folder)
kept = source(); kept.table.xywh.sum() + kept.table.areas.sum() + kept.table.ids.sum()
memory = round(used_mb() - before, 1)
def timed(act, repeats=7):
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter(); act(); seconds.append(time.perf_counter() - begin)
    return median(seconds)
def opened():
    one = source(); one._open(); return one
result = {"memory added, every column read MB": memory, "open ms": round(1e3 * timed(opened), 2)}
def whole():
    one = opened(); begin = time.perf_counter(); len(one.table); return time.perf_counter() - begin
result["check all values at first use ms"] = round(1e3 * median(whole() for _ in range(3)), 1)
one = source(); len(one.table); images = len(one)
names = ("person", "car")
rules = FilterSection(empty="drop", rest="drop")
def narrow():
    return filtered(one, rules, classes=names, resize=ExactResize(size_wh=(128, 64)))
def select():
    return where_masks(one, "class in ('person', 'car')")
result["filter to two classes ms"] = round(1e3 * timed(narrow), 1)
result["where class in two ms"] = round(1e3 * timed(select, 3), 1)
order = np.random.default_rng(0).integers(0, images, 20000).tolist()
reads = {"an image's boxes us": one.table.objects, "an image's annotation (tensors) us": one.annotation}
for label, act in reads.items():
    seconds = []
    for part in range(5):
        begin = time.perf_counter()
        for index in order[part * 4000 : part * 4000 + 4000]: act(index)
        seconds.append((time.perf_counter() - begin) / 4000)
    result[label] = round(1e6 * median(seconds), 1)
print(json.dumps(result))
"""

CONVERT = """
import json, resource, sys, time
from pathlib import Path
begin = time.perf_counter()
from densedet.core.annotations.conversion import convert, open_source, recognise, writer_of
from densedet.core.recipe.plugin_loading import load_plugins
components = load_plugins([]).components
folder = Path(sys.argv[1])
source = open_source(recognise(folder / "x.json", components), components)
convert(source, writer_of(folder / "y.db", components), folder / "y.db")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
seconds = round(time.perf_counter() - begin, 1)
print(json.dumps({"seconds": seconds, "peak MB": round(peak), "torch loaded": "torch" in sys.modules}))
"""

LOAD = """
import json, resource, sys, time
begin = time.perf_counter()
json.load(open(sys.argv[1] + "/x.json"))
seconds = round(time.perf_counter() - begin, 1)
print(json.dumps({"seconds": seconds,
    "peak MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)}))
"""

PYCOCOTOOLS = """
import contextlib, io, json, resource, sys, time
begin = time.perf_counter()
from pycocotools.coco import COCO
with contextlib.redirect_stdout(io.StringIO()):
    coco = COCO(sys.argv[1] + "/x.json")
seconds = time.perf_counter() - begin
begin = time.perf_counter()
images = set(coco.getImgIds(catIds=[1])) | set(coco.getImgIds(catIds=[3]))
filtering = time.perf_counter() - begin
begin = time.perf_counter()
order = sorted(coco.imgs)[::10]
for image in order: coco.loadAnns(coco.getAnnIds(imgIds=[image]))
access = (time.perf_counter() - begin) / len(order)
print(json.dumps({"open seconds": round(seconds, 1), "filter to two classes ms": round(1e3 * filtering, 1),
    "an image's boxes us": round(1e6 * access, 1),
    "peak MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)}))
"""

READERS = {"densedet convert x.json y.db": CONVERT, "json.load": LOAD, "pycocotools": PYCOCOTOOLS}


def in_process(script: str, *arguments: str) -> dict[str, Any]:
    """What a script prints, run alone in a fresh process."""
    from densedet.core.signals import run_to_end

    done = run_to_end([sys.executable, "-c", script, *arguments], with_errors=True)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}
    return json.loads(done.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


def images(arguments: argparse.Namespace) -> int:
    """Milliseconds an image on one core, medians of seven alternating rounds: decoding to grey at --size,
    cached reading, augmentation."""
    import torch

    torch.set_num_threads(1)
    paths = sorted(p for p in Path(arguments.folder).iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))[:100]
    if not paths:
        from densedet.core.errors import DataError

        raise DataError(f"there are no JPEGs in {arguments.folder}")
    rows = decoding(paths, tuple(arguments.size)) | augmentation(tuple(arguments.size))
    return tell(rows, arguments.json)


def alternating(acts: dict[str, Callable[[], Any]], count: int) -> dict[str, float]:
    """{name: median milliseconds per item} of acts that each handle ``count`` items, run in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in acts}
    for act in acts.values():
        act()
    for _ in range(REPEATS):
        for name, act in acts.items():
            begin = time.perf_counter()
            act()
            seconds[name].append((time.perf_counter() - begin) / count)
    return {name: round(1e3 * median(values), 3) for name, values in seconds.items()}


def decoding(paths: list[Path], size: tuple[int, int]) -> dict[str, Any]:
    """A plain full decode, ours, and ours from the cache; and by how many grey levels ours differs from the
    plain one."""
    import numpy as np
    import torch
    from PIL import Image

    from densedet.core.annotations.builder import TableBuilder
    from densedet.core.annotations.image_header import image_size
    from densedet.core.data.dataset import DetectionDataset, sample_of
    from densedet.core.data.decoding import Decoding
    from densedet.core.data.image_cache import fitting_cache

    def plain(path: Path) -> Any:
        with Image.open(path) as picture:
            grey = picture.convert("RGB").resize(size, Image.Resampling.BILINEAR).convert("L")
        return torch.from_numpy(np.array(grey))[None]

    resize, database = part("resize", "exact")(size_wh=size), part("source", "flatbuffers")
    grey = Decoding("grey")
    with tempfile.TemporaryDirectory() as name:
        builder = TableBuilder("benchmark")
        builder.add_class(1, "thing")
        for index, path in enumerate(paths):
            builder.add_image(index, path.name, *image_size(path))
            builder.add_box(index, 1, (0, 0, 50, 50))
        database.write(builder.finish(), Path(name) / "x.db")
        source: Any = database(annotations=str(Path(name) / "x.db"), images=str(paths[0].parent.resolve()))
        cache, _ = fitting_cache(
            source, resize=resize, decoding=grey, limit_gb=1, folder=str(Path(name) / "cache")
        )
        cached = DetectionDataset(source, resize=resize, decoding=grey, classes=("thing",), cache=cache)
        ours = [sample_of(path, decoding=grey, resize=resize).image for path in paths]
        difference = float(
            np.mean([(o.float() - plain(p).float()).abs().mean().item() for o, p in zip(ours, paths)])
        )
        acts = {
            "plain full decode ms": lambda: [plain(path) for path in paths],
            "decode ms": lambda: [sample_of(path, decoding=grey, resize=resize) for path in paths],
            "cached ms": lambda: [cached[index] for index in range(len(paths))],
        }
        rows: dict[str, Any] = {"images": len(paths), **alternating(acts, len(paths))}
    rows["decode: times as fast"] = round(rows["plain full decode ms"] / rows["decode ms"], 2)
    rows["cached: times as fast"] = round(rows["plain full decode ms"] / rows["cached ms"], 1)
    rows["grey levels of difference"] = round(difference, 2)
    return rows


def augmentation(size: tuple[int, int], count: int = 16) -> dict[str, Any]:
    """SSD's transforms sample by sample against the batched ones: flip, crop and photometric, the same with
    affine for crop, affine alone."""
    import torch

    from densedet.core.data.dataset import DetectionDataset
    from densedet.core.data.loader import BatchDataset

    rows: dict[str, Any] = {}
    for color in ("grey", "rgb"):
        source = Held(part("source", "digits")(count=count, size=size, color=color))
        names = (
            "RandomPhotometricDistort",
            "RandomZoomOut",
            "RandomIoUCrop",
            "SanitizeBoundingBoxes",
            "RandomHorizontalFlip",
        )
        single = [part("transform", name)() for name in names]
        batched = [part("batch_transform", name)() for name in ("flip", "crop", "photometric")]
        turned = [part("batch_transform", name)() for name in ("flip", "affine", "photometric")]
        shared: dict[str, Any] = {
            "resize": part("resize", "exact")(size_wh=size),
            "color": color,
            "classes": source.classes,
        }
        sets = {
            "none": BatchDataset(DetectionDataset(source, **shared)),  # type: ignore[arg-type]
            "per sample": BatchDataset(DetectionDataset(source, transforms=single, **shared)),  # type: ignore[arg-type]
            "batched": BatchDataset(DetectionDataset(source, **shared), transforms=batched),  # type: ignore[arg-type]
            "batched, affine": BatchDataset(DetectionDataset(source, **shared), transforms=turned),  # type: ignore[arg-type]
            "affine alone": BatchDataset(DetectionDataset(source, **shared), transforms=turned[1:2]),  # type: ignore[arg-type]
        }
        step = iter(range(1_000_000))
        acts: dict[str, Callable[[], Any]] = {
            name: partial(_batch, data, step, count) for name, data in sets.items()
        }
        with torch.no_grad():
            times = alternating(acts, count)
        took = {name: time - times["none"] for name, time in times.items() if name != "none"}
        rows |= {f"{color}: {name} augmentation ms": round(time, 3) for name, time in took.items()}
        rows |= {
            f"{color}: {name} / per sample": round(time / took["per sample"], 3)
            for name, time in took.items()
            if name != "per sample"
        }
    return rows


def _batch(data: Any, step: Iterator[int], count: int) -> Any:
    from densedet.core.data.loader import BatchKey

    return data[BatchKey(next(step), 0, tuple(range(count)))]


class Held:
    """A source whose images are drawn beforehand, so that only augmentation is measured."""

    def __init__(self, source: Any) -> None:
        self.classes, self.category_ids = source.classes, source.category_ids
        self._rows = [(source.annotation(i), source.image(i)) for i in range(len(source))]

    def __len__(self) -> int:
        return len(self._rows)

    def annotation(self, index: int) -> Any:
        return self._rows[index][0]

    def image(self, index: int) -> Any:
        return self._rows[index][1]


def step_memory() -> dict[str, Any]:
    """Peak memory of four training steps, each side in a process of its own."""
    from densedet.tools.benchmark_step import MEMORY

    sides = {"torchvision": "torchvision's", "float32": "ours, float32", "default": "ours, default"}
    return {f"{label}: memory": in_process(MEMORY, side) for side, label in sides.items()}


def part(kind: str, name: str) -> Any:
    """A built-in component, through the registry like everybody."""
    from densedet.core.recipe.plugin_loading import load_plugins

    return load_plugins([]).components.get(kind, name).load()


def tell(rows: dict[str, Any], as_json: bool) -> int:
    """Print the figures."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return 0
    for key, value in rows.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        print(f"{key:<44} {text}")
    return 0


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
