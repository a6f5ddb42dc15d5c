"""The comparison's report on tiny run folders made here."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from densedet.core import sealed_file
from densedet.core.errors import UsageError
from densedet.core.report.arms import Arm, Comparison, Measured
from densedet.core.report.comparison import (
    UNRANKED,
    obstacles,
    recipe_differences,
    summary_words,
    table_rows,
    table_text,
    warnings_of,
    write_number,
)
from densedet.core.report.page import named_apart, write_report
from densedet.core.report.pictures import tally, write_run_pictures
from densedet.core.report.records import RunRecord, read_run
from densedet.core.types import Batch, Detections, Explanation, Level, Targets

CLASSES = ("cat", "dog")


def make_batch(count: int = 2, *, objects: bool = True) -> Batch:
    """Grey 64x32 images, of which the lower 8 rows are padding, with a cat and an ignored box each, or with
    nothing."""
    slots = 2 if objects else 0
    boxes = torch.tensor([[8.0, 4.0, 24.0, 20.0], [40.0, 0.0, 60.0, 20.0]])[:slots]
    generator = torch.Generator().manual_seed(0)
    return Batch(
        images=torch.randint(0, 255, (count, 1, 32, 64), dtype=torch.uint8, generator=generator),
        valid_hw=torch.tensor([[24, 64]] * count),
        boxes=boxes.repeat(count, 1, 1),
        labels=torch.tensor([0, -1])[:slots].repeat(count, 1),
        valid=torch.ones(count, slots, dtype=torch.bool),
        ignore=torch.tensor([False, True])[:slots].repeat(count, 1),
        indices=torch.arange(count),
        image_ids=[f"img{i}" for i in range(count)],
        source_hw=torch.tensor([[24, 64]] * count),
        to_source=torch.tensor([[1.0, 1.0, 0.0, 0.0]] * count),
    )


def make_explanation(count: int) -> Explanation:
    levels = (Level(4, 8, 1, 8), Level(2, 4, 1, 16))
    n = 4 * 8 + 2 * 4
    scores = torch.rand(count, n, 2, generator=torch.Generator().manual_seed(0))
    none, empty = torch.zeros(count, n, 4), torch.zeros(count, n, dtype=torch.int64)
    return Explanation(
        levels, none[0], scores, none, Targets(none[0], levels, empty - 1, empty > 0, empty + 2, none)
    )


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Detections from (x1, y1, x2, y2, score, label)."""
    values = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(values[:, :4], values[:, 4], values[:, 5].long(), torch.full((len(values),), -1))


