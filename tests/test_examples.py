"""examples/beside_a_recipe: parts of several kinds and a whole detector from files beside a recipe,
and the pages in docs/."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

import densedet
from densedet.core import assembly, conformance, hookspecs
from densedet.core.annotations.filter_rules import FilterSection
from densedet.core.assembly import make_dataset
from densedet.core.boxes import pairwise_iou
from densedet.core.conformance import check_detector, check_head, check_source, wire
from densedet.core.data.loader import collate
from densedet.core.errors import DataError, DensedetError, PartError
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.core.training import checkpoint
from densedet.core.training.evaluation import evaluate_on
from densedet.core.training.evidence import EvidenceCollector
from densedet.core.types import Detections, Targets, Trace
from densedet.registry import KINDS
from densedet.tools.main import main

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples" / "beside_a_recipe"
DOCS = ROOT / "docs"
DIGITS = ("data.train.count=8", "data.val.count=3", "model.backbone.widths=[8, 8, 8]")
SMALL = ("train.batch_size=4", "train.budget.steps=4", "train.evaluations=2")


def part(file: str, kind: str, name: str) -> Any:
    """The class that an example registers."""
    return load_plugins([EXAMPLES / file]).components.get(kind, name).load()


def module_of(cls: Any) -> dict[str, Any]:
    """The functions beside a class of an example's file."""
    return vars(sys.modules[cls.__module__])


def train(folder: Path, recipe: Path, *overrides: str) -> tuple[Path, dict[str, Any]]:
    """Train as the command line does; the run folder and its summary."""
    assert main(["train", str(recipe), *SMALL, *overrides, f"run.folder={json.dumps(str(folder))}"]) == 0
    run = folder / recipe.stem / "1"
    return run, json.loads((run / "summary.json").read_text())


def loss_names(run: Path) -> set[str]:
    return set(json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["losses"])


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_every_part_of_an_example_is_described(file: Path) -> None:
    for kind, name in load_plugins([file]).plugins[-1].parts:
        facts = densedet.describe(kind, name, plugins=[file])
        assert facts["summary"].endswith("."), "the whole first sentence, over as many lines as it takes"
        assert not [a["name"] for a in facts["arguments"] if not a["wired"] and not a["doc"]]


# -- a head --------------------


def test_the_head_keeps_its_contract() -> None:
    head = part("my_head.py", "head", "one_tower")
    for depth in (1, 3):
        check_head(head, depth=depth)
    with pytest.raises(PartError, match="put neck fpn before it"):
        head(in_channels=(8, 16), num_anchors=(9, 9), class_channels=3, box_channels=4, class_bias=0.0)


def test_two_files_may_have_a_head_of_the_same_name(tmp_path: Path) -> None:
    """A recipe sees its own, whichever was loaded in between and however often."""
    copy = shutil.copy(EXAMPLES / "my_head.py", tmp_path)
    for file in (EXAMPLES / "my_head.py", copy, EXAMPLES / "my_head.py", copy, EXAMPLES / "my_head.py"):
        assert load_plugins([file]).components.get("head", "one_tower").origin == str(file)
    assert "one_tower" not in load_plugins().components.names("head")


def test_the_head_trains_from_the_file_beside_its_recipe(tmp_path: Path) -> None:
    run, summary = train(tmp_path, EXAMPLES / "my_head.yaml", *DIGITS, "run.hooks=[metrics, pictures]")
    assert (summary["status"], summary["steps"]) == ("done", 4)
    assert loss_names(run) == {"class", "box"}
    assert (run / "pictures" / "0_heatmap.png").exists()


# -- a neck made of necks --------------------


