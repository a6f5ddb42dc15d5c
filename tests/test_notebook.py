"""The notebook in examples/ runs from top to bottom. Its cells are executed here, without a kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "first_steps.ipynb"


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        assert cell["cell_type"] == "markdown" or not cell["outputs"], "the notebook is kept without outputs"
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert len(names["losses"].values) == 12
    assert (tmp_path / "runs" / "quickstart_ssd" / "1" / "best.pt").is_file()
    assert 0 <= names["result"]["AP"] <= 1
    heads = [names["runs"][name].detector.head for name in ("ssd", "ssdlite")]
    assert [type(head).__name__ for head in heads] == ["SSDHead", "SSDLiteHead"]
    assert isinstance(names["found"].draw(names["image"]), Image.Image)
    links = [part.split(")")[0] for cell in cells for part in "".join(cell["source"]).split("](")[1:]]
    assert links
    assert all((NOTEBOOK.parent / link).exists() for link in links)
