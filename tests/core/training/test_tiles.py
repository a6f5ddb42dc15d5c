"""Large images in tiles."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from densedet.core.data.decoding import Decoding
from densedet.core.errors import UsageError
from densedet.core.placement import Placement
from densedet.core.training.tiles import Tiling, merged, tile_samples
from densedet.core.types import Detections


def found(*rows: tuple[list[float], float, int]) -> Detections:
    """Detections from (box, score, label)."""
    boxes = torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4)
    return Detections(
        boxes,
        torch.tensor([row[1] for row in rows]),
        torch.tensor([row[2] for row in rows], dtype=torch.int64),
        torch.arange(len(rows)),
    )


def rows_of(detections: Detections) -> list[tuple[list[float], float, int]]:
    return [
        (box, round(score, 3), label)
        for box, score, label in zip(
            detections.boxes.tolist(), detections.scores.tolist(), detections.labels.tolist()
        )
    ]


def test_the_windows_cover_the_image_and_share_the_overlap() -> None:
    """Width 200 in tiles of 100 with 20 shared: (200 - 100) / 80 = 1.25, so two gaps, starts 0, 50, 100.
    Height 60 is less than a tile."""
    tiling = Tiling(100, 80, 20)
    assert tiling.windows(200, 60) == [(0, 0, 100, 60), (50, 0, 150, 60), (100, 0, 200, 60)]
    assert tiling.windows(100, 80) == [(0, 0, 100, 80)]
    # 140 high: one gap of 60, so that exactly 20 are shared
    assert [window[1::2] for window in tiling.windows(10, 140)] == [(0, 80), (60, 140)]
    for length in range(80, 500):
        spans = [window[1::2] for window in tiling.windows(10, length)]
        assert (spans[0][0], spans[-1][1]) == (0, length)
        assert all(first[1] - second[0] >= 20 for first, second in pairwise(spans))


def test_what_a_user_may_write() -> None:
    assert Tiling.parse("640x480", (128, 64)) == Tiling(640, 480, 120)
    assert Tiling.parse("640X480+0", (128, 64)) == Tiling(640, 480, 0)
    assert Tiling.parse(" auto ", (128, 64)) == Tiling(128, 64, 16)
    assert Tiling.parse("auto+30", (128, 64)) == Tiling(128, 64, 30)
    for text in ("", "640", "x", "640x", "-1x5", "1.5x7", "640x480+", "auto+x", "640x480+20+3"):
        with pytest.raises(UsageError, match="write WIDTHxHEIGHT, WIDTHxHEIGHT\\+OVERLAP or auto"):
            Tiling.parse(text, (128, 64))
    with pytest.raises(UsageError, match="a tile needs 16 pixels"):
        Tiling.parse("640x15", (128, 64))
    with pytest.raises(UsageError, match="may share 32 pixels at most"):
        Tiling.parse("64x100+33", (128, 64))


WINDOWS = [(0, 0, 100, 100), (80, 0, 180, 100)]
"""Two tiles that share x from 80 to 100."""


def test_a_part_goes_where_the_neighbour_has_the_whole() -> None:
    """The object [85, 40, 110, 60] is whole in the second tile. The first sees [85, 40, 100, 60] of it, and
    its box [84, 40, 100, 60] is the same: 15 x 20 / 16 x 20 = 0.94. The better score does not save it."""
    left = found(([84, 40, 100, 60], 0.9, 0), ([10, 10, 30, 30], 0.5, 0))
    right = found(([85, 40, 110, 60], 0.6, 0))
    assert rows_of(merged([left, right], WINDOWS)) == [
        ([85, 40, 110, 60], 0.6, 0),
        ([10, 10, 30, 30], 0.5, 0),
    ]
    # a part of another class, or of another object, stays
    for other in (replace(right, labels=torch.tensor([1])), found(([85, 65, 110, 90], 0.6, 0))):
        assert len(merged([left, other], WINDOWS)) == 3


def test_an_object_larger_than_the_overlap_comes_out_whole() -> None:
    """[50, 20, 150, 60] is cut in both tiles: to [50, 20, 100, 60] and [80, 22, 150, 60]. Where both see, x
    80 to 100, they are 20 x 40 and 20 x 38 pixels: IoU 0.95. One box around both, with the better score."""
    left, right = found(([50, 20, 100, 60], 0.7, 2)), found(([80, 22, 150, 60], 0.8, 2))
    assert rows_of(merged([left, right], WINDOWS)) == [([50, 20, 150, 60], 0.8, 2)]
    # cut at the seam, but two objects one above the other: x 80 to 100 has no pixel of both
    right = found(([80, 62, 150, 90], 0.8, 2))
    assert len(merged([left, right], WINDOWS)) == 2


def test_an_object_that_two_tiles_have_whole_comes_out_once() -> None:
    """[83, 10, 97, 30] lies in both; the IoU of the two boxes is 14 x 20 / 14 x 21 = 0.95. Two boxes of one
    tile never remove each other."""
    left = found(([83, 10, 97, 30], 0.5, 0))
    right = found(([83, 10, 97, 31], 0.6, 0), ([83, 11, 97, 31], 0.4, 0))
    assert rows_of(merged([left, right], WINDOWS)) == [
        ([83, 10, 97, 31], 0.6, 0),
        ([83, 11, 97, 31], 0.4, 0),
    ]


def test_an_object_at_the_corner_of_four_tiles_comes_out_once() -> None:
    """A square from 40 to 140 over tiles of 100 at 0 and 80: each sees a quarter that reaches its seams."""
    windows = Tiling(100, 100, 20).windows(180, 180)
    square = torch.tensor([40.0, 40, 140, 140])
    parts = []
    for number, window in enumerate(torch.tensor(windows, dtype=torch.float32)):
        box = torch.cat([torch.maximum(square[:2], window[:2]), torch.minimum(square[2:], window[2:])])
        parts.append(found((box.tolist(), 0.5 + number / 10, 0)))
    assert rows_of(merged(parts, windows)) == [([40, 40, 140, 140], 0.8, 0)]


def test_nothing_found_and_a_single_tile() -> None:
    assert len(merged([found(), found()], WINDOWS)) == 0
    one = found(([1, 2, 3, 4], 0.1, 0))
    assert merged([one], [(0, 0, 50, 50)]) is one


def test_values_beside_the_box_are_the_best_parts() -> None:
    """A tile without detections has none of them."""
    left, right = found(([50, 20, 100, 60], 0.7, 0)), found(([80, 20, 150, 60], 0.8, 0))
    left.extra, right.extra = {"ink": torch.tensor([3])}, {"ink": torch.tensor([4])}
    windows = [*WINDOWS, (160, 0, 260, 100)]
    whole = merged([left, right, found()], windows)
    assert whole.extra["ink"].tolist() == [4]
    assert whole.boxes.tolist() == [[50, 20, 150, 60]]


def test_a_tile_is_a_sample_of_its_part_in_pixels_of_the_whole() -> None:
    """A picture of 30 x 20 whose grey is its column, in tiles of 20 x 20 that are halved: the second starts
    at column 10, and its pixel 0 is the mean of columns 10 and 11."""
    pixels = np.tile(np.arange(30, dtype=np.uint8), (20, 1))

    def halved(width: int, height: int) -> Placement:
        return Placement(width // 2, height // 2, (10, 10))

    image = Image.fromarray(pixels)
    first, second = tile_samples(
        np.asarray(image), Tiling(20, 20, 10), decoding=Decoding("grey"), resize=halved, index=7
    )
    assert first.source_wh == second.source_wh == (30, 20)
    assert second.to_source == (2.0, 2.0, 10, 0)
    assert second.index == 7
    assert first.image[0, 0].tolist()[1:9] == pytest.approx([2.5 + 2 * i for i in range(8)], abs=0.51)
    assert second.image[0, 0].tolist()[1:9] == pytest.approx([12.5 + 2 * i for i in range(8)], abs=0.51)