def make_run(
    folder: Path,
    *,
    name: str = "ssd",
    ap: float = 0.4,
    pictures: bool = True,
    curves: bool = True,
    **summary: Any,
) -> Path:
    """Write a run folder; ``curves`` False leaves out metrics.jsonl, and with it the charts' time."""
    folder.mkdir(parents=True)
    recipe = {
        "model": {"head": {"name": name, "depth": 2}, "neck": None},
        "data": {"input_size_wh": [64, 32], "train": {"name": "digits"}},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    events: list[dict[str, Any]] = []
    for step in range(1, 41 if curves else 1):
        loss = 2.0 / step
        losses = {"class": loss * 0.75, "box": loss * 0.25}
        events.append(
            {
                "event": "step",
                "step": step,
                "epoch": 0,
                "seconds": step * 3.0,
                "loss": loss,
                "losses": losses,
                "learning_rate": 0.01,
            }
        )
        if step % 10 == 0:
            metrics = {
                "AP": ap * step / 40,
                "AP50": min(1.0, ap * step / 30),
                "classes": {"cat": {"AP": ap, "AP50": 0.9}, "dog": {"AP": -1.0, "AP50": -1.0}},
                "losses": losses,
                "curves": {"cat": [1.0] * 60 + [0.2] * 41},
            }
            events.append({"event": "evaluation", "step": step, "seconds": step * 3.0, "metrics": metrics})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    values = {
        "status": "done",
        "recipe": name,
        "AP": ap,
        "AP50": 0.9,
        "AP75": None,
        "classes": {"cat": {"AP": ap, "AP50": 0.9}, "dog": {"AP": -1.0, "AP50": -1.0}},
        "parameters": 1_234_567,
        "flops": 3_000_000,
        "macs": 1_500_000,
        "images_per_second": 123.4,
        "predict_images_per_second": 400.0,
        "peak_memory_mb": 900,
        "minutes": 2.0,
        "steps": 40,
        "seed": 0,
        "machine": {"system": "Linux", "cores": 2, "cuda": None},
    }
    (folder / "summary.json").write_text(json.dumps(values | summary))
    if pictures:
        write_run_pictures(
            folder, make_batch(), [found((8, 4, 24, 20, 0.9, 0)), found()], make_explanation(2), CLASSES
        )
    return folder


def compared(*runs: RunRecord, **known: Any) -> Comparison:
    """A comparison in which each run is an arm of its own."""
    return Comparison(named_apart([Arm(run.name, [run]) for run in runs]), **known)


class Page(HTMLParser):
    """Collects what would be fetched, and the text of the page; complains about tags that do not close."""

    VOID = {"meta", "img", "path", "rect", "circle", "br", "input"}

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [
            value or "" for key, value in attrs if key in ("src", "href", "srcset", "action", "data")
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag, tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_data(self, data: str) -> None:
        self.text += data


def test_report_is_one_file_with_everything_in_it(tmp_path: Path) -> None:
    runs = [
        read_run(make_run(tmp_path / "ssd" / "1")),
        read_run(make_run(tmp_path / "retina" / "1", name="retina", ap=0.5, minutes=3.0)),
    ]
    page_file = tmp_path / "out" / "compare.html"
    path = write_report([compared(*runs)], page_file, title="A <b> & B", sections=["<h2>More</h2>"])
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert not page.open
    assert page.fetched, "the pictures"
    assert all(url.startswith("data:image/") for url in page.fetched), "nothing is fetched from anywhere"
    assert "<script" not in html
    assert set(re.findall(r"url\((.)", html)) == {"#"}, "charts refer to their own clip paths alone"
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert html.count("<svg") == html.count("</desc>") == 12, "each chart with a description"
    # Per image: truth and 2 x (prediction, heat map) = 5; two images.
    assert len(page.fetched) == 10
    assert "A <b> & B" in page.text, "the title is escaped"
    for text in ("More", "1 of 1 found, 0 wrong", "0 of 1 found, 0 wrong"):
        assert text in page.text
    assert "Training time differs by more than 10 %: ssd 2.0, retina 3.0 minutes." in page.text
    assert (
        "retina reaches AP 0.500 (AP50 0.900); ssd follows with 0.400 (AP50 0.900), 0.100 less." in page.text
    )
    assert "NaN" not in html
    assert len(html) < 2_000_000
    [numbers] = json.loads(path.with_suffix(".json").read_text())["comparisons"]
    assert [row["values"] for row in numbers["rows"] if row["key"] == "AP"] == [[0.4, 0.5]]
    assert [row["best"] for row in numbers["rows"] if row["key"] == "AP"] == [[False, False]], "one seed each"
    assert [difference["path"] for difference in numbers["differences"]] == ["model.head.name"]


def test_report_of_a_run_that_lacks_almost_everything(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "recipe.yaml").write_text("model: {head: {name: ssd}}\n")
    killed = make_run(tmp_path / "killed" / "1", pictures=False, ap=0.3)
    (killed / "summary.json").unlink()
    with (killed / "metrics.jsonl").open("a") as file:
        file.write('{"event": "step", "step": 41, "loss": NaN}\n{"event": "evalua')
    runs = [read_run(bare), read_run(killed)]
    html = write_report([compared(*runs)], tmp_path / "c.html").read_text()
    Page(html)
    record = runs[1]
    # 0.3 at the last of the evaluations; 40 steps of 3 seconds are 2 minutes.
    assert (record.name, record.value("AP"), record.value("minutes")) == ("killed", 0.3, 2.0)
    assert record.value("steps") == 41
    assert "bare did not use its whole budget (it has no summary.json)" in html
    assert ">–</td>" in html
    json.loads(
        (tmp_path / "c.json").read_text(), parse_constant=lambda text: pytest.fail(f"{text} is not JSON")
    )


def test_one_run_alone(tmp_path: Path) -> None:
    html = write_report(
        [compared(read_run(make_run(tmp_path / "1", curves=False)))], tmp_path / "c.html"
    ).read_text()
    assert "What differs" not in html
    assert 'class="best"' not in html


def test_runs_of_one_recipe_are_named_apart(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path / "ssd" / str(i), pictures=False, curves=False)) for i in (1, 2)] * 2
    path = write_report([compared(*runs)], tmp_path / "c.html")
    [numbers] = json.loads(path.with_suffix(".json").read_text())["comparisons"]
    assert [run["name"] for run in numbers["runs"]] == ["ssd/1 (1)", "ssd/2 (1)", "ssd/1 (2)", "ssd/2 (2)"]
    assert "the same AP, 0.400" in numbers["words"][0]


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no run folder .*nowhere"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"is not a run .*train wrote"):
        read_run(tmp_path)
    make_run(tmp_path / "ssd" / "3", pictures=False)
    with pytest.raises(UsageError, match=r"give the run in it, '.*ssd.3'"):
        read_run(tmp_path / "ssd")


