import json
from dataclasses import replace

import numpy as np
import pytest

from densedet.core.annotations.border import CheckedSource, checked
from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.filter_rules import FilterSection
from densedet.core.annotations.filters import filtered
from densedet.core.annotations.views import hold_out
from densedet.core.assembly import build_source
from densedet.core.data.facts import LOOKED_AT, check_trainable, data_facts, notes_on
from densedet.core.errors import DataError
from densedet.core.recipe.loading import load_recipe
from densedet.core.training.run import Run
from densedet.plugins.resize.exact import ExactResize
from densedet.plugins.sources.coco import CocoSource
from densedet.plugins.sources.digits import DigitsSource
from densedet.tools.main import main


@pytest.fixture
def source(tmp_path):
    """Image 1: cat, dog, a crowd of cats, a flat cat. 2: bird, clipped. 3 and 4: no boxes."""
    builder = TableBuilder("memory")
    for category_id, name in enumerate(("cat", "dog", "bird", "fish")):
        builder.add_class(category_id, name)
    for index in range(1, 5):
        builder.add_image(index, f"{index}.png", 100, 50)
    builder.add_box(1, 0, (0, 0, 20, 30))
    builder.add_box(1, 1, (0, 0, 9, 9))
    builder.add_box(1, 0, (0, 0, 50, 50), crowd=True)
    builder.add_box(2, 2, (90, 0, 20, 30))
    CocoSource.write(builder.finish(), tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    content["annotations"].append(
        {"id": 9, "image_id": 1, "category_id": 0, "bbox": [1, 1, 0, 5], "area": 1, "iscrowd": 0}
    )
    (tmp_path / "a.json").write_text(json.dumps(content))
    return CocoSource(annotations="a.json", images=".", root=str(tmp_path))


def test_facts(source):
    assert data_facts(source, ("cat", "bird", "", "fish")) == {
        "images": 4,
        "looked_at": 4,
        "boxes": 2,
        "images_without_boxes": 2,
        "classes_without_boxes": ["fish"],
        "other_classes": {"dog": 1},
        "dropped_boxes": 1,
        "clipped_boxes": 1,
        "left_out_images": 0,
        "faults": {"clipped": 1, "flat": 1},
    }


def test_facts_of_views(source):
    def facts(**rules):
        resize = ExactResize(size_wh=(128, 64))
        view = filtered(source, FilterSection(**rules), classes=None, resize=resize)
        found = data_facts(view, source.classes)
        return [found[key] for key in ("images", "boxes", "images_without_boxes", "classes_without_boxes")]

    assert facts() == [4, 3, 2, ["fish"]]
    assert facts(crowd="count") == [4, 4, 2, ["fish"]]
    assert facts(where="class = 'dog'") == [1, 1, 0, ["cat", "bird", "fish"]]
    assert facts(min_side=10) == [4, 2, 2, ["dog", "fish"]]
    assert facts(empty="drop") == [2, 3, 0, ["fish"]]
    one, other = (data_facts(part, source.classes) for part in hold_out(source, 0.5, 0))
    assert one["images"] == other["images"] == 2
    assert one["boxes"] + other["boxes"] == 3


def test_notes(source):
    train = data_facts(source, ("cat", "fish"))
    assert train["boxes"] == 1
    wrong = "1 box left out (1 without width or height), 1 box clipped; densedet check data names them"
    assert notes_on({"train": train, "val": train}, ("cat", "fish", "dog")) == [
        f"training data: {wrong}",
        "without a box that counts: 3 of 4 training images",
        "classes without a training box: fish",
        "1 training box ignored, of classes that the detector lacks: bird",
        f"validation data: {wrong}",
        "without a box that counts: 3 of 4 validation images",
        "classes without a validation box, whose AP is not computed: fish",
        "1 validation box ignored, of classes that the detector lacks: bird",
    ]
    sound = data_facts(DigitsSource(count=40), DigitsSource.classes)
    assert sound["classes_without_boxes"] == []
    assert notes_on({"train": sound}) == []


def test_a_generated_source_is_sampled_and_one_without_sizes_counted_whole():
    source = checked(DigitsSource(count=LOOKED_AT + 50, size=(32, 32), max_objects=1, min_objects=1))
    facts = data_facts(source, source.classes)
    assert (facts["images"], facts["looked_at"], facts["boxes"]) == (550, 500, 500)
    assert source.table.offsets[-1] == 550
    assert data_facts(source, source.classes)["looked_at"] == 550  # the table is made by now


def test_nothing_to_learn_by_check_data(tmp_path, capsys):
    builder = TableBuilder("memory")
    builder.add_class(0, "cat")
    builder.add_image(1, "1.png", 64, 32)
    _save(tmp_path / "1.png")
    CocoSource.write(builder.finish(), tmp_path / "a.json")
    assert main(["check", "data", str(tmp_path / "a.json")]) == 0
    assert "no box counts: nothing can be learnt from these images" in capsys.readouterr().out


def test_nothing_to_learn(source):
    facts = data_facts(source, ("fish",))
    with pytest.raises(DataError) as caught:
        check_trainable(facts)
    assert str(caught.value).startswith(
        "no box counts in the 4 training images (1 box could not be used), so nothing can be learnt"
    )
    check_trainable(data_facts(source, ("dog",)))
    place = {"annotations": str(source.files[0]), "images": str(source.images_folder)}
    split = json.dumps({"name": "coco", **place})
    recipe = load_recipe("quickstart_ssd", [f"data.train={split}", "data.val=null", "data.classes=[fish]"])
    with pytest.raises(DataError, match="no box counts in the 4 training images"):
        Run(recipe)


def test_train_and_evaluate_tell_and_keep_the_facts(tmp_path, capsys):
    train, val = tmp_path / "train", tmp_path / "val"
    for folder, classes in ((train, ("cat", "dog")), (val, ("cat", "bird"))):
        folder.mkdir()
        builder = TableBuilder("memory")
        for category_id, name in enumerate(classes):
            builder.add_class(category_id, name)
        for index in range(4):
            builder.add_image(index, f"{index}.png", 64, 32)
            _save(folder / f"{index}.png")
            for label in range(2):
                builder.add_box(index, label, (8, 8, 16, 16))
        table = builder.finish()
        flipped = table.xywh.copy()
        flipped[:3] = (24, 8, -16, 16)  # drawn from right to left; cat, dog, cat
        CocoSource.write(replace(table, xywh=flipped), folder / "a.json")
    assert main(["check", "data", str(train / "a.json")]) == 3
    assert "3 boxes left out (3 drawn from right to left or upwards)" in capsys.readouterr().out
    parts = [
        f"data.{split}={json.dumps({'name': 'coco', 'annotations': f'{split}/a.json', 'images': split})}"
        for split in ("train", "val")
    ]
    small = [
        "train.budget.steps=1",
        "train.batch_size=2",
        "train.evaluations=1",
        "data.input_size_wh=[64, 32]",
    ]
    runs = f"run.folder={json.dumps(str(tmp_path / 'runs'))}"
    root = f"data.root={json.dumps(str(tmp_path))}"
    assert main(["check", "data", "quickstart_ssd", *parts, root]) == 3
    assert (
        "1 class with boxes in val and none in train: AP counts what cannot be learned\n    bird"
        in capsys.readouterr().out
    )
    assert main(["train", "quickstart_ssd", *parts, *small, root, runs]) == 0
    told = capsys.readouterr()
    assert "training data: 3 boxes left out (3 drawn from right to left or upwards)" in told.out + told.err
    assert "3 validation boxes ignored, of classes that the detector lacks: bird" in told.out + told.err
    run = tmp_path / "runs" / "quickstart_ssd" / "1"
    data = json.loads((run / "summary.json").read_text())["data"]
    assert (data["train"]["dropped_boxes"], data["train"]["boxes"]) == (3, 5)
    assert data["val"]["other_classes"] == {"bird": 3}
    assert main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"] == data["val"]
    assert main(["evaluate", str(run)]) == 0
    assert (
        "validation data: 3 boxes left out (3 drawn from right to left or upwards)" in capsys.readouterr().out
    )


def _save(path):
    from PIL import Image

    Image.fromarray(np.zeros((32, 64), np.uint8)).save(path)


def test_a_recipe_s_sources_stand_behind_the_border():
    assert isinstance(build_source(load_recipe("quickstart_ssd"), "train"), CheckedSource)
