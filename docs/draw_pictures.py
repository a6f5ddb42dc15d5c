"""Draws the pictures of these pages: ``python docs/draw_pictures.py [--run RUN]``.

Without --run it draws those that need no training. RUN is a finished run of
examples/beside_a_recipe/my_head.yaml; its score maps become one_tower.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

import densedet
from densedet.core import assembly
from densedet.core.assembly import make_dataset
from densedet.core.data.loader import collate
from densedet.core.report.drawing import captioned, class_color, draw_boxes, enlarge, grid, side_by_side
from densedet.core.report.fonts import font_for
from densedet.core.report.heatmaps import score_map_panel
from densedet.core.showing.anchors import levels_picture
from densedet.core.showing.matches import matches_picture, objects_picture
from densedet.core.showing.subject import View, Wanted, subject_of, views_of
from densedet.core.training.prediction import load
from densedet.core.types import Batch, Targets

DOCS = Path(__file__).resolve().parent
EXAMPLES = DOCS.parent / "examples" / "beside_a_recipe"
SCENE = 16
"""Number of the digits scene that all pictures show."""


def main() -> None:
    """Write docs/pictures/*.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a finished run of my_head.yaml, for one_tower.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    save(untrained())
    if arguments.run:
        save({"one_tower": one_tower(arguments.run)})


def untrained() -> dict[str, Image.Image]:
    """The pictures that need no training."""
    return {"flow": flow(), "anchors": anchors(), "matches": matches()}


def save(pictures: dict[str, Image.Image]) -> None:
    """Write docs/pictures/NAME.png."""
    for name, picture in pictures.items():
        path = DOCS / "pictures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size} bytes")


def built(name: str | Path) -> tuple[Any, Batch, tuple[str, ...]]:
    """A recipe's untrained detector, a batch of the one scene, and the class names."""
    recipe = densedet.load_recipe(name)
    source = assembly.build_source(recipe, "val")
    torch.manual_seed(0)
    return (
        densedet.build(recipe).eval(),
        collate([make_dataset(recipe, source, source.classes)[SCENE]]),
        source.classes,
    )


def flow() -> Image.Image:
    """Shapes from image to detections of quickstart_retinanet, each taken from the tensor itself."""
    detector, batch, classes = built("quickstart_retinanet")
    with torch.no_grad():
        normal = detector.normalise(batch.images, batch.valid_hw)
        maps = detector.backbone(normal)
        levels = detector.neck(maps)
        prediction = detector.head(levels)
        inside = detector.explain(batch)
    columns = {
        "batch": [
            "images uint8",
            shape(batch.images),
            f"boxes {shape(batch.boxes)}",
            f"{len(classes)} classes",
        ],
        "backbone": ["", *(shape(m) for m in maps)],
        "neck": ["", *(shape(m) for m in levels)],
        "head": [*(f"{shape(c)} + {b.shape[2]}" for c, b in zip(prediction.logits, prediction.box))],
        "anchors": [*(f"({level.count}, 4)" for level in inside.levels)],
        "decoded": ["scores", shape(inside.scores), "boxes", shape(inside.boxes)],
    }
    width, height = 150, 128
    sheet = Image.new("RGB", ((width + 22) * len(columns) - 22, height), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (name, lines) in enumerate(columns.items()):
        x = place * (width + 22)
        pen.rounded_rectangle(
            (x, 0, x + width - 1, height - 1), radius=6, outline=class_color(place), width=3
        )
        pen.text((x + width / 2, 16), name, fill="black", font=font_for(name, 17), anchor="mm")
        for row, line in enumerate(filter(None, lines)):
            pen.text((x + width / 2, 42 + 19 * row), line, fill="black", font=font_for(line, 14), anchor="mm")
        if place:
            pen.polygon(
                [(x - 18, height / 2 - 7), (x - 18, height / 2 + 7), (x - 5, height / 2)], fill="grey"
            )
    return sheet


def shape(tensor: torch.Tensor) -> str:
    """(1, 24, 32, 16), with B for the batch."""
    return "(" + ", ".join(["B", *map(str, tensor.shape[1:])]) + ")"


def anchors() -> Image.Image:
    """The anchors of the middle cell of each level, SSD's and RetinaNet's, on a canvas around the image."""
    pictures = [anchors_of(f"quickstart_{name}") for name in ("ssd", "retinanet")]
    return side_by_side(pictures, ["SSD: default boxes, 4 a cell", "RetinaNet: octaves and ratios, 9 a cell"])


def anchors_of(name: str) -> Image.Image:
    view, inside, _ = shown(name)
    picture = levels_picture(view, inside, margin=64)
    key = Image.new("RGB", (picture.width, 22), "white")
    pen = ImageDraw.Draw(key)
    for place, level in enumerate(inside.levels):
        text = f"stride {level.stride}"
        pen.rectangle((8 + place * 110, 5, 20 + place * 110, 17), fill=class_color(place))
        pen.text((25 + place * 110, 11), text, fill="black", font=font_for(text, 14), anchor="lm")
    return grid([picture, key], columns=1, gap=0)


def matches() -> Image.Image:
    """Truth, and the anchors that the matchers of both quick starts made positive, in their objects'
    colours; ignored ones are grey."""
    pictures, titles = [], []
    for name, title in (("quickstart_ssd", "SSD"), ("quickstart_retinanet", "RetinaNet")):
        view, inside, classes = shown(name)
        if not pictures:
            pictures.append(objects_picture(view, classes))
            titles.append("objects")
        positive = inside.positive[0]
        pictures.append(matches_picture(view, inside))
        titles.append(f"{title}: {int(positive.sum())} of {len(positive):,} anchors answer for them")
    return below(pictures, titles)


def below(images: list[Image.Image], titles: list[str]) -> Image.Image:
    """Pictures one below the other, each under its title, so that a telephone shows them large."""
    return grid([captioned(image, [title]) for image, title in zip(images, titles)], columns=1)


def shown(recipe: str) -> tuple[View, Targets, tuple[str, ...]]:
    """The scene as `densedet show` has it, what its recipe matches, and the class names."""
    subject = subject_of(recipe)
    [view] = views_of(subject, Wanted(numbers=[SCENE]))
    return view, subject.targets(view.batch, "pictures"), subject.classes


def one_tower(run: Path) -> Image.Image:
    """What the head of my_head.py says about the scene: its score maps of one class, and what was found."""
    predictor = load(run, plugins=[str(EXAMPLES / "my_head.py")], device="cpu")
    _, batch, classes = built(EXAMPLES / "my_head.yaml")
    detector: Any = predictor.detector.eval()
    inside, found = detector.explain(batch), detector.predict(batch)[0]
    boxes, labels = batch.boxes[0][batch.valid[0]], batch.labels[0][batch.valid[0]]
    truth = draw_boxes(batch.images[0], boxes, labels, None, classes, scale=3, style="dashed")
    predictions = draw_boxes(
        batch.images[0], found.boxes, found.labels, found.scores, classes, scale=3, min_score=0.3
    )
    label = int(labels[(boxes[:, 2:] - boxes[:, :2]).prod(dim=1).argmax()])
    panel = score_maps(inside, batch, classes[label], label, side=190)
    pair = side_by_side([truth, predictions], ["objects", "found, score from 0.30"])
    return grid([pair, enlarge(panel, 1)], columns=1)


def score_maps(inside: Any, batch: Batch, name: str, label: int, **layout: int) -> Image.Image:
    """The score maps of one class for the first image of a batch, and the objects of that class."""
    return score_map_panel(
        batch.images[0],
        [level[0, label] for level in inside.score_maps()],
        name,
        strides=[level.stride for level in inside.levels],
        boxes=batch.boxes[0][batch.valid[0] & (batch.labels[0] == label)],
        label=label,
        **layout,
    )


if __name__ == "__main__":
    main()
