"""A small data set of dark boxes on noise, with faults, as COCO files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SIZE_WH = (96, 48)


def picture(seed: int, boxes: list[list[float]]) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(120, 255, (6, 12), dtype=np.uint8)
    image = Image.fromarray(pixels).resize(SIZE_WH, Image.Resampling.BICUBIC)
    for x, y, width, height in boxes:
        image.paste(20, (round(x), round(y), round(x + width), round(y + height)))
    return image


def write(folder: Path, split: str, boxes: dict[int, list[list[float]]], labels: Any) -> None:
    """Write images and annotations; ``labels`` gives the class of a box."""
    annotations = []
    for image, own in boxes.items():
        picture(image, own).save(folder / f"{split}_{image}.png")
        for box in own:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": labels(box),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    images = [
        {"id": i, "file_name": f"{split}_{i}.png", "width": SIZE_WH[0], "height": SIZE_WH[1]} for i in boxes
    ]
    categories = [{"id": 1, "name": "tall"}, {"id": 2, "name": "flat"}, {"id": 3, "name": "none"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / f"{split}.json").write_text(json.dumps(content))


@pytest.fixture(scope="session")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 training images with an object of 4 x 32 and one of 32 x 4 pixels each, and 4 for validation, of
    which the first one is a training image encoded anew."""
    folder = tmp_path_factory.mktemp("boxes")

    def own(image: int) -> list[list[float]]:
        shift = image % 8
        return [[8.0 + 2 * shift, 6.0 + shift, 4.0, 32.0], [50.0 + shift, 12.0 + 2 * shift, 32.0, 4.0]]

    def label(box: list[float]) -> int:
        return 1 if box[3] > box[2] else 2

    write(folder, "train", {image: own(image) for image in range(24)}, label)
    write(folder, "val", {image: own(image + 3) for image in range(100, 104)}, label)
    picture(7, own(7)).save(folder / "copy.jpg", quality=60)
    Image.open(folder / "copy.jpg").save(folder / "val_100.png")
    return folder


@pytest.fixture(scope="session")
def recipe_overrides(boxes: Path) -> list[str]:
    """The quick start on these images."""
    return [
        f"data.root={json.dumps(str(boxes))}",
        "data.train={name: coco, annotations: train.json, images: .}",
        "data.val={name: coco, annotations: val.json, images: .}",
        "data.input_size_wh=[96, 48]",
        "model.backbone.widths=[8, 8, 8]",
        "train.batch_size=8",
    ]
