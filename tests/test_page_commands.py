"""Every command that the README and the pages of docs/ show runs, on a small desk and with a small budget."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from densedet.tools.main import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "lessons.md"),
    *sorted((ROOT / "docs" / "how").glob("*.md")),
]
"""The commands of lessons.md need a student's solutions: tests/core/lessons/test_course.py runs them."""
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

ELSEWHERE = {
    "python tools/bootstrap.py": "tests/tools/test_bootstrap.py; .ci/run calls it",
    "tensorboard": "another program",
    "pip": "another program",
    "parallel": "another program",
    "densedet train retinanet_r50_fpn": "tests/test_recipes.py, since its images are large",
    "torchrun": "tests/core/test_distributed_runs.py: a process takes seconds to start",
    "srun": "needs Slurm",
    "densedet convert weights": "tests/tools/test_weights_commands.py: the files have 100 MB and more",
    "densedet predict runs/bccd_ssd/1 camera:0": "needs a camera; tests/tools/test_predict_video.py",
    "densedet check data quickstart_ssd": "tests/test_examples.py runs the page about checking",
    "densedet check recipe": "likewise",
    "densedet check lr": "likewise",
    "densedet check nan": "likewise",
    "densedet check lesson": "tests/core/lessons: a student has to fill the holes before",
    "densedet compare a.yaml b.yaml --seeds 3 --launcher": "needs a cluster; tests/plugins/launchers",
}
"""Beginnings of commands that do not run here, and why, or where they do."""

VGG = "torchvision/ssd300_vgg16"
REFUSED = {
    "densedet train quickstart_retinanet model.neck=identity": 2,
    "densedet check lesson my_iou.py --output pictures": 1,
    f"densedet predict {VGG} photo.jpg model.weights=SSD300_VGG16_Weights.COCO_V1": 2,
    f"densedet evaluate {VGG} model.weights=ssd300_vgg16_coco-b556d3b4.pth data.root=DIR": 2,
}
"""Exit codes of commands that a page shows because they are refused, whose weights are not here, or whose
lesson is not solved."""

FEW = ("train.evaluations=1", "train.batch_size=4", "run.hooks=[{name: metrics}, {name: checkpoint}]")
DIGITS = ("data.train.count=8", "data.val.count=20", "model.backbone.widths=[8, 8, 8]")
SIZE = "data.input_size_wh=[96,64]"


def commands_of(page: Path) -> list[str]:
    """The commands in a page's blocks, one string each, without comments."""
    lines: list[str] = []
    for block in page.read_text(encoding="utf-8").split("```")[1::2]:
        language, _, text = block.partition("\n")
        if language in ("", "sh", "bash"):
            lines += re.sub(r" *\\\n *", " ", text).splitlines()
    shown = re.compile(r"(densedet \w+(?!\w|:)|(python|tensorboard|pip|parallel|torchrun|srun) [^=:])")
    return [re.sub(r" +#.*", "", line) for line in lines if shown.match(line)]


AFTER = {
    "--minutes": "0.02",
    "--epochs": "4",
    "--batch_size": "4",
    "--budget": "steps=2",
    "--trials": "2",
    "--seeds": "1",
}
"""Options whose values are made small."""


