"""docs/build.py: numbers of the pages that are kept true, and the site."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch):
    """The module docs/learning.py."""
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("learning")


def test_a_number_of_a_page_is_compared_and_written_anew(learning) -> None:
    page = "It has <!--=ssd.anchors-->2,720<!--/--> anchors, and keeps <!--=trained.kept~.3-->100<!--/-->."
    assert learning.written(page, {"ssd.anchors": "2,720", "trained.kept": "131"}) == (
        page,
        [],
    ), "131 is within 30 % of itself from 100"
    text, wrong = learning.written(page, {"ssd.anchors": "2,721", "trained.kept": "200"})
    assert text == page.replace("2,720", "2,721").replace("100", "200")
    assert wrong == [
        "ssd.anchors: the page has '2,720', the command gives '2,721'",
        "trained.kept: the page has '100', the command gives '200'",
    ]


def test_the_numbers_of_untrained_detectors_are_true(learning) -> None:
    found = {
        f"{name}.{key}": text
        for name in ("ssd", "retinanet")
        for key, text in learning.of_recipe(f"quickstart_{name}").items()
    }
    marks = [
        (page.name, mark["name"], mark["value"])
        for page in (DOCS / "how").glob("*.md")
        for mark in learning.MARK.finditer(page.read_text(encoding="utf-8"))
    ]
    shown = [mark for mark in marks if mark[1].startswith(("ssd.", "retinanet."))]
    assert len(shown) > 40
    assert [mark for mark in shown if found[mark[1]] != mark[2]] == []


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(importlib.util.find_spec("myst_nb") is None, reason="the extra docs is not installed")
def test_the_site_is_built_and_every_number_is_true(tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, str(DOCS / "build.py"), "--check", "--output", str(site)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("how/nms", "lessons", "reference/head", "reference/commands"):
        assert (site / "docs" / f"{page}.html").is_file()
    assert (site / "examples" / "write_a_head.html").is_file()
    head = (site / "docs" / "reference" / "head.html").read_text(encoding="utf-8")
    assert "densedet.plugins.heads.ssd.SSDHead" in head
    assert "side of the convolutions" in head
    pages = [path.read_text(encoding="utf-8") for path in site.rglob("*.html")]
    assert not any('src="http' in page or 'rel="stylesheet" href="http' in page for page in pages)
