"""`densedet show explain`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from densedet.tests.quick_run import train_quickly
from densedet.tools.main import main

SMALL = ("data.train.count=4", "data.val.count=4", "model.backbone.widths=[8, 8, 8]")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "beside_a_recipe"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return train_quickly(tmp_path_factory.mktemp("runs"))


def test_two_detectors_stand_side_by_side_in_one_small_file(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "new" / "page.html"
    given = [run, "quickstart_retinanet", *SMALL, "--number", "2", "--output", str(page)]
    assert main(["show", "explain", *given]) == 0
    told = capsys.readouterr()
    assert f"quickstart_ssd ({run}, trained): candidates: " in told.out
    assert "quickstart_retinanet (quickstart_retinanet, with drawn weights, not trained)" in told.out
    assert f"{page} (" in told.err
    text = page.read_text(encoding="utf-8")
    assert len(text) < 5_000_000
    assert "http:" not in text
    assert "https:" not in text
    assert text.count('"mapClasses"') == 2

    # Nothing is overwritten.
    assert main(["show", "explain", *given]) == 2
    assert "is there already, and nothing is overwritten" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == text


def test_as_json_and_of_an_image_file(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    image = str(EXAMPLES / "shapes" / "train_00.png")
    boxed = ["--box", "3,5,5,40,40"]
    assert main(["show", "explain", "--image", image, run, *boxed, "--json", "--output", str(page)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["page"] == str(page)
    assert told["bytes"] == page.stat().st_size
    (column,) = told["columns"]
    assert [one["name"] for one in column["objects"]] == ["3"]
    assert column["steps"] == [2]
    assert column["detections"] == column["fates"]["kept"]


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["--number", "3"], 2, "name one or two detectors, and there is none: densedet show explain runs/"),
        (["a.png"], 2, "name one or two detectors, and there is none"),
        (["quickstart_ssd"] * 3, 2, "name one or two detectors, and there are 3"),
        (["quickstart_ssd", "a.png", "--number", "1"], 2, "the page is about one image, and 2 are named"),
        (["quickstart_ssd", "nowhere.png"], 3, "--image nowhere.png: there is no such file"),
        (["quickstart_ssd", *SMALL, "--number", "99"], 2, "has 4 images, number 0 to 3"),
        (["nowhere"], 1, "there is no checkpoint at nowhere"),
        (
            ["quickstart_ssd", "--output", "page"],
            2,
            "--output page: give the page a name that ends with .html",
        ),
        (["quickstart_ssd", "model.nonsense=1"], 2, "nonsense"),
    ],
)
def test_wrong_use_is_told_in_a_sentence(
    given: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["show", "explain", *given]) == code
    told = capsys.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err
    assert told.out == ""
    assert not list(tmp_path.glob("*.html"))


def test_two_recipes_of_different_images_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES.parent.parent)
    page = tmp_path / "page.html"
    given = ["quickstart_ssd", "examples/beside_a_recipe/my_source.yaml", "--output", str(page)]
    assert main(["show", "explain", *given]) == 2
    assert "mean different images by this (image 0" in capsys.readouterr().err
    assert not page.exists()