def test_necks_in_a_row_are_wired_by_their_place_and_train(tmp_path: Path) -> None:
    recipe = densedet.load_recipe(EXAMPLES / "my_neck.yaml", ["model.backbone.widths=[8, 8, 8]"])
    neck: Any = densedet.build(recipe).neck
    first, second = neck.stages
    # The quick start's backbone has strides 4, 8 and 16; FPN adds a level of twice the last.
    assert (first.channels, first.strides) == ((32,) * 4, (4, 8, 16, 32))
    assert [layer[0].in_channels for layer in second.lateral] == [32] * 4
    assert (neck.channels, neck.strides) == ((48,) * 4, (4, 8, 16, 32))

    _, summary = train(
        tmp_path, EXAMPLES / "my_neck.yaml", *DIGITS, "run.hooks=[metrics]", "train.budget.steps=2"
    )
    assert (summary["status"], summary["steps"]) == ("done", 2)

    with pytest.raises(DensedetError, match="stages is empty: name at least one neck"):
        densedet.build(densedet.load_recipe(EXAMPLES / "my_neck.yaml", ["model.neck.stages=[]"]))


# -- a source --------------------


def test_the_source_keeps_its_contract() -> None:
    for split, count in (("train", 16), ("val", 4)):
        source = part("my_source.py", "source", "csv_boxes")
        check_source(
            source, root=str(EXAMPLES / "shapes"), boxes=f"{split}.csv", classes=("circle", "square")
        )
        assert (
            len(
                source(
                    root=str(EXAMPLES),
                    boxes=f"shapes/{split}.csv",
                    images="shapes",
                    classes=("circle", "square"),
                )
            )
            == count
        )


def test_the_source_says_where_a_line_is_wrong(tmp_path: Path) -> None:
    source = part("my_source.py", "source", "csv_boxes")
    Image.new("L", (20, 10)).save(tmp_path / "a.png")

    def read(text: str) -> Any:
        (tmp_path / "boxes.csv").write_text(text)
        return source(root=str(tmp_path), boxes="boxes.csv", classes=("dot",))

    good = read("a.png,1,2,5,9,dot\n\na.png,3,3,3,9,dot\na.png,5,0,20,4,dot\n")
    assert good.annotation(0).boxes.tolist() == [[1, 2, 5, 9], [5, 0, 20, 4]]
    assert good.annotation(0).area.tolist() == [4 * 7, 15 * 4]
    assert [text.replace(str(tmp_path), "") for text in good.invalid()] == [
        f"{os.sep}boxes.csv:3: annotation number 1 of image 0 (a.png): box [3, 3, 0, 6] (x, y, width, "
        f"height) has no width or height above 0 and was dropped"
    ]
    for faulty in ("a.png,1,2,5,9,dash", "a.png,1,2,5,dot", "a.png,1,2,x,9,dot"):
        with pytest.raises(
            DataError, match=r"boxes\.csv:2: .* is not file,x1,y1,x2,y2,class with a class of dot"
        ):
            len(read(f"a.png\n{faulty}\n"))
    with pytest.raises(DataError, match=r"boxes\.csv:1: image .*b\.png does not exist"):
        len(read("b.png\n"))
    with pytest.raises(DataError, match=r"there is no file .*none\.csv: correct 'boxes'"):
        source(root=str(tmp_path), boxes="none.csv", classes=("dot",))