@pytest.mark.parametrize(
    "damage",
    ["junk", "[1, 2]", '{"images": 3, "classes": 4, "AP": "much", "machine": [1], "min_score": null}', ""],
)
def test_damaged_files_become_dashes(tmp_path: Path, damage: str) -> None:
    folder = make_run(tmp_path / "1")
    for name in ("summary.json", "pictures.json", "metrics.jsonl"):
        (folder / name).write_text(damage)
    (folder / "recipe.yaml").write_text("a: [1")
    html = write_report(
        [compared(read_run(folder), read_run(make_run(tmp_path / "b" / "1", name="other", curves=False)))],
        tmp_path / "c.html",
    ).read_text()
    assert ">–</td>" in html


def test_pictures_outside_the_run_folder_are_not_taken_in(tmp_path: Path) -> None:
    folder, other = (make_run(tmp_path / name / "1", curves=False) for name in "ab")
    rows = {
        "images": [
            {
                "image_id": 1,
                "truth": str(other / "pictures/0_truth.png"),
                "predictions": "../../b/1/pictures/0_truth.png",
            }
        ]
    }
    (folder / "pictures.json").write_text(json.dumps(rows))
    html = write_report([compared(read_run(folder))], tmp_path / "c.html").read_text()
    assert "data:image" not in html


def test_pictures_shrink_until_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path / "1", pictures=False, curves=False)
    batch = make_batch(3)
    batch.images = torch.randint(
        0, 255, (3, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    batch.valid_hw = torch.tensor([[96, 96]] * 3)
    write_run_pictures(folder, batch, [found()] * 3, None, CLASSES)
    whole = write_report([compared(read_run(folder))], tmp_path / "c.html").stat().st_size
    monkeypatch.setattr("densedet.core.report.page.PICTURE_BYTES", 200_000)
    less = write_report([compared(read_run(folder))], tmp_path / "d.html")
    assert whole > 400_000
    assert less.stat().st_size < 200_000 + 60_000, "pictures and page"
    assert Page(less.read_text()).fetched, "smaller, but there"


def test_a_report_is_not_overwritten(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path / "1", pictures=False, curves=False))]
    for name in ("c.html", "d.json"):
        (tmp_path / name).write_text("mine")
    for name in ("c.html", "d.html"):
        with pytest.raises(UsageError, match=r"is there already, and nothing is overwritten"):
            write_report([compared(*runs)], tmp_path / name)
    assert (tmp_path / "c.html").read_text() == (tmp_path / "d.json").read_text() == "mine"
    assert not (tmp_path / "c.json").exists()
    assert not (tmp_path / "d.html").exists()


