"""Which id an image gets in a results file."""

from __future__ import annotations

from pathlib import Path

import pytest

from densedet.core.annotations.builder import TableBuilder
from densedet.core.errors import DataError
from densedet.core.recipe.loading import load_recipe
from densedet.core.training.image_ids import ids_in, image_ids
from densedet.plugins.sources.coco import CocoSource


@pytest.fixture
def source(tmp_path: Path) -> CocoSource:
    builder = TableBuilder("memory")
    builder.add_class(1, "thing")
    for image_id, name in ((40, "a.png"), (7, "b/a.png"), (30, "b/c.png")):
        builder.add_image(image_id, name, 20, 10)
        builder.add_box(image_id, 1, (1, 1, 5, 5))
    (tmp_path / "images").mkdir()
    CocoSource.write(builder.finish(), tmp_path / "val.json")
    return CocoSource(annotations="val.json", images="images", root=str(tmp_path))


def test_ids_of_a_data_set_go_by_path_then_by_name(source: CocoSource, tmp_path: Path) -> None:
    images = tmp_path / "images"
    assert ids_in(source, [images / "b" / "a.png", images / "a.png"]) == [7, 40]
    assert ids_in(source, [Path("/copy/b/a.png"), Path("/copy/a.png"), Path("/flat/c.png")]) == [7, 40, 30]
    with pytest.raises(DataError, match=r"1 of 2 images are not among the 3 of the annotations \(/x/d.png"):
        ids_in(source, [images / "a.png", Path("/x/d.png")])
    with pytest.raises(DataError, match="/x/c.png and /y/c.png are the same image of the annotations"):
        ids_in(source, [Path("/x/c.png"), Path("/y/c.png")])
    assert ids_in(source, []) == []


def test_ids_without_annotations(source: CocoSource, tmp_path: Path) -> None:
    """The recipe's own images; else the numbers in the names, as the sources yolo and voc count them."""
    images, elsewhere = tmp_path / "images", Path("/elsewhere")
    spec = '{"name": "coco", "annotations": "val.json", "images": "images"}'
    recipe = load_recipe("quickstart_ssd", [f"data.root={tmp_path}", f"data.val={spec}"])
    found, note = image_ids([images / "b" / "c.png", images / "a.png"], recipe)
    assert (found, note) == ([30, 40], "image ids are those of the recipe's data.val")
    found, note = image_ids([elsewhere / "000139.jpg", elsewhere / "7.jpg"], recipe)
    assert found == [139, 7]
    assert "are the numbers in the file names; --annotations FILE gives" in note
    for names in (["x.jpg", "7.jpg"], ["7.jpg", "more/7.png"]):
        found, note = image_ids([elsewhere / name for name in names], recipe)
        assert found == [1, 2]
        assert "count the images from 1; --annotations FILE gives" in note
    assert image_ids([images / "new.png"], recipe)[0] == [1]
    (tmp_path / "val.json").unlink()
    assert image_ids([images / "a.png"], recipe)[0] == [1]
