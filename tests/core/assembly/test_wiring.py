"""Parts nested in a part are wired by their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from densedet.core.assembly.parts import build_and_wire
from densedet.core.assembly.wiring import Wiring, in_order
from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.loading import load_recipe
from densedet.core.recipe.wiring import CLASSES

PLUGIN = """
from typing import Annotated
import densedet
from torch import nn
from densedet.core.arguments import Part

@densedet.register("neck", "times")
class Times(nn.Module):
    def __init__(self, *, in_channels: tuple[int, ...], in_strides: tuple[int, ...], by: int = 2) -> None:
        super().__init__()
        self.seen = in_channels, in_strides
        self.channels, self.strides = tuple(c * by for c in in_channels), tuple(s * by for s in in_strides)

@densedet.register("neck", "tree")
class Tree(nn.Module):
    def __init__(self, *, in_channels: tuple[int, ...],
                 head: Annotated[nn.Module | None, Part("head")] = None,
                 row: Annotated[list[nn.Module], Part("neck")] = (),
                 left: Annotated[nn.Module | None, Part("neck")] = None,
                 body: Annotated[nn.Module | None, Part("backbone")] = None) -> None:
        super().__init__()
        self.seen, self.head, self.row, self.left, self.body = in_channels, head, row, left, body
        self.channels, self.strides = in_channels, (4, 8)

@densedet.register("head", "see")
class See(nn.Module):
    def __init__(self, *, in_channels: tuple[int, ...], in_strides: tuple[int, ...]) -> None:
        super().__init__()
        self.seen = in_channels, in_strides

@densedet.register("neck", "mute")
class Mute(nn.Module):
    def __init__(self) -> None:
        super().__init__()
"""
FACTS = {
    "backbone.channels": (2, 3),
    "backbone.strides": (4, 8),
    "neck.channels": (2, 3),
    "neck.strides": (4, 8),
    "data.color": 1,
    CLASSES: 5,
}


def build(folder: Path, neck: str) -> Any:
    (folder / "parts.py").write_text(PLUGIN)
    (folder / "r.yaml").write_text(
        f"base: densedet:quickstart_retinanet.yaml\nplugins: [./parts.py]\nmodel: {{neck: {neck}}}\n"
    )
    recipe = load_recipe(folder / "r.yaml")
    return build_and_wire(recipe, "model.neck", "neck", recipe.values["model"]["neck"], Wiring(FACTS))[0]


def test_a_neck_in_a_list_follows_the_one_before_and_a_neck_beside_it_does_not(tmp_path: Path) -> None:
    tree = build(tmp_path, "{name: tree, row: [times, {name: times, by: 3}, times], left: times}")
    # (2, 3) -> by 2: (4, 6) -> by 3: (12, 18).
    assert [neck.seen for neck in tree.row] == [
        ((2, 3), (4, 8)),
        ((4, 6), (8, 16)),
        ((12, 18), (24, 48)),
    ]
    assert tree.left.seen == ((2, 3), (4, 8))
    assert tree.seen == (2, 3)


def test_a_later_kind_learns_from_an_earlier_one_wherever_it_is_written(tmp_path: Path) -> None:
    assert build(tmp_path, "{name: tree, head: see}").head.seen == ((2, 3), (4, 8))
    assert build(tmp_path, "{name: tree, head: see, row: [times]}").head.seen == ((4, 6), (8, 16))
    # The last neck's output: `left` is the later argument, three times the channels of (2, 3).
    tree = build(tmp_path, "{name: tree, head: see, row: [times], left: {name: times, by: 3}}")
    assert tree.head.seen == ((6, 9), (12, 24))


def test_a_backbone_inside_a_part_reads_images(tmp_path: Path) -> None:
    body = "{name: convnet, widths: [8, 16], stem: 8, out_indices: [2]}"
    tree = build(tmp_path, f"{{name: tree, body: {body}, row: [times]}}")
    assert tree.body.stem[0].in_channels == 1
    # Its stride is 2 * 2 * 2.
    assert tree.row[0].seen == ((16,), (8,))


def test_a_nested_part_without_its_attributes_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.neck\.row\.1: neck 'mute' .* needs self\.channels"):
        build(tmp_path, "{name: tree, row: [times, mute, times]}")


def test_order_of_kinds() -> None:
    pairs = [("hook", 1), ("head", 2), ("neck", 3), ("neck", 4), ("backbone", 5)]
    assert in_order(pairs) == [("backbone", 5), ("neck", 3), ("neck", 4), ("head", 2), ("hook", 1)]


def test_the_class_loss_tells_channels_and_bias() -> None:
    class Loss:
        background_channel = "last"
        initial_bias = -2

    wired = Wiring(FACTS).after("class_loss", Loss()).arguments("head")
    assert (wired["class_channels"], wired["class_bias"]) == (6, -2.0)  # 5 classes and background
    assert Wiring(FACTS).after("matcher", object()) == Wiring(FACTS)