def test_the_source_counts_pixels_of_the_image_as_it_is_displayed(tmp_path: Path) -> None:
    """A photograph of 20 x 10 stored pixels, turned by its EXIF orientation: 10 x 20 as displayed."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "boxes.csv").write_text("a.jpg,1,12,9,19,dot\n")
    source = part("my_source.py", "source", "csv_boxes")
    arguments = {"root": str(tmp_path), "boxes": "boxes.csv", "classes": ("dot",)}
    truth = source(**arguments).annotation(0)
    assert (truth.width, truth.height) == (10, 20)
    assert truth.boxes.tolist() == [[1, 12, 9, 19]]  # outside of 20 x 10
    check_source(source, **arguments)


def test_the_source_trains(tmp_path: Path) -> None:
    root = f"data.root={json.dumps(str(EXAMPLES / 'shapes'))}"
    _, summary = train(
        tmp_path, EXAMPLES / "my_source.yaml", root, "run.hooks=[metrics]", "model.backbone.widths=[8, 8, 8]"
    )
    assert summary["steps"] == 4
    assert set(summary["classes"]) == {"circle", "square"}


# -- a run hook --------------------


def test_the_hook_stops_the_run_and_its_module_hears_every_step(tmp_path: Path) -> None:
    listed = "run.hooks=[metrics, {name: stop_at, ap: 0, times: 2}, checkpoint]"
    run, summary = train(
        tmp_path, EXAMPLES / "my_hook.yaml", *DIGITS, listed, "train.budget.steps=9", "train.evaluations=3"
    )
    assert (summary["status"], summary["reason"], summary["steps"]) == (
        "stopped",
        "AP reached 0.0 in 2 evaluations",
        6,
    )
    lines = [line.split(",") for line in (run / "learning_rate.csv").read_text().splitlines()]
    assert [int(step) for step, _, _ in lines] == [1, 2, 3, 4, 5, 6]
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [float(rate) for _, rate, _ in lines] == [
        pytest.approx(s["learning_rate"], rel=1e-5) for s in steps if s["event"] == "step"
    ]
    # What must survive a resume is in the checkpoint, and finds its way back.
    kept = checkpoint.load(run / "last.pt")["plugins"]
    assert kept == {"StopAt#1": {"reached": 2}}
    again = part("my_hook.py", "hook", "stop_at")()
    again.densedet_restore(run=None, state=kept["StopAt#1"])
    assert again.reached == 2


# -- a detector kind --------------------


def test_centernet_keeps_the_contract_of_detectors() -> None:
    centernet, table = part("centernet.py", "detector", "centernet"), load_plugins().components
    for neck in (None, "pan"):
        backbone = wire(table.get("backbone", "convnet").load(), {"widths": (8, 8, 8)}, in_channels=1)
        made = neck and wire(
            table.get("neck", neck).load(), {}, in_channels=backbone.channels, in_strides=backbone.strides
        )
        last = made or backbone
        check_detector(
            centernet,
            backbone=backbone,
            neck=made,
            in_channels=last.channels,
            in_strides=last.strides,
            width=8,
        )


def test_centernets_targets() -> None:
    functions = module_of(part("centernet.py", "detector", "centernet"))
    # A box of 4x4 and IoU 0.5: one corner each way: (4-r)^2 / (32 - (4-r)^2) = 0.5 -> (4-r)^2 = 32/3 -> r =
    # 0.734; inwards: (4-2r)^2 = 8 -> r = 0.586; outwards: (4+2r)^2 = 32 -> r = 0.828. The smallest holds.
    assert float(functions["radius"](torch.tensor([4.0, 4.0]), 0.5)) == pytest.approx(0.5858, abs=1e-4)
    # Radius below 1 -> deviation (0 + 1) / 6: the next cell gets exp(-1 / (2/36)) = exp(-18).
    bump = functions["gaussians"](torch.tensor([[[2.0, 1.0]]]), torch.tensor([[[4.0, 4.0]]]), (3, 5), 0.5)[
        0, 0
    ]
    assert bump.shape == (3, 5)
    assert float(bump[1, 2]) == 1
    assert float(bump[1, 3]) == pytest.approx(float(torch.tensor(-18.0).exp()), rel=1e-4)
    # Score 0.5: in an object's cell 0.5^2 * ln 2; at target 0.5 another (1 - 0.5)^4 of that; both 0.1733 and
    # 0.01083.
    loss = functions["focal"](torch.zeros(2), torch.tensor([1.0, 0.5]))
    assert loss.tolist() == pytest.approx([0.17329, 0.01083], abs=1e-5)


def test_centernet_learns_four_images() -> None:
    recipe = densedet.load_recipe(
        EXAMPLES / "centernet.yaml", ["data.train.count=4", "data.train.min_objects=1"]
    )
    source = assembly.build_source(recipe, "train")
    dataset = make_dataset(recipe, source, source.classes)
    batch = collate([dataset[index] for index in range(4)])
    torch.manual_seed(0)
    detector: Any = densedet.build(recipe)
    optimizer = torch.optim.Adam(detector.parameters(), lr=3e-3)
    totals = []
    for _ in range(40):
        loss = torch.stack(list(detector.train()(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(float(loss.detach()))
    assert totals[-1] < totals[0] / 10
    for image, found in enumerate(detector.eval().predict(batch)):
        boxes, labels = batch.boxes[image][batch.valid[image]], batch.labels[image][batch.valid[image]]
        overlap, which = pairwise_iou(boxes, found.boxes[: len(boxes)]).max(dim=1)
        assert bool((overlap > 0.5).all())
        assert torch.equal(found.labels[which], labels)
    # Its trace tells of each object which candidate reaches it: the one that found it.
    collector, trace = EvidenceCollector(0.5, FilterSection()), Trace()
    collector(batch, trace, detector.predict(batch, trace))
    for row in collector.rows.values():
        assert row["traced"].all()
        assert (row["best_iou"] > 0.5).all()
        assert (row["best_score"] > 0.1).all()


def test_an_ignored_object_neither_counts_nor_hurts_in_centernet() -> None:
    recipe = densedet.load_recipe(
        EXAMPLES / "centernet.yaml", ["data.train.count=1", "data.train.min_objects=3"]
    )
    source = assembly.build_source(recipe, "train")
    dataset = make_dataset(recipe, source, source.classes)
    detector, batch = densedet.build(recipe).eval(), collate([dataset[0]])
    functions = module_of(type(detector))
    detector.requires_grad_(False)
    whole = detector.losses(batch)
    batch.ignore[:] = True
    nothing = detector.losses(batch)
    assert float(nothing["size"]) == float(nothing["offset"]) == 0
    # Nothing counts but background, and none of it within the objects' boxes.
    cells = functions["CenterNet"]._ignored(batch.boxes / 4, batch.valid, (16, 32))
    logits = detector.run_network(batch)[0]
    assert float(nothing["heatmap"]) == pytest.approx(
        float((functions["focal"](logits, torch.zeros_like(logits)) * cells).sum()), rel=1e-5
    )
    assert 0 < int((~cells).sum()) < 16 * 32
    assert float(whole["size"]) > 0


def test_centernet_trains_and_its_checkpoint_asks_for_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, summary = train(
        tmp_path, EXAMPLES / "centernet.yaml", *DIGITS, "run.hooks=[metrics, checkpoint, tensorboard]"
    )
    assert summary["steps"] == 4
    assert summary["flops"] > 0
    assert loss_names(run) == {"heatmap", "size", "offset"}
    assert not list((run / "pictures").glob("*heatmap*"))  # it has no explain
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 2
    assert f"pass --plugin {EXAMPLES / 'centernet.py'}" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--plugin", str(EXAMPLES / "centernet.py"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3


# -- a learning rate of the backbone's own --------------------


def test_the_backbone_trains_at_its_own_rate(tmp_path: Path) -> None:
    _, summary = train(tmp_path, EXAMPLES / "backbone_lr.yaml", *DIGITS)
    assert summary["steps"] == 4


# -- what objects carry besides their boxes --------------------

LEARNING = ("model.backbone.widths=[16, 16, 16]", "train.channels_last=false")


def overfit(recipe: Any, images: int, steps: int) -> tuple[Any, Any]:
    """A detector that learned the first images of a recipe by heart, and their batch."""
    source = assembly.build_source(recipe, "train")
    dataset = make_dataset(recipe, source, source.classes)
    batch = collate([dataset[index] for index in range(images)])
    torch.manual_seed(0)
    detector: Any = densedet.build(recipe).train()
    optimizer = torch.optim.Adam(detector.parameters(), lr=3e-3)
    for _ in range(steps):
        loss = torch.stack(list(detector(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return detector.eval(), batch


def metrics_of(recipe: Any, detector: Any, batch: Any) -> dict[str, Any]:
    """What the recipe's evaluator says of the detector on this batch of the training source."""
    source = assembly.build_source(recipe, "train")
    dataset = SimpleNamespace(source=source)
    device = torch.device("cpu")
    return evaluate_on(recipe, detector, dataset, source.classes, [batch], device=device)  # type: ignore[arg-type]


