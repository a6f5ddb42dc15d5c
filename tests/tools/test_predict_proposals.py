"""densedet predict --as FORMAT: files that a labelling tool opens, and that our own sources read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densedet.core.annotations.conversion import open_source, recognise
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.tests.quick_run import train_quickly
from densedet.tools.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return train_quickly(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name in ("a.png", "deep/b c.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 255, (64, 128), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("format", "made"),
    [
        ("labelme", "labelme"),
        ("cvat", "annotations.xml"),
        ("coco", "annotations.json"),
        ("voc", "voc"),
        ("yolo", "yolo"),
    ],
)
def test_proposals_come_back_as_they_were_found(
    run: str, photos: Path, tmp_path: Path, format: str, made: str
) -> None:
    before = sorted(photos.rglob("*"))
    out = tmp_path / "out"
    given = ["predict", run, str(photos), "--as", format, "--output", str(out), "--no-pictures"]
    assert main([*given, "--score", "0.05", "model.postprocess.max_detections=5"]) == 0
    rows = json.loads((out / "results.json").read_text())
    assert len(rows) > 2
    components = load_plugins([]).components
    source = open_source(recognise(out / made, components), components)
    table = source.table
    assert table.faults.counts == {}
    names = {str(photos / name): name for name in ("a.png", "deep/b c.jpg")}
    assert [table.name(i).removeprefix("train/") for i in range(len(table))] == list(names.values())
    expected = [(names[row["file_name"]], row["bbox"], f"{row['category_id']}") for row in rows]
    found = [
        (table.name(int(image)), box, str(table.category_ids[label]))
        for image, box, label in zip(table.owners(), table.xywh.tolist(), table.labels)
    ]
    assert sorted(found) == sorted(expected)
    for index in range(len(source)):
        assert Image.open(source.image(index)).size == (128, 64)
    assert sorted(photos.rglob("*")) == before
    assert main([*given]) == 2, "nothing is overwritten"


def test_the_tools_see_scores(run: str, photos: Path, tmp_path: Path) -> None:
    for format in ("labelme", "cvat"):
        given = ["predict", run, str(photos / "a.png"), "--as", format, "--no-pictures", "--score", "0.05"]
        assert main([*given, "--output", str(tmp_path / format)]) == 0
    rows = json.loads((tmp_path / "labelme" / "results.json").read_text())
    values = json.loads((tmp_path / "labelme" / "labelme" / "train" / "a.json").read_text())
    assert [shape["description"] for shape in values["shapes"]] == [f"score {r['score']:.3f}" for r in rows]
    assert rows[0]["score"] > rows[-1]["score"]
    assert (values["imagePath"], values["imageWidth"], values["imageHeight"]) == ("a.png", 128, 64)
    text = (tmp_path / "cvat" / "annotations.xml").read_text()
    assert f'<attribute name="score">{rows[0]["score"]:.3f}</attribute>' in text


def test_a_format_that_is_only_read_is_refused(
    run: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["predict", run, str(photos), "--output", str(tmp_path / "out"), "--as"]
    assert main([*given, "roboflow"]) == 2
    assert "no source 'roboflow' writes annotations" in capsys.readouterr().err
    assert main([*given, "labelm"]) == 2
    assert "Did you mean 'labelme'?" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