def test_a_chart_that_cannot_be_drawn_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [read_run(make_run(tmp_path / "1"))]
    monkeypatch.setattr("densedet.core.report.curves.line_chart", lambda *_, **__: 1 / 0)
    path = write_report([compared(*runs)], tmp_path / "c.html")
    page = Page(path.read_text())
    said = "The curves could not be drawn: ZeroDivisionError: division by zero"
    assert said in page.text
    assert said in capsys.readouterr().err
    assert page.fetched, "the pictures"
    assert json.loads(path.with_suffix(".json").read_text())["comparisons"][0]["runs"]


def test_a_picture_that_cannot_be_written_costs_itself_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pictures" / "0_truth.png").mkdir(parents=True)  # a folder in the picture's place
    rows = json.loads(write_run_pictures(tmp_path, make_batch(), [found()] * 2, None, CLASSES).read_text())[
        "images"
    ]
    assert [row["truth"] for row in rows] == [None, "pictures/1_truth.png"]
    assert "warning: 1 pictures could not be written, the first is " in capsys.readouterr().err


def test_written_pictures(tmp_path: Path) -> None:
    path = write_run_pictures(tmp_path, make_batch(3), [found()] * 3, make_explanation(3), CLASSES, limit=2)
    listed = json.loads(path.read_text())
    assert [row["image_id"] for row in listed["images"]] == ["img0", "img1"]
    assert all(
        (tmp_path / row[kind]).stat().st_size
        for row in listed["images"]
        for kind in ("truth", "predictions", "heatmap")
    )
    assert [row["heatmap_class"] for row in listed["images"]] == ["cat", "cat"], (
        "the only class in the images"
    )


def test_written_pictures_without_objects_or_explanation(tmp_path: Path) -> None:
    rows = json.loads(
        write_run_pictures(tmp_path, make_batch(1, objects=False), [found()], None, CLASSES).read_text()
    )["images"]
    assert rows[0]["heatmap"] is None
    assert (rows[0]["objects"], rows[0]["found"], rows[0]["wrong"]) == (0, 0, 0)
    rows = json.loads(
        write_run_pictures(
            tmp_path, make_batch(1, objects=False), [found()], make_explanation(1), CLASSES
        ).read_text()
    )["images"]
    assert rows[0]["heatmap_class"] == "cat"
    assert (
        json.loads(write_run_pictures(tmp_path, make_batch(0), [], None, CLASSES).read_text())["images"] == []
    )


def test_tally() -> None:
    batch = make_batch(1)
    # One cat at (8,4,24,20), one ignored box at (40,0,60,20).
    assert tally(batch, 0, found((8, 4, 24, 20, 0.9, 0))) == {"objects": 1, "found": 1, "wrong": 0}
    # The second on the same cat is a duplicate; a dog there is wrong; what lies on the ignored box is not
    # counted.
    crowd = found(
        (8, 4, 24, 20, 0.9, 0), (8, 4, 24, 19, 0.8, 0), (8, 4, 24, 20, 0.7, 1), (40, 0, 60, 20, 0.6, 1)
    )
    assert tally(batch, 0, crowd) == {"objects": 1, "found": 1, "wrong": 2}
    # IoU of 16x16 with its upper half: 128 / 256 = 0.5 counts, a row less does not. Below the score: not
    # there.
    assert tally(batch, 0, found((8, 4, 24, 12, 0.9, 0)))["found"] == 1
    assert tally(batch, 0, found((8, 4, 24, 11, 0.9, 0))) == {"objects": 1, "found": 0, "wrong": 1}
    assert tally(batch, 0, found((8, 4, 24, 20, 0.29, 0))) == {"objects": 1, "found": 0, "wrong": 0}