def test_the_head_with_an_attribute_keeps_its_contract() -> None:
    check_head(part("attribute_head.py", "head", "tint"), depth=1)
    digits = load_plugins().components.get("source", "digits").load()(count=3)
    check_source(part("attribute_head.py", "source", "tinted"), source=digits)


def test_tinted_digits() -> None:
    """Under glass the other two channels are halved, and only there."""
    digits = load_plugins().components.get("source", "digits").load()(count=4, min_objects=1)
    tinted = part("attribute_head.py", "source", "tinted")(source=digits)
    truth, plain = tinted.annotation(3), digits.image(3)
    x1, y1 = truth.boxes[0, :2].long().tolist()
    halved = [channel for channel in range(3) if channel != int(truth.extra["tint"][0])]
    assert (tinted.image(3)[y1, x1, halved] == plain[y1, x1] // 2).all()
    assert tinted.image(3)[y1, x1, int(truth.extra["tint"][0])] == plain[y1, x1]


def test_the_tint_accuracy_counts_objects_that_are_found() -> None:
    """Of two objects one is found, with the right colour; of two images one each, one right, one wrong."""
    truth = {
        0: ([[0.0, 0, 10, 10], [20, 0, 30, 10]], [0, 1], [2, 0]),
        1: ([[0.0, 0, 10, 10]], [1], [1]),
    }

    def annotation(index: int) -> Any:
        boxes, labels, tints = (torch.tensor(values) for values in truth[index])
        ignore = torch.zeros(len(labels), dtype=torch.bool)
        return SimpleNamespace(boxes=boxes, labels=labels, ignore=ignore, extra={"tint": tints})

    inner = SimpleNamespace(add=lambda *_: None, result=lambda: {"AP": 0.5}, state=dict, merge=lambda _: None)
    evaluator = part("attribute_head.py", "evaluator", "with_tint")
    source = SimpleNamespace(annotation=annotation, classes=("a", "b"))
    first, second = (evaluator(source=source, classes=("a", "b"), evaluator=inner) for _ in range(2))
    box, none = torch.tensor([[0.0, 0, 10, 9]]), torch.tensor([-1])
    first.add(0, Detections(box, torch.ones(1), torch.tensor([0]), none, {"tint": torch.tensor([2])}))
    second.add(1, Detections(box, torch.ones(1), torch.tensor([1]), none, {"tint": torch.tensor([0])}))
    assert first.result() == {"AP": 0.5, "tint_accuracy": 1.0}
    assert second.result()["tint_accuracy"] == 0.0
    first.merge([first.state(), second.state()])
    assert first.result()["tint_accuracy"] == 0.5


def test_the_head_with_an_attribute_trains_and_predicts_it(tmp_path: Path, capsys: Any) -> None:
    count = ("data.train.source.count=8", "data.val.source.count=3", "model.backbone.widths=[8, 8, 8]")
    run, summary = train(
        tmp_path, EXAMPLES / "attribute_head.yaml", *count, "run.hooks=[metrics, checkpoint]"
    )
    assert summary["steps"] == 4
    assert loss_names(run) == {"class", "box", "tint"}
    Image.new("RGB", (128, 64), (90, 40, 40)).save(tmp_path / "a.png")
    plugin, output = str(EXAMPLES / "attribute_head.py"), str(tmp_path / "out")
    capsys.readouterr()
    arguments = ["--plugin", plugin, "--output", output, "--score", "0", "--json"]
    assert main(["predict", str(run), str(tmp_path / "a.png"), "model.postprocess.score=0", *arguments]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows and {row["tint"] for row in rows} <= {0, 1, 2}
    assert (tmp_path / "out" / "00000_a.jpg").exists()


def test_the_head_with_keypoints_keeps_its_contract() -> None:
    check_head(part("keypoint_head.py", "head", "keypoints"), depth=1)
    check_source(part("keypoint_head.py", "source", "arrows"), count=3)


def test_keypoints_and_their_loss() -> None:
    """An anchor 10 wide and 20 high around (5, 10); offsets (0.1, -0.2) of its sides are (1, -4) pixels."""
    functions = module_of(part("keypoint_head.py", "head", "keypoints"))
    anchors = torch.tensor([[0.0, 0, 10, 20]])
    values = torch.tensor([[0.1, -0.2, 0, 0, 0, 0]])
    assert functions["points_of"](values, anchors).tolist() == [[[6, 6, 1], [5, 10, 1], [5, 10, 1]]]
    # Off by (0.1, 0) in units of the sides: smooth L1 with beta 0.1 is 0.1 - 0.1 / 2 = 0.05; the second point
    # is right, the third is not visible.
    points = torch.tensor([[[7.0, 6, 2], [5, 10, 2], [0, 0, 0]]])
    targets = Targets(
        anchors,
        (),
        torch.zeros(1, 1, dtype=torch.int64),
        torch.ones(1, 1, dtype=torch.bool),
        torch.zeros(1, 1, dtype=torch.int64),
        anchors[None],
        extra={"keypoints": points},
        extra_known={"keypoints": torch.tensor([True])},
    )
    assert functions["point_loss"](values[None], targets).tolist() == [[pytest.approx(0.05)]]
    targets.extra_known["keypoints"] = torch.tensor([False])
    assert functions["point_loss"](values[None], targets).tolist() == [[0]]


def test_the_head_with_keypoints_trains(tmp_path: Path) -> None:
    count = ("data.train.count=8", "data.val.count=3", "model.backbone.widths=[8, 8, 8]")
    run, summary = train(tmp_path, EXAMPLES / "keypoint_head.yaml", *count, "run.hooks=[metrics]")
    assert summary["steps"] == 4
    assert loss_names(run) == {"class", "box", "keypoints"}


@pytest.mark.long
def test_an_attribute_and_keypoints_are_learned() -> None:
    """By heart, from a few images: all colours, and points to a pixel or so (arrows are 20 to 30 wide)."""
    attribute = densedet.load_recipe(
        EXAMPLES / "attribute_head.yaml", [*LEARNING, "data.train.source.count=4"]
    )
    found = metrics_of(attribute, *overfit(attribute, 4, 60))
    assert found["AP50"] > 0.8
    assert found["tint_accuracy"] > 0.9
    keypoints = densedet.load_recipe(EXAMPLES / "keypoint_head.yaml", [*LEARNING, "data.train.count=4"])
    found = metrics_of(keypoints, *overfit(keypoints, 4, 60))
    assert found["AP50"] > 0.8
    assert 0 <= found["keypoint_distance"] < 2


# -- the pages --------------------


def blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$",
        (DOCS / page).read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )


def test_the_page_about_a_head_shows_the_file_and_its_recipe() -> None:
    """Put together in order, its code blocks are the example that the tests above run."""
    first, second, third, _ = blocks("a_new_head.md", "python")
    assert f"{first}\n\n{second}\n{third}" == (EXAMPLES / "my_head.py").read_text(encoding="utf-8")
    assert blocks("a_new_head.md", "yaml") == [(EXAMPLES / "my_head.yaml").read_text(encoding="utf-8")]


def test_the_test_on_the_page_about_a_head_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved beside my_head.py, as a reader would run it."""
    shutil.copy(EXAMPLES / "my_head.py", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, Any] = {}
    exec(blocks("a_new_head.md", "python")[-1], names)
    [test] = [value for name, value in names.items() if name.startswith("test_")]
    test()


@pytest.mark.parametrize(("page", "number"), [("data.md", 0), ("augmentation.md", 0), ("augmentation.md", 1)])
def test_the_recipes_on_the_pages_about_data_load(tmp_path: Path, page: str, number: int) -> None:
    (tmp_path / "part.yaml").write_text(f"base: quickstart_ssd\n{blocks(page, 'yaml')[number]}")
    densedet.load_recipe(tmp_path / "part.yaml")


def test_the_mistakes_on_the_page_about_recipes_look_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "faulty.yaml").write_text(blocks("recipes.md", "yaml")[1])
    monkeypatch.chdir(tmp_path)
    assert main(["train", "faulty.yaml"]) == 2
    said = capsys.readouterr().err.removeprefix("densedet train: ")
    assert said == blocks("recipes.md", "text")[1]


def test_the_first_recipe_of_the_page_about_recipes_loads(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "my_head.py", tmp_path)
    (tmp_path / "r.yaml").write_text(blocks("recipes.md", "yaml")[0])
    model = densedet.load_recipe(tmp_path / "r.yaml").values["model"]
    assert (model["head"]["depth"], model["matcher"]["positive"], model["matcher"]["negative"]) == (
        3,
        0.6,
        0.4,
    )


@pytest.mark.long
@pytest.mark.parametrize("number", range(5))
def test_the_commands_of_the_page_about_checking_run(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With fewer and smaller images. The bundle is that of no run: tests of the black box replay many."""
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "checking.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```\n(.*?)^```$", page, flags=re.M | re.S)
    _, *words = shlex.split(block.splitlines()[number], comments=True)
    if words[1] == "nan":
        assert main(words) == 1
        assert "is no file: give a bundle such as" in capsys.readouterr().err
        return
    small = ["data.train.count=16", "data.val.count=4", "model.backbone.widths=[8, 8, 8]"]
    code = main([*words[:3], *small, "data.input_size_wh=[64, 32]", "train.batch_size=4", *words[3:]])
    told = capsys.readouterr()
    assert code == 0, told
    if "--overfit" in words:
        assert "are learned by heart in" in told.out
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {word for word in words if "." in word}


