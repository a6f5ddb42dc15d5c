"""Files of COCO's full size for the benchmarks, made by a seed; nothing is downloaded. No torch here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from densedet.core.annotations.table import AnnotationTable, pack_names
from densedet.core.files import atomic_file

IMAGES, BOXES = 118_287, 860_001
"""Of COCO's train2017."""

NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,,stop sign,"
    "parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,,backpack,umbrella,,,"
    "handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,"
    "skateboard,surfboard,tennis racket,bottle,,wine glass,cup,fork,knife,spoon,bowl,banana,apple,"
    "sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,,"
    "dining table,,,toilet,,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
).split(",")
"""COCO's categories by id - 1; empty where an id is not used."""


def coco_like_table(images: int = IMAGES, boxes: int = BOXES, seed: int = 0) -> AnnotationTable:
    """Make a table with train2017's numbers of images, boxes and classes, and 1 % crowds.

    The classes' shares fall off as they do there: 30 % are persons.
    """
    random = np.random.default_rng(seed)
    category_ids = [i + 1 for i, name in enumerate(NAMES) if name]
    landscape = random.random(images) < 0.75
    long, short = (
        random.choice([640, 640, 640, 500, 612], images),
        random.choice([480, 427, 425, 375, 480], images),
    )
    sizes = np.where(landscape[:, None], np.stack([long, short], 1), np.stack([short, long], 1)).astype(
        np.int32
    )
    shares = 1 / np.arange(3, 3 + len(category_ids)) ** 1.1
    shares[0] = 0.43 * shares.sum()
    counts = random.multinomial(boxes, random.dirichlet(np.full(images, 1.2)))
    owners = np.repeat(np.arange(images), counts)
    sides = np.clip(np.exp(random.normal(4.0, 1.1, (boxes, 2))), 4, 0.95 * sizes[owners])
    sides = np.round(np.clip(sides * np.exp(random.normal(0, 0.3, (boxes, 2))), 4, sizes[owners] - 1), 2)
    corner = np.floor(random.random((boxes, 2)) * (sizes[owners] - sides) * 100) / 100
    names, name_offsets = pack_names(
        [f"{i:012d}.jpg" for i in sorted(random.choice(600_000, images, replace=False).tolist())]
    )
    numbers = names.reshape(images, 16)[:, :12] - ord("0")
    return AnnotationTable(
        classes=tuple(NAMES[i - 1] for i in category_ids),
        category_ids=tuple(category_ids),
        image_ids=(numbers * 10 ** np.arange(11, -1, -1)).sum(1).astype(np.int64),
        names=names,
        name_offsets=name_offsets,
        sizes=sizes,
        offsets=np.append(0, np.cumsum(counts)),
        xywh=np.concatenate([corner, sides], axis=1),
        labels=random.choice(len(category_ids), boxes, p=shares / shares.sum()).astype(np.uint16),
        flags=(random.random(boxes) < 0.01).astype(np.uint8),
        areas=np.round(sides.prod(1) * random.uniform(0.3, 0.95, boxes), 4),
        ids=random.permutation(boxes) + 1,
    )


def coco_like(path: Path, images: int = IMAGES, boxes: int = BOXES, *, seed: int = 0) -> AnnotationTable:
    """Write such a table as COCO JSON with polygons, in one line as COCO's own, and return the table.

    At full size the file has about 450 MB.
    """
    table = coco_like_table(images, boxes, seed)
    random = np.random.default_rng(seed + 1)
    owners, order = table.owners(), np.random.default_rng(seed + 2).permutation(boxes)
    angles = np.linspace(0, 2 * np.pi, 80)
    with atomic_file(path) as file:
        file.write(b'{"info": {"description": "made for densedet\'s benchmark"}, "licenses": [], "images": [')
        rows = (
            json.dumps(
                {
                    "license": 1,
                    "file_name": table.name(i),
                    "coco_url": "",
                    "height": h,
                    "width": w,
                    "date_captured": "",
                    "id": int(table.image_ids[i]),
                }
            )  # type: ignore[arg-type]
            for i, (w, h) in enumerate(table.sizes.tolist())
        )
        file.write(", ".join(rows).encode())
        file.write(b'], "annotations": [')
        for start in range(0, boxes, 1000):
            lines = []
            for row in order[start : start + 1000].tolist():
                x, y, w, h = table.xywh[row].tolist()
                points = angles[: random.integers(4, 60)]
                outline = np.stack([x + w / 2 * (1 + np.cos(points)), y + h / 2 * (1 + np.sin(points))], 1)
                polygon = np.round(outline + random.random(outline.shape), 2).reshape(-1).tolist()
                entry = {
                    "segmentation": [polygon],
                    "area": float(table.areas[row]),
                    "iscrowd": int(table.flags[row]),
                }
                entry |= {"image_id": int(table.image_ids[owners[row]]), "bbox": [x, y, w, h]}  # type: ignore[arg-type]
                entry |= {
                    "category_id": table.category_ids[int(table.labels[row])],
                    "id": int(table.ids[row]),
                }
                lines.append(json.dumps(entry))
            file.write(((", " if start else "") + ", ".join(lines)).encode())
        categories = [
            {"supercategory": "none", "id": i, "name": n} for i, n in zip(table.category_ids, table.classes)
        ]
        file.write(b'], "categories": ' + json.dumps(categories).encode() + b"}")
    return table
