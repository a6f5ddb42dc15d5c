"""What the README shows works as it stands there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import densedet
from densedet.core import assembly
from densedet.core.recipe.loading import RecipeError, load_recipe
from densedet.core.recipe.merging import shipped_recipes
from densedet.tools.main import build_parser

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [block.partition("\n")[2] for block in TEXT.split("```")[1::2]]


def test_the_swap_builds(tmp_path: Path) -> None:
    [block] = [b for b in BLOCKS if "base:" in b]
    (tmp_path / "swap.yaml").write_text(block)
    detector = assembly.build_detector(load_recipe(tmp_path / "swap.yaml"), 10)
    assert type(detector.neck).__name__ == "FPNNeck"
    assert type(detector.class_loss).__name__ == "FocalLoss"


def test_the_mistakes_are_reported_as_shown(tmp_path: Path) -> None:
    (tmp_path / "my_recipe.yaml").write_text(
        "base: [densedet:quickstart_ssd.yaml]\nmodel:\n  neck: {name: fnp, channels: 48}\n  matcher: "
        "{positive: 0.6}\n"
        "  head: {name: retinanet, in_channels: 64, depth: four}\ntrain:\n  optimizer: {lr: 3e-3}\n  "
        "batch_size: 0\n"
    )
    with pytest.raises(RecipeError) as raised:
        load_recipe(tmp_path / "my_recipe.yaml")
    report = str(raised.value).replace(f"{tmp_path}{os.sep}", "")
    [shown] = [b for b in BLOCKS if "my_recipe.yaml:" in b]
    assert report == shown.strip()


def test_commands_parse_and_recipes_exist() -> None:
    parser = build_parser()
    commands = re.findall(
        r"^(densedet (?:train|evaluate|predict|compare|new|show) .*?)(?:\s{2,}#.*)?$", TEXT, re.M
    )
    assert len(commands) >= 5
    for command in commands:
        arguments = parser.parse_args(command.split()[1:])
        recipe = getattr(arguments, "recipe", None)
        assert recipe is None or recipe in ("auto", *shipped_recipes()), command


def test_names_of_the_python_example_exist() -> None:
    [block] = [b for b in BLOCKS if "import densedet" in b]
    names = re.findall(r"densedet\.(\w+)\(", block)
    assert len(names) >= 4
    assert set(names) | set(re.findall(r"`(\w+)\(", TEXT)) - {"densedet"} <= set(densedet.__all__)
    compile(block, "README.md", "exec")


def test_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
