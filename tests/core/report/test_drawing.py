"""Pictures, looked at pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from densedet.core.report.drawing import (
    PALETTE,
    PAPER,
    auto_scale,
    captioned,
    class_color,
    draw_boxes,
    fit_text,
    grid,
    side_by_side,
    text_color,
    text_size,
    to_image,
)
from densedet.core.report.heatmaps import MAGMA, color_bar, colorize, overlay_heatmap, score_map_panel

NAMES = ("cat", "dog")


def grey(height: int, width: int, value: int = 100) -> torch.Tensor:
    return torch.full((1, height, width), value, dtype=torch.uint8)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB")).astype(int)


def count(picture: Image.Image, color: tuple[int, int, int]) -> int:
    return int((pixels(picture) == color).all(axis=2).sum())


def test_small_images_are_enlarged_by_whole_factors_and_large_ones_shrunk() -> None:
    assert auto_scale(128, 64) == 4  # 512 / 128
    assert auto_scale(300, 200) == 2  # round(512 / 300 = 1.7)
    assert auto_scale(512, 512) == 1
    assert auto_scale(640, 480) == 1
    assert auto_scale(2048, 100) == 0.5  # 1024 / 2048
    assert auto_scale(1, 1) == 512


def test_a_box_is_drawn_where_it_is() -> None:
    picture = draw_boxes(
        grey(64, 128), torch.tensor([[10.0, 20.0, 30.0, 40.0]]), torch.tensor([1]), None, NAMES, names=False
    )
    assert picture.size == (512, 256)
    coloured = np.argwhere((pixels(picture) == PALETTE[1]).all(axis=2))
    # x 10..30, y 20..40 at factor 4: pixels 40..119 and 80..159
    assert coloured.min(axis=0).tolist() == [80, 40]
    assert coloured.max(axis=0).tolist() == [159, 119]
    assert pixels(picture)[120, 80].tolist() == [100, 100, 100], "the inside stays"


def test_dashes_are_part_of_the_line() -> None:
    boxes, labels = torch.tensor([[10.0, 20.0, 110.0, 60.0]]), torch.tensor([0])
    solid, dashed = (
        count(draw_boxes(grey(64, 128), boxes, labels, None, NAMES, style=s, names=False), PALETTE[0])
        for s in ("solid", "dashed")
    )
    assert 0.3 * solid < dashed < 0.8 * solid


def test_min_score_and_limit() -> None:
    boxes = torch.tensor([[0.0, 0, 20, 20], [30, 30, 50, 50], [60, 30, 80, 50]])
    labels, scores = torch.tensor([0, 1, 2]), torch.tensor([0.2, 0.9, 0.5])
    picture = draw_boxes(grey(64, 128), boxes, labels, scores, ("a", "b", "c"), min_score=0.3, limit=1)
    assert [count(picture, color) > 0 for color in PALETTE[:3]] == [False, True, False]


@pytest.mark.parametrize("scores", [None, torch.zeros(0)])
def test_no_boxes(scores: torch.Tensor | None) -> None:
    picture = draw_boxes(grey(64, 128), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), scores, NAMES)
    assert count(picture, (100, 100, 100)) == 512 * 256


def test_odd_boxes_do_not_fail() -> None:
    nan, far = float("nan"), 1e30
    boxes = torch.tensor(
        [[nan, 0, 5, 5], [-far, -far, far, far], [5, 5, 5, 5], [9, 9, 3, 3], [200, 200, 300, 300]]
    )
    draw_boxes(grey(8, 8), boxes, torch.tensor([0, 1, 7, -1, 3]), torch.rand(5), NAMES, style="dashed")
    draw_boxes(grey(1, 1), boxes, torch.tensor([0, 1, 7, -1, 3]), None, NAMES)


def test_labels_never_cover_one_another() -> None:
    """A hundred boxes on one spot: as many labels as find room, the best one at its box's corner."""
    boxes = torch.tensor([[60.0, 30.0, 70.0, 40.0]]).repeat(100, 1)
    few = draw_boxes(grey(64, 128), boxes[:1], torch.tensor([0]), torch.tensor([0.9]), NAMES)
    many = draw_boxes(
        grey(64, 128), boxes, torch.tensor([0] + [1] * 99), torch.linspace(0.9, 0.1, 100), NAMES
    )
    # The label of the first lies above its box, x from 240, bottom at 120; it is the same in both.
    width = text_size("cat 90", 13)[0]
    assert (pixels(few)[104:118, 241 : 241 + width] == pixels(many)[104:118, 241 : 241 + width]).all()
    assert count(many, PALETTE[0]) > 100