def test_table_marks_the_best_as_written(tmp_path: Path) -> None:
    runs = [
        read_run(make_run(tmp_path / "a", pictures=False, ap=0.40011, parameters=2000, peak_memory_mb=None)),
        read_run(make_run(tmp_path / "b", pictures=False, ap=0.40029, parameters=1000)),
    ]
    rows = {row["key"]: row for row in table_rows(compared(*runs))}
    assert rows["AP"]["texts"] == ["0.400", "0.400"]
    assert rows["AP"]["best"] == [False, False], "chance is not ruled out"
    third = read_run(make_run(tmp_path / "c", name="c", pictures=False, ap=0.5, parameters=1000.4))
    three = {row["key"]: row for row in table_rows(compared(*runs, third, distinct=("c",)))}
    assert three["AP"]["best"] == [False, False, True]
    assert three["parameters"]["best"] == [False, True, True], "both are 1 k"
    assert rows["parameters"]["best"] == [False, True], "fewer are better"
    assert rows["peak_memory_mb"]["texts"] == ["–", "900"]
    assert rows["peak_memory_mb"]["best"] == [False, False], "no rival"
    assert rows["minutes"]["best"] == [False, False], "a budget, no merit"
    assert rows["classes.dog.AP"]["texts"] == ["–", "–"], "-1: nothing to judge"
    assert rows["AP75"]["texts"] == ["–", "–"]


def test_warnings(tmp_path: Path) -> None:
    first = read_run(make_run(tmp_path / "a", name="a", pictures=False, flops=100, images_seen=640))
    near = read_run(
        make_run(tmp_path / "b", name="b", pictures=False, flops=109, minutes=2.1, images_seen=650)
    )
    assert warnings_of(compared(first, near).arms) == []
    far = read_run(
        make_run(
            tmp_path / "c",
            name="c",
            pictures=False,
            flops=111,
            steps=60,
            status="stopped",
            reason="interrupted",
        )
    )
    far.recipe["data"]["input_size_wh"] = [128, 64]
    far.summary["machine"] = {"system": "macOS"}
    text = "\n".join(warnings_of(compared(first, far).arms))
    assert "optimizer steps differs by more than 10 %: a 40, c 60." in text
    assert "The arithmetic per image (FLOPs) differs by more than 10 %: a 100, c 111." in text
    assert "(data.input_size_wh differs)" in text
    assert "different machines" in text
    assert "c did not use its whole budget (stopped: interrupted)" in text


