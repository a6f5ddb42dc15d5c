"""Resumed runs: what changed since the checkpoint is said, applied or refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from densedet.core.errors import CheckpointError, UsageError
from densedet.core.recipe.loading import load_recipe
from densedet.core.training import checkpoint, resuming
from densedet.core.training.run import Run

DIGITS = ("data.train.count=24", "data.val=null")
SMALL = (
    "train.batch_size=8",
    "model.backbone.widths=[8, 8, 8]",
    "run.hooks=[]",
    "train.budget.steps=6",
)


def recipe(*overrides: str) -> Any:
    data = () if any(text.startswith("data.train=") for text in overrides) else DIGITS
    return load_recipe("quickstart_ssd", [*data, *SMALL, *overrides])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last.pt of a run of two steps out of six."""
    from densedet.core.training import engine

    run = Run(recipe("train.ema_decay=null"), folder=tmp_path_factory.mktemp("run"))
    batches = run.batches()
    for _ in range(2):
        engine.optimizer_step(run, (next(batches)[0],))
    checkpoint.save(run.folder / "last.pt", run.state())
    return run.folder / "last.pt"


def test_an_average_that_starts_late_starts_at_the_trained_weights(trained: Path) -> None:
    run = Run(recipe("train.ema_decay=0.9"), resume=checkpoint.load(trained))
    assert run.ema is not None
    weights = run.detector.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in run.ema.model.state_dict().items())
    assert any("train.ema_decay is new" in note for note in run.notes)
    again = Run(recipe("train.ema_decay=null"), resume=run.state())
    assert any("train.ema_decay is null" in note for note in again.notes)


# -- what has changed since --------------------