def test_class_colours_differ() -> None:
    colors = [class_color(label) for label in range(40)]
    assert len(set(colors)) == 40
    assert class_color(-1) not in colors
    assert text_color((240, 228, 66)) == (0, 0, 0)
    assert text_color((0, 0, 120)) == (255, 255, 255)


def test_to_image() -> None:
    assert to_image(torch.tensor([[[300.0, -5.0, 99.6]]])).tobytes() == bytes([255] * 3 + [0] * 3 + [100] * 3)
    rgb = torch.tensor([1, 2, 3], dtype=torch.uint8).view(3, 1, 1)
    assert to_image(rgb).tobytes() == bytes([1, 2, 3])
    with pytest.raises(ValueError, match=r"not \(2, 4, 4\)"):
        to_image(torch.zeros(2, 4, 4))


def test_text_is_cut_to_fit() -> None:
    assert fit_text("short", 500, 12) == "short"
    cut = fit_text("a very long name of a class", 60, 12)
    assert cut.endswith("…")
    assert text_size(cut, 12)[0] <= 60
    assert fit_text("w", 1, 12) == ""


def test_grid_and_side_by_side() -> None:
    a, b = Image.new("RGB", (10, 4), (255, 0, 0)), Image.new("RGB", (6, 8), (0, 0, 255))
    sheet = grid([a, b, a], columns=2, gap=2)
    # columns 10 and 6, rows 8 and 4, gaps 2
    assert sheet.size == (18, 14)
    assert sheet.getpixel((12, 0)) == (0, 0, 255)
    assert sheet.getpixel((0, 10)) == (255, 0, 0)
    assert sheet.getpixel((0, 5)) == PAPER
    titled = side_by_side([a, b], ["left", "right"], gap=2)
    assert titled.width == 18
    assert titled.height == captioned(b, ["right"]).height > 8
    with pytest.raises(ValueError, match="at least one"):
        grid([], columns=1)


def test_colour_scale() -> None:
    values = np.array([[0.0, 1.0, 1 / 9, 0.5, 7.0, np.nan]])
    colors = colorize(values)[0]
    assert colors[0].tolist() == MAGMA[0].tolist()
    assert colors[1].tolist() == colors[4].tolist() == MAGMA[9].tolist()
    assert colors[2].tolist() == MAGMA[1].tolist(), "the second of ten equidistant colours"
    assert colors[3].tolist() == ((MAGMA[4] + MAGMA[5]) / 2).round().tolist()
    assert colors[5].tolist() == MAGMA[0].tolist()
    # Brighter is more, also in grey print.
    brightness = colorize(np.linspace(0, 1, 50)[None])[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(brightness) > 0).all()


def test_cells_lie_over_their_pixels() -> None:
    """Stride 16 on a 40x24 image: 3x2 cells, the last ones cut by the border; the hot cell is x 16..31, y
    0..15."""
    heat = torch.zeros(2, 3)
    heat[0, 1] = 1
    picture = overlay_heatmap(grey(24, 40), heat, alpha=1.0, stride=16, bar=False)
    hot = np.argwhere((pixels(picture) == MAGMA[9]).all(axis=2))
    assert picture.size == (40, 24)
    assert (hot.min(axis=0).tolist(), hot.max(axis=0).tolist()) == ([0, 16], [15, 31])
    # At half the size the hot cell is x 8..15, y 0..7.
    half = overlay_heatmap(grey(24, 40), heat, alpha=1.0, stride=16, scale=0.5, bar=False)
    hot = np.argwhere((pixels(half) == MAGMA[9]).all(axis=2))
    assert half.size == (20, 12)
    assert (hot.min(axis=0).tolist(), hot.max(axis=0).tolist()) == ([0, 8], [7, 15])
    # A map that does not have a cell per stride (SSD300's 38 for 300 pixels) is stretched: 30 / 2 = 15
    # columns each.
    stretched = overlay_heatmap(grey(24, 30), torch.tensor([[0.0, 1.0]]), alpha=1.0, stride=8, bar=False)
    hot = np.argwhere((pixels(stretched) == MAGMA[9]).all(axis=2))
    assert (hot.min(axis=0).tolist(), hot.max(axis=0).tolist()) == ([0, 15], [23, 29])