def test_the_pages_name_files_that_exist() -> None:
    for page in DOCS.glob("*.md"):
        for path in re.findall(
            r"(?:examples|configs|core)/[\w./-]+\.(?:py|yaml|csv)", page.read_text(encoding="utf-8")
        ):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_the_page_about_parts_says_what_is_refused() -> None:
    with pytest.raises(DensedetError) as caught:
        densedet.load_recipe("quickstart_retinanet", ["model.neck=identity"])
    said = str(caught.value).split("head 'retinanet': ")[1].split("\n")[0]
    assert said in " ".join((DOCS / "parts.md").read_text(encoding="utf-8").split())


def test_the_page_about_plugins_lists_every_hook_and_check() -> None:
    text = (DOCS / "plugins.md").read_text(encoding="utf-8")
    hooks = {name for name in vars(hookspecs) if name.startswith("densedet_")}
    assert hooks == set(re.findall(r"`(densedet_\w+)\(", text))
    checks = {name.removeprefix("check_") for name in conformance.__all__ if name.startswith("check_")} - {
        "part"
    }
    listed = " ".join(text.split()).split("There are `check_` + ")[1].split(".")[0]
    assert checks == set(listed.replace(" and ", ", ").split(", "))


def test_the_page_about_parts_has_every_kind() -> None:
    cells = re.findall(
        r"^\| ([a-z_, ]+) \|", (DOCS / "parts.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    named = {kind for cell in cells for kind in cell.split(", ")}
    assert set(KINDS) <= named


@pytest.mark.parametrize(
    "page", [*sorted(DOCS.glob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))], ids=lambda p: p.name
)
def test_links_and_pictures_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [
        link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith(("http:", "https:"))
    ]
    assert links, "a page that leads nowhere"
    for link in links:
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles], (
                link
            )
    assert len(text.splitlines()) < 130


def test_pictures_are_small_and_all_used() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    for picture in (DOCS / "pictures").glob("*.png"):
        assert picture.stat().st_size < 60_000
        assert f"pictures/{picture.name}" in text, picture.name
