"""The notebooks of examples/ run, as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run all cells in an empty folder; the names that they leave."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in json.loads((EXAMPLES / name).read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    return names


@pytest.mark.parametrize("notebook", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_it_is_kept_without_outputs_and_its_links_hold(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    links = [part.split(")")[0] for text in texts for part in text.split("](")[1:]]
    assert links
    assert all((EXAMPLES / link).exists() for link in links), links


@pytest.mark.long
def test_swap_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("swap_a_part.ipynb", tmp_path, monkeypatch)
    assert len(names["losses"].values) == 12
    assert (tmp_path / "runs" / "quickstart_ssd" / "1" / "best.pt").is_file()
    assert 0 <= names["result"]["AP"] <= 1
    heads = [names["runs"][name].detector.head for name in ("ssd", "ssdlite")]
    assert [type(head).__name__ for head in heads] == ["SSDHead", "SSDLiteHead"]
    assert isinstance(names["found"].draw(names["image"]), Image.Image)


def test_write_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("write_a_head.ipynb", tmp_path, monkeypatch)
    assert "outputs must be in the order y, x, anchor" in names["mistake"]
    assert names["run"].detector.head.__class__ is names["OneTowerHead"]
    assert 0 <= names["result"]["AP"] <= 1
    assert names["heat"].shape == (16, 32)  # 128x64 pixels at stride 4
    assert names["picture"].size == (512, 256)


@pytest.mark.long
def test_photographs_to_a_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("photographs_to_a_detector.ipynb", tmp_path, monkeypatch)
    assert names["status"] == 0
    assert (names["folder"] / "best.pt").is_file()
    assert names["found"].classes == ("ball", "crate")
