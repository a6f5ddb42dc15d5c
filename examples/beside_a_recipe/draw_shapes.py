"""Draws the data set of my_source.yaml: ``python draw_shapes.py`` writes shapes/*.png, shapes/train.csv and
shapes/val.csv."""

import csv
import random
from pathlib import Path

from PIL import Image, ImageDraw

FOLDER = Path(__file__).parent / "shapes"
COLORS = {"circle": ("firebrick", "darkorange"), "square": ("navy", "seagreen")}


def main() -> None:
    """16 images to train on and 4 to judge on, each of 0 to 3 shapes that do not overlap."""
    FOLDER.mkdir(exist_ok=True)
    chance = random.Random(1)
    for split, count in (("train", 16), ("val", 4)):
        rows = []
        for number in range(count):
            name = f"{split}_{number:02d}.png"
            shapes = draw(FOLDER / name, chance)
            rows += [(name, *shape) for shape in shapes] or [(name,)]
        with open(FOLDER / f"{split}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def draw(path: Path, chance: random.Random) -> list[tuple[int, int, int, int, str]]:
    """One image of 96x64; its shapes as x1, y1, x2, y2, class. Each shape keeps to its own third of the
    image."""
    image = Image.new("RGB", (96, 64), "whitesmoke")
    pen, shapes = ImageDraw.Draw(image), []
    for third in sorted(chance.sample(range(3), chance.choice((0, 1, 2, 3, 3)))):
        side, name = chance.randrange(14, 29), chance.choice(sorted(COLORS))
        x, y = third * 32 + chance.randrange(32 - side + 1), chance.randrange(64 - side + 1)
        shape = pen.ellipse if name == "circle" else pen.rectangle
        shape((x, y, x + side - 1, y + side - 1), fill=chance.choice(COLORS[name]))
        shapes.append((x, y, x + side, y + side, name))
    image.save(path, optimize=True)
    return shapes


if __name__ == "__main__":
    main()