def test_alpha_and_bar() -> None:
    image = grey(24, 40, value=200)
    assert (pixels(overlay_heatmap(image, torch.ones(2, 3), alpha=0.0, bar=False)) == 200).all()
    with_bar = overlay_heatmap(image, torch.ones(2, 3), bar=True)
    assert with_bar.width > 40 + 12
    assert color_bar(50, 0.25).getpixel((3, 0)) == tuple(MAGMA[9].astype(int))
    assert color_bar(50, 0.25).getpixel((3, 49)) == tuple(MAGMA[0].astype(int))


def test_score_map_panel() -> None:
    maps = [torch.full((4, 8), 0.1), torch.full((2, 4), 0.8)]
    maps[0][3, :] = 0.99  # in the padding: rows 24..31 of an image whose valid height is 24
    panel = score_map_panel(
        grey(32, 64), maps, "cat", strides=(8, 16), size=(24, 64), boxes=torch.tensor([[8.0, 8, 24, 20]])
    )
    # 64 px at factor round(256 / 64) = 4 is 256; two panels, gaps of 6, a bar
    assert 2 * 256 + 2 * 6 < panel.width < 2 * 256 + 80
    assert count(panel, PALETTE[0]) > 50, "the object's dashes"
    bright = pixels(score_map_panel(grey(32, 64, 0), maps, "cat", strides=(8, 16), size=(24, 64), alpha=1.0))
    assert (bright[60, 300] == MAGMA[9]).all(), "0.8, the highest valid score, is the brightest colour"
    fixed = pixels(
        score_map_panel(grey(32, 64, 0), maps, "cat", strides=(8, 16), size=(24, 64), alpha=1.0, maximum=1.0)
    )
    assert (fixed[60, 300] == colorize(np.array([[0.8]]))[0, 0]).all()


def test_the_levels_of_a_heat_map_stand_in_rows() -> None:
    maps = [torch.zeros(8 // n, 16 // n) for n in (1, 2, 4)]
    sizes = []
    for columns in (None, 2, 1):
        panel = score_map_panel(grey(32, 64, 0), maps, "cat", strides=(4, 8, 16), columns=columns)
        sizes.append((panel.width, panel.height))
    (row, low), (pairs, middle), (column, high) = sizes
    assert row - pairs == pairs - column == 256 + 6, "a panel and the gap beside it"
    assert high - middle == middle - low > 128


def test_an_untrained_head_looks_dark() -> None:
    panel = score_map_panel(grey(32, 64, 0), [torch.full((4, 8), 0.01)], "cat", strides=(8,), alpha=1.0)
    # 0.01 of a scale that ends at 0.05
    assert (pixels(panel)[60, 100] == colorize(np.array([[0.2]]))[0, 0]).all()


def test_values_stand_beside_names_and_keypoints_are_dots() -> None:
    """At factor 4, (5, 6) is pixel (20, 24). The second point is not visible, the unknown age is left out."""
    points = torch.tensor([[[5.0, 6, 2], [12, 12, 0]]])

    def picture(age: float) -> Image.Image:
        extra = {"age": torch.tensor([age]), "eyes": points}
        box, labels = torch.tensor([[1.0, 4, 19, 18]]), torch.tensor([1])
        return draw_boxes(grey(20, 40), box, labels, None, NAMES, scale=4, extra=extra, keypoints=("eyes",))

    shown = pixels(picture(30.0))
    assert tuple(shown[24, 20]) == class_color(1)
    assert tuple(shown[48, 48]) == (100, 100, 100)
    assert count(picture(30.0), class_color(1)) > count(picture(float("nan")), class_color(1))
