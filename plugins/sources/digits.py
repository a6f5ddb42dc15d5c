"""Scenes of real handwritten digits, made on demand: a data set that needs no download."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from densedet.core.arguments import NonNegativeInt, PositiveInt, Probability, Side
from densedet.core.errors import PartError
from densedet.core.seeding import seed_of
from densedet.core.sources import with_tensors
from densedet.core.types import Annotation
from densedet.plugins.sources._digit_scenes import Ink, Stamp, background, draw, place_stamp, render_glyph

FILE = Path(__file__).with_name("digits.npz")
HOLD_OUT = 5
"""Every fifth of the file's 1,797 glyphs is only ever for validation, the others for training."""

Objects = Annotated[int, Field(ge=0, le=300)]
"""Of a scene: the places of many more digits take seconds to find."""

VERSION = 1
"""Part of the fingerprint: raised when the drawing changes."""


class DigitsSource:
    """Compose scenes of real handwritten digits (from scikit-learn; see digits_LICENSE.txt).

    A scene depends on (seed, split, index) and the arguments alone. Training and validation use different
    glyphs. Boxes are tight around the ink, in whole pixels, and overlap little; no object is ignored. Where a
    scene is too full for all its digits, fewer are placed, but never fewer than ``min_objects``.

    Args:
        split: "train" or "val", which glyphs are used.
        count: number of scenes.
        size: (width, height) of a scene in pixels.
        seed: another seed gives other scenes.
        min_objects: the least number of digits in a scene.
        max_objects: the largest number of digits in a scene.
        min_side: the least length, in pixels, of the longer side of a digit's box; at least 8.
        max_side: the largest length, in pixels, of the longer side of a digit's box; at most the shorter side
            of the scene.
        clutter: 0 for plain paper to 1 for strokes, spots and grain nearly as strong as the digits.
        ink: "light" or "dark", how the digits stand out from the paper, or "both", which takes longer to
            learn.
        color: "grey" for images (H,W), "rgb" for (H,W,3).

    Raises:
        PartError: the numbers of objects or their sides contradict each other.
    """

    classes = tuple("0123456789")
    category_ids = tuple(range(10))

    def __init__(
        self,
        *,
        split: Literal["train", "val"] = "train",
        count: Annotated[int, Field(gt=0, le=1_000_000)] = 2000,
        size: tuple[Side, Side] = (128, 64),
        seed: NonNegativeInt = 0,
        min_objects: Objects = 0,
        max_objects: Objects = 6,
        min_side: PositiveInt = 16,
        max_side: PositiveInt = 30,
        clutter: Probability = 0.4,
        ink: Ink = "light",
        color: Literal["grey", "rgb"] = "grey",
    ) -> None:
        if min_objects > max_objects:
            raise PartError(
                f"source digits: min_objects {min_objects} is above max_objects {max_objects}: swap them"
            )
        if not 8 <= min_side <= max_side <= min(size):
            raise PartError(
                f"source digits: min_side {min_side} and max_side {max_side} must ascend, from 8 to "
                f"the image's shorter side ({min(size)})"
            )
        self.split = split
        self.count = count
        self.size = (size[0], size[1])
        self.seed = seed
        self.min_objects = min_objects
        self.max_objects = max_objects
        self.min_side = min_side
        self.max_side = max_side
        self.clutter = clutter
        self.ink = ink
        self.color = color
        self._latest: tuple[int, list[Stamp]] = (-1, [])

    @cached_property
    def _glyphs(self) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (n,8,8) of 0..16, and int64 labels (n,), of this split."""
        with np.load(FILE) as file:
            images, labels = file["images"], file["labels"].astype(np.int64)
        held_out = np.arange(len(labels)) % HOLD_OUT == HOLD_OUT - 1
        part = ~held_out if self.split == "train" else held_out
        return images[part], labels[part]

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_glyphs"} | {
            "_latest": (-1, [])
        }

    def __len__(self) -> int:
        return self.count

    def stamps(self, index: int) -> list[Stamp]:
        """Return the digits of scene ``index`` in the order in which they are drawn."""
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        if self._latest[0] == index:  # annotation(i) and image(i) come together
            return self._latest[1]
        random = np.random.default_rng(seed_of(self.seed, "digits", self.split, index, "layout"))
        images, labels = self._glyphs
        stamps: list[Stamp] = []
        for number in range(int(random.integers(self.min_objects, self.max_objects + 1))):
            which = int(random.integers(len(images)))
            side = random.uniform(self.min_side, self.max_side)
            alpha = render_glyph(images[which], side, random)
            stamp = place_stamp(
                alpha, int(labels[which]), stamps, self.size, random, always=number < self.min_objects
            )
            if stamp is not None:
                stamps.append(stamp)
        self._latest = (index, stamps)
        return stamps

    @property
    def sizes(self) -> np.ndarray:
        """int (I,2): (width, height) of each scene."""
        return np.tile(self.size, (self.count, 1))

    def annotation(self, index: int) -> Annotation:
        """Return the truth of scene ``index``."""
        return with_tensors(self.truth(index))

    def truth(self, index: int) -> Annotation:
        """Return the truth of scene ``index`` as arrays, without torch."""
        stamps = self.stamps(index)
        boxes = np.array([stamp.box for stamp in stamps], dtype=np.float32).reshape(-1, 4)
        columns: dict[str, Any] = {
            "boxes": boxes,
            "labels": np.array([stamp.label for stamp in stamps], dtype=np.int64),
            "ignore": np.zeros(len(stamps), dtype=bool),
            "crowd": np.zeros(len(stamps), dtype=bool),
            "area": (boxes[:, 2:] - boxes[:, :2]).prod(1),
        }
        return Annotation(
            **columns,
            image_id=index,
            file_name=f"digits_{self.split}_{self.seed}_{index}.png",
            width=self.size[0],
            height=self.size[1],
        )

    def image(self, index: int) -> np.ndarray:
        """Return scene ``index``, uint8 (H,W) or (H,W,3)."""
        random = np.random.default_rng(seed_of(self.seed, "digits", self.split, index, "paint"))
        paper = background(self.size, 1 if self.color == "grey" else 3, self.ink, self.clutter, random)
        for stamp in self.stamps(index):
            draw(stamp, paper, self.ink, random)
        pixels = np.clip(paper + 0.5, 0, 255).astype(np.uint8)
        return pixels[:, :, 0] if self.color == "grey" else pixels

    def fingerprint(self) -> str:
        """Return a text that changes with anything that a scene depends on."""
        names = "split count size seed min_objects max_objects min_side max_side clutter ink color".split()
        values = [VERSION, *(getattr(self, name) for name in names)]
        return hashlib.blake2b(repr(values).encode(), digest_size=16).hexdigest()

    def invalid(self) -> list[str]:
        """Return no sentences: the boxes come from the drawing."""
        return []
