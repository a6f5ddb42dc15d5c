"""The command line as a person meets it: exit codes, sentences, files."""

from __future__ import annotations

import json
import operator
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from densedet.tests.quick_run import QUICK
from densedet.tools import predict_output
from densedet.tools.main import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trained(here: Path) -> Path:
    assert main(["train", "quickstart_ssd", *QUICK]) == 0
    return here / "runs" / "quickstart_ssd" / "1"


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    assert "Traceback" not in text, text
    return text


def exit_code(arguments: list[str]) -> Any:
    try:
        return main(arguments)
    except SystemExit as stopped:  # argparse's own way out
        return stopped.code


def coco_folder(folder: Path, count: int = 12) -> Path:
    """A COCO data set of bright squares, ids with gaps."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for index in range(count):
        x, y, side = int(rng.integers(5, 90)), int(rng.integers(2, 30)), int(rng.integers(14, 30))
        pixels = rng.integers(0, 60, (64, 128), dtype=np.uint8)
        pixels[y : y + side, x : x + side] = 230
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
        images.append({"id": 100 + 3 * index, "file_name": f"{index}.png", "width": 128, "height": 64})
        category = 7 if index % 2 else 90
        annotations.append(
            {
                "id": index + 1,
                "image_id": 100 + 3 * index,
                "category_id": category,
                "bbox": [x, y, side, side],
                "area": side * side,
                "iscrowd": 0,
            }
        )
    categories = [{"id": 90, "name": "car"}, {"id": 7, "name": "person"}]
    (folder / "train.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return folder


def test_train_leaves_a_run_and_says_where(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "quickstart_ssd", *QUICK]) == 0
    assert "results in runs/quickstart_ssd/1" in capsys.readouterr().out
    assert (here / "runs" / "quickstart_ssd" / "1" / "best.pt").exists()
    assert main(["train", "quickstart_ssd", *QUICK, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == "runs/quickstart_ssd/2"


def test_the_short_form(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = coco_folder(here / "data")
    given = [
        "train",
        "--db",
        str(data / "train.json"),
        "--images",
        str(data / "images"),
        "--resize",
        "64",
        "32",
        "--epochs",
        "1",
    ]
    given += ["--batch_size", "4", "--classes", "person", "car", "--device", "cpu"]
    for head in ("ssd", "retinanet"):
        assert main([*given, "--head", head, "model.backbone.widths=[8, 8, 8]"]) == 0
        assert "a tenth of the images" in capsys.readouterr().err
        recipe = json.loads(_show(["recipe", f"runs/laptop_{head}/1/recipe.yaml", "--json"], capsys))
        assert recipe["data"]["input_size_wh"] == [64, 32]
        assert recipe["data"]["color"] == "grey"
        assert recipe["data"]["classes"] == ["person", "car"]
        assert recipe["train"]["batch_size"] == 4
        assert recipe["train"]["budget"]["epochs"] == 1


def _show(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["show", *arguments]) == 0
    return capsys.readouterr().out


def test_the_short_form_as_a_file_with_a_validation_set(here: Path) -> None:
    """python tools/train.py, as the project began."""
    data = coco_folder(here / "data")
    given = [
        "--db",
        "data/train.json",
        "--images",
        "data/images",
        "--val-db",
        "data/train.json",
        "--epochs",
        "1",
        "--batch_size",
        "6",
    ]
    command = [
        sys.executable,
        str(ROOT / "tools" / "train.py"),
        *given,
        "--resize",
        "64",
        "32",
        "model.backbone.widths=[8, 8, 8]",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads((here / "runs/laptop_ssd/1/summary.json").read_text())
    assert summary["images_seen"] == 12
    assert set(summary["classes"]) == {"person", "car"}
    assert data.exists()


def test_evaluate_prints_cocos_lines_and_writes_results(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(trained), "--output", "results.json"]) == 0
    out = capsys.readouterr().out
    assert " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = " in out
    rows = json.loads(Path("results.json").read_text())
    assert rows
    assert set(rows[0]) == {"image_id", "category_id", "bbox", "score"}
    assert main(["evaluate", str(trained), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["AP"] == pytest.approx(json.loads((trained / "summary.json").read_text())["AP"], abs=1e-6)


def test_evaluate_gives_the_runs_own_numbers_whatever_it_trained_in(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "quickstart_ssd", *QUICK, "train.precision=bf16"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "runs/quickstart_ssd/1", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    lines = Path("runs/quickstart_ssd/1/metrics.jsonl").read_text().splitlines()
    recorded = next(row["metrics"] for row in map(json.loads, lines) if row["event"] == "evaluation")
    assert recorded["losses"]
    assert {key: metrics[key] for key in recorded} == recorded  # to the last digit


def test_results_have_the_files_own_category_ids(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco_folder(here / "data")
    given = [
        "train",
        "--db",
        "data/train.json",
        "--images",
        "data/images",
        "--val-db",
        "data/train.json",
        "--epochs",
        "2",
        "--batch_size",
        "4",
    ]
    assert main([*given, "model.backbone.widths=[8, 8, 8]", "model.postprocess.score=0.0"]) == 0
    assert main(["evaluate", "runs/laptop_ssd/1", "--output", "r.json"]) == 0
    rows = json.loads(Path("r.json").read_text())
    assert {row["category_id"] for row in rows} == {7, 90}
    assert {row["image_id"] for row in rows} <= {100 + 3 * i for i in range(12)}
    # results of predict can be scored as those of evaluate: by the recipe's data, or by annotations
    Path("data/images").rename("copied")
    predict = ["predict", "runs/laptop_ssd/1", "--score", "0", "--no-pictures", "--output"]
    assert main([*predict, "b", "copied", "--annotations", "data/train.json"]) == 0
    Path("copied").rename("data/images")
    assert main([*predict, "a", "data/images"]) == 0
    assert main([*predict, "c", "--annotations", "data/train.json"]) == 0
    key = operator.itemgetter("image_id", "category_id", "score", "bbox")
    for folder in "abc":
        found = json.loads(Path(folder, "results.json").read_text())
        assert all(row.pop("file_name").endswith(f"/{(row['image_id'] - 100) // 3}.png") for row in found)
        assert sorted(map(key, found)) == sorted(map(key, rows)), folder


def test_predict_on_files_and_folders(trained: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here / "photos" / "more"
    folder.mkdir(parents=True)
    Image.new("L", (300, 100), 90).save(folder / "a.png")
    Image.new("RGB", (40, 80), (9, 200, 30)).save(here / "photos" / "b.jpg")
    assert main(["predict", str(trained), "photos", "photos/b.jpg", "--score", "0", "--output", "out"]) == 0
    rows = json.loads((here / "out" / "results.json").read_text())
    assert len(list((here / "out").glob("*.jpg"))) == 2  # b.jpg is named twice and found once
    for row in rows:
        width, height = (300, 100) if row["file_name"].endswith("a.png") else (40, 80)
        x, y, w, h = row["bbox"]
        assert x >= 0
        assert y >= 0
        assert x + w <= width + 0.01
        assert y + h <= height + 0.01
    capsys.readouterr()
    assert main(["predict", str(trained), "photos", "--output", "out"]) == 2
    assert "not empty" in error_of(capsys)


def test_predict_leaves_out_a_broken_image_and_says_so(
    trained: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (64, 64), 90).save("good.png")
    Path("bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    assert main(["predict", str(trained), "good.png", "bad.jpg", "--output", "out"]) == 3
    assert "left out: " in (text := error_of(capsys))
    assert "bad.jpg" in text
    assert (here / "out" / "00000_good.jpg").exists()
    # without pictures, and where no object is found, the list is empty and whole
    assert main(["predict", str(trained), "good.png", "--score", "1", "--no-pictures", "--output", "no"]) == 0
    assert json.loads((here / "no" / "results.json").read_text()) == []
    assert os.listdir(here / "no") == ["results.json"]
    assert main(["predict", str(trained), "nowhere.png"]) == 3
    assert "there is no image or folder at nowhere.png" in error_of(capsys)


def test_compare_trains_recipes_and_writes_one_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            [
                "compare",
                "quickstart_ssd",
                "quickstart_retinanet",
                "--launcher",
                "forked",
                "--plugin",
                str(Path(__file__).parents[1] / "forked_launcher.py"),
                "--rounds",
                "1",
                *QUICK[:-2],
                "run.hooks=[metrics, checkpoint, pictures]",
                "--budget",
                "steps=2",
                "--output",
                "c/report.html",
            ]
        )
        == 0
    )
    table = capsys.readouterr().out
    assert "quickstart_ssd" in table
    assert "multiply-adds" in table
    html = (here / "c" / "report.html").read_text()
    assert html.count("<svg") >= 2
    assert "data:image/" in html
    assert not [link for link in ("http://", "https://") if f'src="{link}' in html or f'href="{link}' in html]
    assert (here / "c" / "report.json").exists()


def test_resume_from_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "quickstart_ssd", *QUICK]) == 0
    assert main(["train", "--resume", "runs/quickstart_ssd/1"]) == 1
    assert "used its whole budget" in error_of(capsys)
    assert main(["train", "--resume", "runs/quickstart_ssd/1", "train.budget.steps=3"]) == 0
    assert json.loads(Path("runs/quickstart_ssd/1/summary.json").read_text())["steps"] == 3
    # The newest run of the recipe, with its own recipe but for what is given; a file of the run will do, too.
    assert main(["train", "quickstart_ssd", "--resume", "train.budget.steps=4"]) == 0
    assert "goes on with its own recipe, which differs from quickstart_ssd" in capsys.readouterr().err
    assert main(["train", "--resume", "runs/quickstart_ssd/1/last.pt", "train.budget.steps=5"]) == 0
    assert json.loads(Path("runs/quickstart_ssd/1/summary.json").read_text())["steps"] == 5
    assert main(["train", "quickstart_ssd", "--resume"]) == 1
    assert "(5 steps): give a larger one, e.g. train.budget.steps=10" in error_of(capsys)
    assert main(["train", "--resume", "runs/quickstart_ssd/1/best.pt"]) == 1
    assert "holds weights only" in error_of(capsys)
    assert main(["train", "quickstart_retinanet", "--resume"]) == 1
    assert "no run of 'quickstart_retinanet'" in error_of(capsys)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["train"], 2, "give a recipe"),
        (["train", "quickstart_sdd"], 2, "quickstart_ssd"),
        (["train", "quickstart_ssd", "model.head.dept=3"], 2, "dept"),
        (["train", "quickstart_ssd", "model.matcher.positive=2"], 2, "model.matcher.positive"),
        (["train", "quickstart_ssd", "--db", "x.json"], 2, "either a recipe"),
        (["train", "--db", "x.json"], 3, "there is nothing at x.json"),
        (["train", "--images", "x"], 2, "goes with --db"),
        (["train", "--db", "nothing.json", "--images", "nowhere"], 3, "nothing.json"),
        (["train", "quickstart_ssd", "train.device=tpu"], 2, "tpu"),
        (["train", "--resume", "nowhere"], 1, "no checkpoint at nowhere"),
        (["evaluate", "nowhere"], 1, "no checkpoint"),
        (["predict", "nowhere", "x.png"], 1, "no checkpoint"),
        (["compare"], 2, "required"),
        (["compare", "quickstart_ssd", "--budget", "hours=1"], 2, "minutes=5"),
        (["compare", "nowhere"], 2, "nowhere: there is neither such a run folder nor such a recipe."),
        (["compare", "quickstart_sdd"], 2, "nor such a recipe. Did you mean 'quickstart_ssd'?"),
        (["compare", "quickstart_ssd", "quickstart_ssd"], 2, "named twice: --seeds 2"),
        (["compare", "quickstart_ssd", "--seeds", "0"], 2, "at least 1"),
        (["compare", "quickstart_ssd", "--on", "BCCD"], 2, "--on cells=BCCD"),
        (["compare", "quickstart_ssd", "--launcher", "slrum"], 2, "Did you mean 'slurm'"),
        (["compare", "quickstart_ssd", "--launcher", "{name: local, job: 2}"], 2, "jobs"),
        (["train", "quickstart_ssd", "--folder", "a", "--resume", "a"], 2, "give either --folder"),
        (["show", "components", "haed"], 2, "head"),
        (["show", "components", "head", "retinnet"], 2, "retinanet"),
        (["show", "recipe", "nowhere"], 2, "nowhere"),
        (["trian"], 2, "trian"),
    ],
)
def test_wrong_use_gets_a_sentence_and_an_exit_code(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, sentence: str
) -> None:
    assert exit_code(arguments) == code
    assert sentence in error_of(capsys)
    assert not (here / "runs").exists() or not list((here / "runs").rglob("*.pt")), (
        "a refused command left files"
    )


def test_show_components(capsys: pytest.CaptureFixture[str]) -> None:
    listing = _show(["components"], capsys)
    for word in ("retinanet", "iou", "digits", "cosine", "tensorboard"):
        assert word in listing
    assert "ssdlite" in _show(["components", "head", "s*"], capsys)
    assert "fcos" not in _show(["components", "head", "s*"], capsys)
    one = _show(["components", "matcher", "iou"], capsys)
    for text in ("positive: ", "default 0.5", "from densedet", "used by: ", "quickstart_ssd"):
        assert text in one
    facts = json.loads(_show(["components", "head", "retinanet", "--json"], capsys))
    assert next(a for a in facts["arguments"] if a["name"] == "in_channels")["wired"]


def test_show_recipe_with_origins(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("base: densedet:quickstart_ssd.yaml\nmodel:\n  matcher: {positive: 0.6}\n")
    text = _show(["recipe", "mine.yaml", "train.batch_size=4"], capsys)
    lines = {line.split(" = ")[0]: line for line in text.splitlines()}
    assert "mine.yaml:3" in lines["model.matcher.positive"]
    assert "command line" in lines["train.batch_size"]
    assert "small_ssd.yaml" in lines["model.head.name"]
    assert "default" in lines["model.matcher.low_quality_conflict"]
    Path("plain.yaml").write_text(_show(["recipe", "mine.yaml", "--plain"], capsys))
    assert json.loads(_show(["recipe", "plain.yaml", "--json"], capsys)) == json.loads(
        _show(["recipe", "mine.yaml", "--json"], capsys)
    )
    assert "quickstart_retinanet" in _show(["recipe"], capsys)


def test_show_schema_and_plugins(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "schema", "--output", "schema.json"]) == 0
    assert "$defs" in json.loads(Path("schema.json").read_text())
    assert "densedet" in _show(["plugins"], capsys)
    Path("broken.py").write_text("raise RuntimeError('no luck')\n")
    assert main(["show", "plugins", "--plugin", "broken.py"]) == 2
    assert "no luck" in capsys.readouterr().out


def test_broken_images_and_annotations_stop_with_exit_code_3(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = coco_folder(here / "data", 4)
    (data / "images" / "2.png").write_bytes(b"\x89PNG broken")
    given: list[Any] = [
        "train",
        "--db",
        "data/train.json",
        "--images",
        "data/images",
        "--epochs",
        "1",
        "--batch_size",
        "2",
    ]
    assert main(given) == 3
    assert "2.png" in error_of(capsys)
    (data / "train.json").write_text("{not json")
    assert main(given) == 3
    assert "train.json" in error_of(capsys)


def test_a_plan_leaves_nothing_behind(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["train", "quickstart_ssd", *QUICK, "--plan"]
    assert main([*arguments, "train.budget.epochs=3", "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert (numbers["steps"], numbers["epochs"]) == (6, 3)  # 16 images / 8 a step, 3 times
    assert not (here / "runs").exists()
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("densedet.core.training.plan.shutil.disk_usage", lambda place: free)
    assert main([*arguments, "train.budget.minutes=2", "data.cache_gb=0"]) == 2
    told = capsys.readouterr()
    assert "2.0 minutes" in told.out
    assert "and 0 MB are free" in told.err


def test_debug_shows_the_traceback(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "nowhere", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_no_output_overwrites_anything(
    trained: Path, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("r.json", "s.json", "c.html", "d.json"):
        (here / name).write_text("mine")
    monkeypatch.setattr(
        "densedet.core.training.judging.Evaluation", lambda *_, **__: pytest.fail("refused before the work")
    )
    for command in (
        ["evaluate", str(trained), "--output", "r.json"],
        ["show", "schema", "--output", "s.json"],
        ["compare", str(trained), "--output", "c.html"],
        ["compare", str(trained), "--output", "d.html"],
        ["compare", "quickstart_ssd", "--output", "d.html"],  # before it trains
    ):
        assert main(command) == 2
        assert "is there already, and nothing is overwritten: give another name" in capsys.readouterr().err
    assert main(["compare", str(trained), "--output", "new.json"]) == 2
    assert "names the HTML file: write new.html" in capsys.readouterr().err
    assert {(here / name).read_text() for name in ("r.json", "s.json", "c.html", "d.json")} == {"mine"}


def test_a_picture_that_cannot_be_written_does_not_cost_the_results(
    trained: Path, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a.png", "x" * 250 + ".png", "螺" * 80 + ".png", os.fsdecode(b"\xff.png")]
    for name in names:
        Image.new("L", (64, 32), 90).save(here / name, format="png")
    assert main(["predict", str(trained), *names, "--score", "0", "--output", "out"]) == 0
    assert len(list((here / "out").glob("*.jpg"))) == 4
    rows = json.loads((here / "out" / "results.json").read_text())
    assert {row["file_name"] for row in rows} == set(names)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    capsys.readouterr()
    monkeypatch.setattr(Image.Image, "save", full)
    assert main(["predict", str(trained), "a.png", "--score", "0", "--output", "more"]) == 0
    said = capsys.readouterr().err
    assert "warning: 1 pictures could not be written, the first of a.png" in said
    assert "No space left on device" in said
    assert json.loads((here / "more" / "results.json").read_text())


def test_a_full_disk_keeps_its_rest_for_the_results(
    trained: Path, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (64, 32), 90).save("a.png")
    monkeypatch.setattr(predict_output.shutil, "disk_usage", lambda _: SimpleNamespace(free=(64 << 20) - 1))
    capsys.readouterr()
    assert main(["predict", str(trained), "a.png", "--score", "0", "--output", "out"]) == 0
    assert "the last 64 MB of the disk are kept for the results" in capsys.readouterr().err
    assert os.listdir(here / "out") == ["results.json"]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.undo()
    monkeypatch.chdir(here)
    monkeypatch.setattr(predict_output.ResultRows, "close", full)
    assert main(["predict", str(trained), "a.png", "--score", "0", "--output", "more"]) == 1
    assert "results.json cannot be written (No space left on device)" in capsys.readouterr().err
    assert not (here / "more").exists()  # nor the picture