def small(words: list[str]) -> list[str]:
    """A command with a budget of two steps, and few images."""
    words = [AFTER.get(before, word) for before, word in zip(["", *words], words)]
    words = ["train.budget.steps=4" if word.startswith("train.budget") else word for word in words]
    command, recipe = words[0], next((word for word in words[1:] if not word.startswith("-")), "")
    if command == "predict" and "--as" in words:
        words += ["--score", "0.01"]  # two steps make no detector that is sure of anything
    if (
        command not in ("train", "compare", "tune")
        or recipe == "auto"
        or "--db" in words
        or "--resume" in words
    ):
        return words
    if "--ladder" in words or recipe == "finetune_small" or "--jobs" in words:
        # tests/core/study trains a ladder, and other commands train what these compare
        return [*words, "--dry-run"]
    if command != "train":
        words += ["--launcher", "forked", "--plugin", str(Path(__file__).with_name("forked_launcher.py"))]
        words += ["--rounds", "0"] if command == "compare" else []
        if "--budget" not in words and not recipe.startswith("runs"):
            words += ["--budget", "steps=2"]
    elif not any(word.startswith("train.budget") for word in words):
        words.append("train.budget={steps: 2}")
    if not recipe.startswith("runs"):
        words += FEW
        if "input_size" not in str(words) and not recipe.startswith(("quickstart", "examples", "a.yaml")):
            words.append(SIZE)
        if recipe.startswith(("quickstart", "a.yaml")):
            words += DIGITS if "--on" not in words else DIGITS[-1:]
        if recipe.endswith(("my_head.yaml", "my_hook.yaml", "centernet.yaml", "keypoint_head.yaml")):
            words += DIGITS[:2]
    return words


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the pages' commands name: photographs, annotations, runs."""
    folder = tmp_path_factory.mktemp("desk")
    annotations = draw_photographs(folder / "DIR" / "images", 24)
    (folder / "DIR" / "annotations.json").write_text(json.dumps(annotations))
    for name, numbers in (("train", range(16)), ("val", range(16, 20)), ("test", range(20, 24))):
        (folder / "DIR" / f"annotations_{name}.json").write_text(json.dumps(only(annotations, numbers)))
    for name in ("instances_train2017.json", "train.json", "val.json"):
        (folder / name).write_text(json.dumps(annotations))
    shutil.copytree(folder / "DIR", folder / "BCCD")
    shutil.copytree(folder / "DIR" / "images", folder / "DIR", dirs_exist_ok=True)  # for `--images DIR`
    for name in ("train2017", "photographs", "photos", "more_photos", "aerial", "images"):
        shutil.copytree(folder / "DIR" / "images", folder / name)
    coco = folder / "COCO"
    (coco / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        shutil.copytree(folder / "DIR" / "images", coco / split)
        (coco / "annotations" / f"instances_{split}.json").write_text(json.dumps(annotations))
    shutil.copy(folder / "photos" / "000.jpg", folder / "photo.jpg")
    shutil.copytree(ROOT / "examples", folder / "examples")
    for name, base in (("a", "quickstart_ssd"), ("b", "quickstart_retinanet")):
        (folder / f"{name}.yaml").write_text(f"base: [densedet:{base}.yaml]\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["convert", "train.json", "labelled", "--to", "labelme"]) == 0
        for file in (folder / "labelled" / "train").glob("*.json"):
            file.rename(folder / "photos" / file.name)
        for recipe in ("bccd_ssd", "bccd_retinanet"):
            assert main(small(["train", recipe, "data.root=DIR"])) == 0
        assert main(small(["train", "examples/beside_a_recipe/centernet.yaml"])) == 0
        assert main(small(["train", "quickstart_retinanet", "run.folder=shown/runs"])) == 0
        film(folder / "photos", folder / "clip.mp4")
    return folder


def draw_photographs(folder: Path, count: int) -> dict[str, list[dict[str, Any]]]:
    """JPEGs of balls and boxes on noise; their annotations in COCO's format, people and cars by name."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, boxes = [], []
    for number in range(count):
        picture = Image.fromarray(rng.integers(90, 160, (480, 640, 3), dtype=np.uint8))
        pen = ImageDraw.Draw(picture)
        for _ in range(3):
            x, y, side = (int(rng.integers(*limits)) for limits in ((0, 440), (0, 280), (80, 199)))
            label = int(rng.integers(1, 4))
            draw = pen.ellipse if label == 1 else pen.rectangle
            draw((x, y, x + side, y + side), fill=((200, 40, 40), (40, 60, 200), (30, 160, 60))[label - 1])
            boxes.append(
                {"id": len(boxes) + 1, "image_id": number, "category_id": label, "bbox": [x, y, side, side]}
            )
        picture.save(folder / f"{number:03d}.jpg")
        images.append({"id": number, "file_name": f"{number:03d}.jpg", "width": 640, "height": 480})
    names = ("person", "bicycle", "car")
    categories = [{"id": place, "name": name} for place, name in enumerate(names, start=1)]
    rows = [{"iscrowd": 0, "area": box["bbox"][2] ** 2, **box} for box in boxes]
    return {"images": images, "annotations": rows, "categories": categories}


def only(annotations: dict[str, list[dict[str, Any]]], numbers: range) -> dict[str, list[dict[str, Any]]]:
    """Those of some images."""
    return {
        "images": [image for image in annotations["images"] if image["id"] in numbers],
        "annotations": [box for box in annotations["annotations"] if box["image_id"] in numbers],
        "categories": annotations["categories"],
    }


def film(photos: Path, file: Path) -> None:
    """A video of photographs."""
    av = pytest.importorskip("av")
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for path in sorted(photos.glob("*.jpg"))[:6]:
            for packet in stream.encode(av.VideoFrame.from_image(Image.open(path))):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_commands_run(
    page: Path,
    desk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the page's order, in a folder of its own."""
    folder = tmp_path / "desk"
    shutil.copytree(desk, folder)
    monkeypatch.chdir(folder)
    for line in commands_of(page):
        if any(line.startswith(beginning) for beginning in ELSEWHERE):
            continue
        line = re.sub(r"^python tools/(\w+)\.py", r"densedet \1", line)
        words = shlex.split(re.sub(r" > [\w.]+$", "", line))[1:]
        code = main(words if line in REFUSED else small(words))
        assert code == REFUSED.get(line, 0), f"{line}\n{capsys.readouterr().err}"
        if words[:2] == ["train", "auto"]:
            as_on_the_page(folder / "runs")


def as_on_the_page(runs: Path) -> None:
    """Give the newest run the name that it has on the page about photographs, whatever the machine chose."""
    newest = max(runs.glob("laptop_*/*"), key=lambda run: run.stat().st_mtime_ns)
    number = len(list((runs / "laptop_small").glob("*"))) + (newest.parent.name != "laptop_small")
    if not (runs / "laptop_small" / str(number)).exists():
        shutil.copytree(newest, runs / "laptop_small" / str(number))


def test_they_are_found() -> None:
    lines = [line for page in PAGES for line in commands_of(page)]
    assert len(lines) > 70
    shown = {line for line in REFUSED if line not in lines}
    assert not shown, "no page shows these"
    assert not [begin for begin in ELSEWHERE if not any(line.startswith(begin) for line in lines)]