DIFFERENT = {
    "data": ({"data": {"root": "/elsewhere"}}, {}, "do not share the same data (data.root differs)"),
    "filter": ({"data": {"val_filter": {"min_side": 4}}}, {}, "(data.val_filter differs)"),
    "held out": ({"data": {"holdout": 0.1}, "train": {"seed": 1}}, {}, "train.seed differ"),
    "classes": ({}, {"classes": {"cow": {"AP": 0.5}}}, "evaluated on different classes"),
    "content": (
        {},
        {"fingerprints": {"val": {"truth": "b"}}},
        "changed between the runs: the boxes of the validation images.",
    ),
    "pixels": (
        {},
        {"fingerprints": {"val": {"truth": "a", "pixels": "q"}}},
        "changed between the runs: the pixels of the validation images.",
    ),
    "evaluator": ({"evaluate": {"evaluator": {"name": "mine"}}}, {}, "by different rules"),
    "metric": ({"evaluate": {"metric": "AP50"}}, {}, "different metrics"),
    "budget": ({"train": {"budget": {"steps": 80}}}, {}, "a 40 steps, b 80 steps"),
    "images": ({}, {"images_seen": 640}, "seen different numbers of images"),
    "stopped": ({}, {"status": "stopped"}, "b did not use its whole budget (stopped)"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_runs_that_do_not_compare_are_not_ranked(tmp_path: Path, what: str) -> None:
    recipe, summary, said = DIFFERENT[what]
    runs = [
        read_run(make_run(tmp_path / name, name=name, ap=ap, pictures=False, curves=False, images_seen=320))
        for name, ap in (("a", 0.4), ("b", 0.5))
    ]
    for run in runs:
        run.summary["fingerprints"] = {"val": {"truth": "a", "pixels": "p"}}
        run.recipe["train"] = {"budget": {"steps": 40}, "seed": 0}
        if what == "held out":
            run.recipe["data"]["holdout"] = 0.1
    known: dict[str, Any] = {"distinct": ("b",), "verdicts": ["b is better."]}
    assert table_rows(compared(*runs, **known))[0]["best"] == [False, True], "equal so far"
    assert summary_words(compared(*runs, **known)) == ["b is better."]
    for section, values in recipe.items():
        runs[1].recipe.setdefault(section, {}).update(values)
    runs[1].summary |= summary
    assert not any(any(row["best"]) for row in table_rows(compared(*runs, **known)))
    text = table_text(compared(*runs, **known))
    assert "*" not in text
    assert "b is better" not in text
    assert said in text
    assert summary_words(compared(*runs, **known))[0] == UNRANKED
    assert said in " ".join(obstacles(runs))
    if what == "budget":
        path = write_report([compared(*runs, **known)], tmp_path / "c.html")
        assert 'class="best"' not in path.read_text()
        assert "★ best" not in path.read_text()
        assert "none is marked as unbeaten" in path.read_text()
        [told] = json.loads(path.with_suffix(".json").read_text())["comparisons"]
        assert told["ranked"] is False


def test_the_same_images_on_another_disk_compare(tmp_path: Path) -> None:
    known = {"names": "n", "truth": "t", "pixels": "p"}
    runs = [
        read_run(make_run(tmp_path / name, name=name, ap=ap, pictures=False, curves=False))
        for name, ap in (("a", 0.4), ("b", 0.5))
    ]
    for place, run in enumerate(runs):
        run.recipe["data"] |= {"root": f"/disk{place}", "train": {"name": "coco", "images": f"/disk{place}"}}
        run.summary["fingerprints"] = {"train": {**known, "times": f"{place}"}, "val": known}
    assert obstacles(runs) == []
    for lacking in ({}, {"train": known | {"pixels": ""}, "val": known}, {"train": known, "val": {}}):
        runs[1].summary["fingerprints"] = lacking
        assert "do not share the same data (data.root, data.train differ)" in obstacles(runs)[0]


def test_a_damaged_file_of_a_run_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "1", pictures=False, curves=False)
    sealed_file.write(folder / "last.pt", {"x": 1})
    assert read_run(folder).damaged == []
    whole = (folder / "last.pt").read_bytes()
    (folder / "best.pt").write_bytes(whole[:-100])
    (folder / "last.pt").write_bytes(b"?" + whole[1:])
    (folder / "recipe.yaml").write_text("[1, 2]")
    text = table_text(compared(read_run(folder)))
    assert f"warning: ssd: {folder / 'best.pt'} cannot be used: it was cut off" in text
    assert f"warning: ssd: {folder / 'last.pt'} cannot be used: it was changed or damaged" in text
    assert f"warning: ssd: {folder / 'recipe.yaml'} cannot be read." in text


def test_minutes_on_two_machines_are_no_equal_budget(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path / n, name=n, pictures=False, curves=False)) for n in "ab"]
    for run in runs:
        run.recipe["train"] = {"budget": {"minutes": 2}}
    assert obstacles(runs) == []
    runs[1].summary["machine"] = {"system": "macOS"}
    assert obstacles(runs) == ["The runs had the same minutes on different machines."]


