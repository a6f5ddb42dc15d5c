"""densedet show model, data, anchors, matches, heatmaps, missed and worst: numbers, pages and wrong use."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import densedet
from densedet.core.boxes import pairwise_iou
from densedet.core.showing.subject import Wanted, subject_of, views_of
from densedet.tests.quick_run import train_quickly
from densedet.tools.main import main

Texts = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "beside_a_recipe"
SMALL = ("data.train.count=16", "data.val.count=6", "model.backbone.widths=[8, 8, 8]")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return train_quickly(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A digits scene of twice the network's size, as a file."""
    source = densedet.core.assembly.build_source(densedet.load_recipe("quickstart_ssd"), "val")  # type: ignore[attr-defined]
    path = tmp_path_factory.mktemp("photos") / "a street.png"
    Image.fromarray(source.image(2)).resize((256, 128)).save(path)
    return str(path)


def told(capsys: Texts, *arguments: str) -> Any:
    assert main(["show", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("topic", ["model", "data", "anchors", "matches", "heatmaps", "missed", "worst"])
def test_every_topic_writes_a_page_and_its_pictures(
    topic: str, run: str, tmp_path: Path, capsys: Texts
) -> None:
    folder = tmp_path / "new" / topic
    assert main(["show", topic, run, "--output", str(folder)]) == 0
    text = capsys.readouterr()
    pictures = sorted(folder.glob("*.png"))
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert f"and the page -> {folder / 'index.html'}" in text.err
    assert len(page.split("<img ")) - 1 == len(pictures) > 0
    assert sorted(folder.iterdir()) == sorted([*pictures, folder / "index.html"])
    # It needs nothing beside it.
    assert not re.search(r'(?:src|href)="(?!data:)|https?:|@import|url\(', page)
    assert 'name="viewport"' in page and "prefers-color-scheme: dark" in page
    for picture in pictures:
        with Image.open(picture) as opened:
            opened.verify()
    assert [path.name for path in folder.parent.iterdir()] == [topic], "no temporary folder is left"
    assert main(["show", topic, run, "--output", str(folder)]) == 2
    assert "is there already, and nothing is overwritten" in capsys.readouterr().err


def test_the_model_needs_no_images(capsys: Texts) -> None:
    facts = told(capsys, "model", "retinanet_r50_fpn")
    assert facts["input"] == {"width": 1344, "height": 800, "channels": 3}
    assert [level["stride"] for level in facts["levels"]] == [8, 16, 32, 64, 128]
    # Lin et al. 2017: scales of 2^0, 2^(1/3), 2^(2/3) of 4 strides, three ratios.
    assert [level["anchors"] for level in facts["levels"]] == [9] * 5
    assert max(w * h for w, h in facts["levels"][0]["anchor_sizes_wh"]) == pytest.approx(
        (32 * 2 ** (2 / 3)) ** 2, 1e-2
    )
    # ResNet-50 with strides in its windows of 3: 7, + 2 * 2 (pool) = 11, + 3 * 2 * 4 = 35, + 8 + 3 * 16 = 91,
    # + 16 + 5 * 32 = 267, + 32 + 2 * 64 = 427.
    backbone = next(part for part in facts["parts"] if part["name"] == "backbone")
    assert [map_["receptive_field_wh"] for map_ in backbone["maps"]] == [[91] * 2, [267] * 2, [427] * 2]


def test_the_anchors_of_a_cell(capsys: Texts) -> None:
    facts = told(capsys, "anchors", "quickstart_retinanet", *SMALL, "--number", "2")
    (image,) = facts["images"]
    subject = subject_of("quickstart_retinanet", SMALL)
    (view,) = views_of(subject, Wanted(numbers=[2]))
    inside = subject.explain(view.batch, "anchors")
    best = pairwise_iou(view.boxes, inside.anchors).amax(dim=1)
    assert [one["IoU"] for one in image["objects"]] == pytest.approx(best.tolist(), abs=0.006)
    assert [row[4] for row in facts["levels"]["rows"]] == ["4,608", "1,152", "288", "72"]


def test_matches_are_the_matchers(run: str, capsys: Texts) -> None:
    facts = told(capsys, "matches", run, "--number", "0", "3")
    subject = subject_of(run)
    for image, view in zip(facts["images"], views_of(subject, Wanted(numbers=[0, 3]))):
        matched = subject.explain(view.batch, "matches").targets.matched_idxs[0]
        assert [one["anchors"] for one in image["objects"]] == [
            int((matched == slot).sum()) for slot in range(len(view.boxes))
        ]
        assert all(sum(one["levels"]) == one["anchors"] for one in image["objects"])
        assert image["anchors"] == {
            "positive": int((matched >= 0).sum()),
            "ignored": int((matched == -2).sum()),
            "background": int((matched == -1).sum()),
        }


def test_an_object_without_an_anchor_is_named(photo: str, capsys: Texts) -> None:
    """Where an IoU of .9 is asked for and no object may claim its best anchor, a box of 3 pixels gets none.
    One of 12 x 12 pixels around the middle of a cell of stride 4, (62, 34), is an anchor itself."""
    strict = (
        "model.matcher.positive=0.9",
        "model.matcher.negative=0.4",
        "model.matcher.low_quality_matches=none",
    )
    boxes = ("--box", "7,64,64,70,70", "--box", "3,112,56,136,80")
    command = ["show", "matches", "quickstart_retinanet", *SMALL, *strict, "--image", photo, *boxes]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "2 objects in 1 image; 1 of them got no anchor." in text
    assert "Without an anchor: 0 (7). The detector does not learn them here." in text
    assert re.search(r"^0: 7 +3x3 .*no anchor", text, flags=re.MULTILINE)


def test_the_best_scores_are_the_detectors(run: str, capsys: Texts) -> None:
    facts = told(capsys, "heatmaps", run, "--number", "1", "--class", "4")
    subject = subject_of(run)
    (view,) = views_of(subject, Wanted(numbers=[1]))
    maps = subject.explain(view.batch, "heatmaps").score_maps()
    assert [row["best_score"] for row in facts["maps"][0]["levels"]] == pytest.approx(
        [float(level[0, 4].max()) for level in maps], abs=1e-5
    )
    assert facts["maps"][0]["class"] == "4"


def test_data_are_the_batches_of_a_training(capsys: Texts) -> None:
    mosaic = "data.batch_transforms=[{name: mosaic, p: 1.0, until: 0.9}, {name: flip, p: 1.0}]"
    common = ("data", "quickstart_ssd", *SMALL, "train.batch_size=4", mosaic, "data.sampler=class_balanced")
    facts = told(capsys, *common, "--batches", "2", "--epoch", "1")
    assert facts["transforms"] == {
        "data.batch_transforms.0 mosaic": True,
        "data.batch_transforms.1 flip": True,
    }
    recipe = densedet.load_recipe(
        "quickstart_ssd", [*SMALL, "train.batch_size=4", mosaic, "data.sampler=class_balanced"]
    )
    batches = list(densedet.dataloader(recipe, epoch=1))
    for shown, batch in zip(facts["batches"], batches[:2]):
        assert [image["image_id"] for image in shown["images"]] == batch.image_ids
        for image, boxes, valid in zip(shown["images"], batch.boxes, batch.valid):
            assert torch.allclose(torch.tensor(image["boxes"]).reshape(-1, 4), boxes[valid])
    assert facts["sampler"]["draws"] == 16
    drawn = facts["sampler"]["classes"].values()
    assert sum(row["drawn"]["objects"] for row in drawn) > 0

    later = told(capsys, *common, "--progress", "0.95")
    assert later["transforms"]["data.batch_transforms.0 mosaic"] is False
    # Without mosaic each object is one of its own image.
    source = densedet.core.assembly.build_source(recipe, "train")  # type: ignore[attr-defined]
    for image in later["batches"][0]["images"]:
        assert len(image["boxes"]) == len(source.annotation(image["image_id"]).boxes)


def test_named_images_fill_the_batches(photo: str, capsys: Texts) -> None:
    small = (*SMALL, "train.batch_size=4")
    facts = told(capsys, "data", "quickstart_ssd", *small, "--number", "5", "--batches", "2")
    assert [image["image_id"] for batch in facts["batches"] for image in batch["images"]] == [5] * 8
    facts = told(capsys, "data", "quickstart_ssd", *small, "--image", photo, "--box", "3,0,0,128,64")
    (batch,) = facts["batches"]
    assert [image["classes"] for image in batch["images"]] == [["3"]] * 4
    # Half as large in the network, flipped or not.
    assert {tuple(image["boxes"][0]) for image in batch["images"]} <= {(0, 0, 64, 32), (64, 0, 128, 32)}


def test_an_image_file_of_the_data_brings_its_objects(tmp_path: Path) -> None:
    root = f"data.root={json.dumps(str(EXAMPLES / 'shapes'))}"
    subject = subject_of(EXAMPLES / "my_source.yaml", [root])
    wanted = Wanted(files=[str(EXAMPLES / "shapes" / "val_01.png")])
    (view,) = views_of(subject, wanted)
    (same,) = views_of(subject, Wanted(numbers=[1]))
    assert view.known
    assert torch.equal(view.boxes, same.boxes)
    copy = tmp_path / "val_01.png"
    copy.write_bytes((EXAMPLES / "shapes" / "val_01.png").read_bytes())
    (other,) = views_of(subject, Wanted(files=[str(copy)]))
    assert not other.known
    assert torch.equal(other.batch.images, same.batch.images)


@pytest.mark.parametrize(("recipe", "name"), [("attribute_head", "5"), ("keypoint_head", "arrow")])
def test_a_file_tells_nothing_of_what_objects_carry(
    recipe: str, name: str, photo: str, capsys: Texts
) -> None:
    what = (str(EXAMPLES / f"{recipe}.yaml"), "--image", photo)
    told(capsys, "heatmaps", *what)
    facts = told(capsys, "matches", *what, "--box", f"{name},60,40,110,90")
    assert facts["images"][0]["objects"][0]["anchors"] > 0


def test_a_strangers_detector_shows_what_it_has(tmp_path: Path, capsys: Texts) -> None:
    recipe = str(EXAMPLES / "centernet.yaml")
    assert main(["show", "model", recipe, *SMALL[:2], "--output", str(tmp_path / "m")]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^heatmap +Sequential", text, flags=re.MULTILINE)
    for topic in ("anchors", "matches", "heatmaps"):
        assert main(["show", topic, recipe, *SMALL[:2]]) == 2
        assert f"show {topic} needs the inside of the detector, and CenterNet" in capsys.readouterr().err
    assert main(["show", "data", recipe, *SMALL[:2]]) == 0
    points = ("model.anchors=points", "model.matcher=fcos", "model.coder=ltrb", "model.box_loss=giou")
    assert main(["show", "anchors", "quickstart_retinanet", *SMALL, *points]) == 0
    assert re.search(r"^0 +4 +32x16 +1 +512 +4 +1 ", capsys.readouterr().out, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["anchors", "RUN", "--image", "nothing.png"], 3, "--image nothing.png: there is no such file"),
        (["heatmaps", "RUN", "--image", "FOLDER"], 2, "is a folder: name image files"),
        (["heatmaps", "RUN", "--image", "TEXT"], 3, "notes.txt"),
        (["matches", "RUN", "--number", "4"], 2, "--number 4: data.val has 4 images, number 0 to 3"),
        (["matches", "RUN", "--number", "-1"], 2, "--number -1: data.val has 4 images"),
        (["matches", "RUN", "--id", "digit"], 2, "--id digit: data.val has no such image id."),
        (["matches", "RUN", "--image", "PHOTO"], 2, "the objects of a street.png are not known: write --box"),
        (["matches", "RUN", "--box", "3,0,0,5,5"], 2, "--box gives the objects of one image file"),
        (["matches", "RUN", "--image", "PHOTO", "--box", "3,0,0,5"], 2, "write CLASS,X1,Y1,X2,Y2"),
        (
            ["matches", "RUN", "--image", "PHOTO", "--box", "3,0,0,5,nan"],
            2,
            "the corners are to lie in the image",
        ),
        (["matches", "RUN", "--image", "PHOTO", "--box", "3,0,0,999,5"], 2, "of 256x128 pixels"),
        (["matches", "RUN", "--image", "PHOTO", "--box", "x,0,0,5,5"], 2, "the detector has no class 'x'"),
        (["heatmaps", "RUN", "--class", "ten"], 2, "--class ten: the detector has no such class."),
        (["anchors", "RUN", "--count", "0"], 2, "--count 0: give at least 1"),
        (["worst", "RUN", "--count", "0"], 2, "--count 0: give at least 1"),
        (["data", "RUN", "--progress", "1.5"], 2, "--progress 1.5: give a number from 0 to 1"),
        (["data", "RUN", "--batches", "0"], 2, "--batches 0 --epoch 0: give at least 1 and 0"),
        (["data", "RUN", "--number", "99"], 2, "--number 99: data.train has 16 images"),
        (["model", "FOLDER"], 1, "holds neither best.pt nor last.pt: give a run folder"),
        (["data", "FOLDER"], 1, "holds neither best.pt nor last.pt: give a run folder"),
        (["worst", "quickstart_ssd"], 2, "is a recipe without trained weights"),
        (["anchors", "quickstart_sd"], 1, "quickstart_sd"),
        (["anchors", "RUN", "--output", "FOLDER"], 2, "is there already, and nothing is overwritten"),
        (["anchors", "RUN", "--output", "TEXT/below"], 1, "cannot be made"),
    ],
)
def test_wrong_use_is_told_before_the_work(
    arguments: list[str], code: int, message: str, run: str, photo: str, tmp_path: Path, capsys: Texts
) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    places = {"RUN": run, "PHOTO": photo, "FOLDER": str(tmp_path), "TEXT": str(tmp_path / "notes.txt")}
    given = [places.get(text, text).replace("TEXT/", f"{tmp_path / 'notes.txt'}/") for text in arguments]
    assert main(["show", *given]) == code
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1