def write_data(
    folder: Path, *, boxes: float = 6.0, keep: int = 8, reverse: bool = False, value: int = 90
) -> None:
    """Eight grey images of 32x16 with one box each, and the first ``keep`` of them in train.json."""
    images = [{"id": i, "file_name": f"{i}.png", "width": 32, "height": 16} for i in range(8)]
    objects = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [2, 2, boxes, 8], "area": 8 * boxes, "iscrowd": 0}
        for i in range(8)
    ]
    for image in images:
        Image.new("L", (32, 16), value).save(folder / str(image["file_name"]))
    listed = images[:keep][:: -1 if reverse else 1]
    for name, some in (("train", listed), ("val", images[:2])):
        ids = {image["id"] for image in some}
        content = {
            "images": some,
            "annotations": [row for row in objects if row["image_id"] in ids],
            "categories": [{"id": 1, "name": "thing"}],
        }
        (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A run folder whose last.pt is of no step yet, and its data beside it."""
    write_data(tmp_path)
    source = f"{{name: coco, annotations: {tmp_path}/X.json, images: {tmp_path}}}"
    data = [f"data.{split}={source.replace('X', split)}" for split in ("train", "val")]
    run = Run(recipe(*data, "train.batch_size=4", "data.cache_gb=0"), folder=tmp_path / "run")
    run.best = {"value": 0.5, "step": 0}
    checkpoint.save(run.folder / "last.pt", run.state())
    checkpoint.save(run.folder / "best.pt", run.state(with_optimizer=False))
    (run.folder / "recipe.yaml").write_text(run.recipe.to_yaml())
    return tmp_path


def go_on(here: Path, *overrides: str, allow_changes: bool = False) -> Run:
    return resuming.continued(here / "run", here / "run" / "last.pt", overrides, allow_changes=allow_changes)


def test_a_run_with_nothing_changed_goes_on_without_a_word(here: Path) -> None:
    write_data(here)  # the same content, written anew
    run = go_on(here)
    assert run.notes == []
    assert run.best["value"] == 0.5


def of_another_run(here: Path) -> None:
    checkpoint.save(
        here / "run" / "last.pt",
        {
            **checkpoint.load(here / "run" / "last.pt"),
            "recipe": (here / "run" / "recipe.yaml").read_text().replace("batch_size: 4", "batch_size: 2"),
        },
    )


def edit_recipe(here: Path) -> None:
    file = here / "run" / "recipe.yaml"
    file.write_text(file.read_text().replace("steps: 6", "steps: 60"))


CHANGES = {
    "boxes": (
        lambda h: write_data(h, boxes=7.0),
        "the boxes of the training images have changed; the boxes of the val",
    ),
    "order": (lambda h: write_data(h, reverse=True), "the training images are in another order"),
    "pixels": (
        lambda h: write_data(h, value=91),
        "the image files of the training images have changed; the image",
    ),
    "shorter": (lambda h: write_data(h, keep=4), "the number of training images was 8 and is 4"),
    "files": (
        lambda h: [(h / f"{i}.png").unlink() for i in (4, 5, 6, 7)],
        "gone: 4 of 8 training image files",
    ),
    "recipe.yaml": (edit_recipe, r"train\.budget\.steps is 60 there and 6 in the checkpoint"),
    "a list": (
        lambda h: (h / "run" / "recipe.yaml").write_text("[1, 2]"),
        "recipe.yaml is no recipe any more",
    ),
    "last.pt": (of_another_run, r"train\.batch_size is 4 there and 2 in the checkpoint"),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_what_has_changed_is_said_and_refused_until_it_is_allowed(here: Path, name: str) -> None:
    change, sentence = CHANGES[name]
    change(here)
    with pytest.raises(CheckpointError, match=f"cannot go on as it was: .*{sentence}.*add --allow-changes"):
        go_on(here)
    run = go_on(here, allow_changes=True)
    assert re.search(sentence.split(";")[0], " ".join(run.notes))
    assert (run.best["value"] is None) == (name in ("boxes", "pixels"))  # those of the validation images, too


def test_what_is_overridden_has_been_told(here: Path) -> None:
    edit_recipe(here)
    run = go_on(here, "train.budget.steps=60", "data.filter.limit=4")
    assert run.notes == ["changed for this resume: data.filter.limit None -> 4, train.budget.steps 6 -> 60"]
    assert (len(run.train_set), run.best["value"]) == (4, 0.5)
    for other in ("evaluate.metric=AP50", "data.val_filter.limit=1", "data.input_size_wh=[64, 64]"):
        assert go_on(here, "train.budget.steps=60", other).best["value"] is None, other


def test_the_best_so_far_is_kept_where_nothing_is_evaluated_any_more(here: Path) -> None:
    run = go_on(here, "data.val=null")
    assert run.best == {"value": 0.5, "step": 0}
    assert run.notes[1:] == [f"nothing is evaluated any more: {here}/run/best.pt stays that of step 0"]


@pytest.mark.parametrize("left", [0, 100])
def test_a_best_checkpoint_that_is_not_whole_is_told_and_written_anew(here: Path, left: int) -> None:
    file = here / "run" / "best.pt"
    file.write_bytes(file.read_bytes()[:left])
    run = go_on(here)
    assert run.best["value"] is None
    assert run.notes[0].startswith(f"{file} cannot be used and is written anew: it was cut off")
    with pytest.raises(CheckpointError, match=r"best\.pt is no readable.*Take .*last\.pt"):
        checkpoint.load(checkpoint.resolve(here / "run"))


@pytest.mark.parametrize(
    ("step", "accumulate", "old", "new", "epochs", "place", "progress"),
    [
        # 24 images. 5 batches of 4 are 20 images: 3 batches of 8 are no fewer, the end of this epoch of 3.
        (5, 1, 4, 8, 2, (1, 0), 3 / 6),
        (5, 1, 4, 24, 2, (1, 0), 1 / 2),  # the position is no smaller than the epoch has batches
        (2, 1, 8, 4, 2, (0, 4), 4 / 12),  # 16 images are 4 batches of 4; an epoch has 6
        (4, 1, 8, 8, 2, (1, 1), 4 / 6),
        (3, 2, 4, 8, 4, (1, 0), 3 / 12),  # 6 batches of 4 are an epoch
    ],
)
def test_another_batch_size_goes_on_at_the_same_image(
    step: int, accumulate: int, old: int, new: int, epochs: int, place: tuple[int, int], progress: float
) -> None:
    """The position, and the share of a budget in epochs, are those of the images that were seen."""
    run = Run(recipe(f"train.batch_size={old}", f"train.accumulate={accumulate}", "train.budget={epochs: 2}"))
    run.step = step
    for _ in range(step * accumulate):
        run.sampler.advance()
    state = run.state()
    budget = f"train.budget={{epochs: {epochs}}}"
    again = Run(recipe(f"train.batch_size={new}", "train.accumulate=1", budget), resume=state)
    assert (again.sampler.epoch, again.sampler.batch) == place
    assert again.progress == pytest.approx(progress)
    twice = Run(recipe(f"train.batch_size={new}", "train.accumulate=1", budget), resume=again.state())
    assert twice.progress == again.progress
    assert next(iter(twice.sampler)).number == place[1]


def test_what_a_path_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "last.pt"
    with pytest.raises(CheckpointError, match=r"no checkpoint .*last\.pt: nothing of this run"):
        resuming.place_of(tmp_path)
    file.touch()
    assert resuming.place_of(tmp_path) == resuming.place_of(file) == (tmp_path, file)
    with pytest.raises(UsageError, match="write densedet train quickstart_ssd --resume"):
        resuming.place_of(Path("quickstart_ssd"))
    with pytest.raises(CheckpointError, match="no checkpoint at nowhere"):
        resuming.place_of(Path("nowhere"))
    (tmp_path / "recipe.yaml").write_text("[1, 2]")
    assert resuming.own_recipe(tmp_path, recipe(), ()) is None


@pytest.mark.parametrize(
    ("budget", "advice"),
    [("{steps: 6}", "steps=12"), ("{epochs: 20}", "epochs=40"), ("{minutes: 1.5}", "minutes=3")],
)
def test_the_advice_is_of_the_budgets_own_kind_and_larger(budget: str, advice: str) -> None:
    assert resuming.larger_budget(Run(recipe(f"train.budget={budget}"))) == f"train.budget.{advice}"


def test_a_checkpoint_chooses_no_folder_to_write_to(here: Path, tmp_path: Path) -> None:
    theirs, own = tmp_path / "theirs", tmp_path / "own" / "x"
    own.mkdir(parents=True)
    (own / "about.json").touch()
    state = checkpoint.load(here / "run" / "last.pt")
    for folder, chosen in ((theirs, None), (own.parent, str(own.parent)), ("~nobody/x", None), ("\0", None)):
        text = state["recipe"].replace("cache_folder: null", f"cache_folder: {json.dumps(str(folder))}")
        assert text != state["recipe"]
        assert checkpoint.recipe_of({**state, "recipe": text}).data.cache_folder == chosen
    assert not theirs.exists()