def test_words(tmp_path: Path) -> None:
    slow = read_run(make_run(tmp_path / "a", name="slow", pictures=False, predict_images_per_second=100.0))
    fast = read_run(
        make_run(tmp_path / "b", name="fast", pictures=False, ap=0.3, predict_images_per_second=250.0)
    )
    told = "fast predicts 2.5 times as many images per second as slow."
    comparison = compared(slow, fast)
    assert told not in summary_words(comparison), "what each run has measured by itself is chance"
    for arm, speed in zip(comparison.arms, (100.0, 250.0)):
        arm.measured["predict_images_per_second"] = Measured((speed, speed))
    assert told in summary_words(comparison)
    fast.summary.pop("AP")
    fast.evaluations.clear()
    assert summary_words(compared(slow, fast))[0].startswith("Only slow has been evaluated: AP 0.400")
    assert summary_words(compared(fast)) == ["No run has been evaluated yet, so there is nothing to rank."]


def test_runs_go_by_the_metric_of_their_recipes(tmp_path: Path) -> None:
    runs = [
        read_run(make_run(tmp_path / "a", name="a", pictures=False, error=0.5)),
        read_run(make_run(tmp_path / "b", name="b", pictures=False, ap=0.5, error=0.75)),
    ]
    for run in runs:
        run.recipe["evaluate"] = {"metric": "error", "higher_is_better": False}
        for event, error in zip(run.evaluations, (0.875, 0.25, 0.625)):
            event["metrics"]["error"] = error
    rows = {row["key"]: row for row in table_rows(compared(*runs, distinct=("a",)))}
    assert next(iter(rows)) == "error"
    assert rows["error"]["best"] == [True, False], "a is better, by the statistics"
    assert rows["best_value"]["values"] == [0.25, 0.25], "the lowest of the evaluations"
    assert rows["AP"]["best"] == [False, False], "nobody has looked"
    assert summary_words(compared(*runs))[0] == (
        "a reaches error 0.500 (AP50 0.900); b follows with 0.750 (AP50 0.900), 0.250 more."
    )
    # A dotted path, and a class whose name has a dot: summary.json has the AP of "v1.0 cat".
    runs[0].recipe["evaluate"] = {"metric": "classes.v1.0 cat.AP"}
    runs[0].summary["classes"] = {"v1.0 cat": {"AP": 0.125}}
    assert (runs[0].value(runs[0].metric), runs[0].higher_is_better) == (0.125, True)
    assert "The runs go by different metrics." in obstacles(runs)


def test_recipe_differences(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path / name, name=name, pictures=False)) for name in ("a", "b")]
    runs[0].recipe["model"] = {"head": {"name": "ssd"}, "neck": None, "lr": 0.1, "sizes": [1, 2]}
    runs[1].recipe["model"] = {
        "head": {"depth": 4, "name": "fcos"},
        "neck": {"name": "fpn"},
        "lr": 0.1,
        "sizes": [1, 3],
    }
    assert [(d["path"], d["texts"]) for d in recipe_differences(runs)] == [
        ("model.head.name", ["ssd", "fcos"]),
        ("model.head.depth", ["–", "4"]),
        ("model.neck", ["null", "–"]),
        ("model.neck.name", ["–", "fpn"]),
        ("model.sizes", ["[1, 2]", "[1, 3]"]),
    ]


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (None, "share", "–"),
        (0.51249, "share", "0.512"),
        (1_234_567, "count", "1.23 M"),
        (999_900, "count", "1,000 k"),
        (950, "count", "950"),
        (123.4, "rate", "123"),
        (3.44, "minutes", "3.4"),
        (0.25, "minutes", "0.25"),
        (1200.0, "whole", "1,200"),
    ],
)
def test_written_numbers(value: float | None, form: str, text: str) -> None:
    assert write_number(value, form) == text
