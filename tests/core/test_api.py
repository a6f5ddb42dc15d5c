"""densedet from Python: what `import densedet` offers, on a tiny run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import densedet
from densedet.core.errors import UsageError
from densedet.core.recipe.loading import Recipe, RecipeError
from densedet.core.training.judging import Evaluation
from densedet.core.training.run import Run
from densedet.registry import UnknownComponent

TINY = {
    "data.train.count": 12,
    "data.val.count": 5,
    "data.input_size_wh": [64, 32],
    "data.cache_gb": 0,
    "train.budget": {"steps": 2},
    "train.batch_size": 4,
    "train.evaluations": 1,
    "train.threads": 1,
    "run.hooks": [{"name": "checkpoint"}],
}


class Counter:
    """A hook that notes the steps it is called at."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    @densedet.hookimpl
    def densedet_run_step(self, run: Run, step: dict[str, Any]) -> None:
        self.steps.append(run.step)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return densedet.load_recipe("quickstart_ssd", TINY)


@pytest.fixture(scope="module")
def counter() -> Counter:
    return Counter()


@pytest.fixture(scope="module")
def run(recipe: Recipe, counter: Counter, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return densedet.train(recipe, hooks=[counter], folder=tmp_path_factory.mktemp("runs") / "mine")


def test_names_are_listed_and_there() -> None:
    assert dir(densedet) == sorted(densedet.__all__)
    for name in densedet.__all__:
        assert getattr(densedet, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'trainn'"):
        _ = densedet.trainn


def test_listings() -> None:
    heads = densedet.list_components("head", "ssd*")
    assert [row["name"] for row in heads] == ["ssd", "ssdlite"]
    assert {row["kind"] for row in densedet.list_components(name="fcos")} == {"head", "matcher"}
    with pytest.raises(UnknownComponent, match=r"no part matches head retinnet.*Did you mean 'retinanet'"):
        densedet.list_components("head", "retinnet")
    about = densedet.describe("head", "ssd")
    arguments = {row["name"]: row for row in about["arguments"]}
    assert arguments["kernel"]["default"] == "3"
    assert "kernel: 1 or 3 or 5, default 3" in repr(about)
    assert json.loads(json.dumps(about))["name"] == "ssd"
    assert {"quickstart_ssd", "torchvision/ssd300_vgg16"} <= set(densedet.list_recipes())


def test_batches_of_the_recipe_and_of_images(recipe: Recipe, tmp_path: Path) -> None:
    batch = densedet.make_batch(recipe, count=3)
    assert batch.images.shape == (3, 1, 32, 64)
    assert densedet.make_batch(recipe, split="train", count=99).images.shape[0] == 12
    assert densedet.make_batch("quickstart_ssd", overrides=TINY).indices.tolist() == [0, 1, 2, 3]
    array = np.zeros((64, 64, 3), np.uint8)
    array[:, 32:] = 200
    Image.fromarray(array).save(tmp_path / "a.png")
    images = [array, Image.fromarray(array), tmp_path / "a.png", (tmp_path / "a.png").read_bytes()]
    batch = densedet.make_batch(recipe, images)
    assert all(torch.equal(image, batch.images[0]) for image in batch.images)
    assert batch.boxes.shape == (4, 0, 4)
    assert batch.source_hw.tolist() == [[64, 64]] * 4
    with pytest.raises(UsageError, match="split 'test': write 'train' or 'val'"):
        densedet.make_batch(recipe, split="test")
    with pytest.raises(RecipeError, match="no val source: give data.val"):
        densedet.make_batch(recipe, overrides={"data.val": None})


def test_loaders(recipe: Recipe) -> None:
    loader = densedet.dataloader(recipe, "train")
    first, second = ([b.indices.tolist() for b in densedet.dataloader(recipe, epoch=e)] for e in (0, 1))
    # 12 images in batches of 4; both epochs have each image once, in another order.
    assert [len(batch) for batch in loader] == [4, 4, 4]
    assert all(sorted(i for part in parts for i in part) == list(range(12)) for parts in (first, second))
    assert first != second
    assert [len(batch) for batch in densedet.dataloader(recipe, "val")] == [5]


def test_training_calls_hooks_and_takes_a_folder(run: Run, counter: Counter) -> None:
    assert counter.steps == [1, 2]
    assert run.folder.name == "mine"
    assert (run.folder / "summary.json").is_file()


def test_evaluation_of_runs_folders_and_modules(recipe: Recipe, run: Run) -> None:
    result = densedet.evaluate(run)
    assert dict(result) == dict(densedet.evaluate(run.folder)) == result.numbers
    assert result["AP"] == result.metric == run.metrics["AP"]
    assert (result.metric_name, set(result.classes)) == ("AP", set(run.classes))
    assert set(result.losses) == set(run.metrics["losses"])
    assert repr(result).startswith("EvaluationResult(AP ")
    module = run.eval_detector.train()
    assert densedet.evaluate(module, recipe=recipe)["AP"] == result["AP"]
    assert module.training, "the module stays in its mode"
    assert densedet.evaluate(module, {"evaluate.metric": "AP50"}, recipe=recipe).metric == result["AP50"]
    assert densedet.evaluate(run, split="train")["images"] == 12


def test_faulty_evaluations(recipe: Recipe, run: Run) -> None:
    module = run.eval_detector
    with pytest.raises(UsageError, match=r"give the recipe .*evaluate\(module, recipe=recipe\)"):
        densedet.evaluate(module)
    with pytest.raises(UsageError, match="has a recipe of its own"):
        densedet.evaluate(run, recipe=recipe)
    with pytest.raises(UsageError, match="has a recipe of its own"):
        densedet.evaluate(run.folder, recipe=recipe)
    with pytest.raises(UsageError, match="has 10 classes, the recipe's data 2"):
        densedet.evaluate(module, {"data.classes": ["1", "2"]}, recipe=recipe)
    with pytest.raises(RecipeError, match="no val source"):
        Evaluation(run, {"data.val": None})


def found(*rows: tuple[float, float, float, float, float, int], classes: tuple[str, ...] = ()) -> Any:
    """Detections from (x1, y1, x2, y2, score, label), with the position of each as an extra value."""
    values = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    places = torch.arange(len(values))
    return densedet.Detections(
        values[:, :4], values[:, 4], values[:, 5].long(), places - 1, {"place": places}, classes=classes
    )


def test_detections_are_short_and_plain() -> None:
    two = found((1, 2, 3, 4, 0.75, 0), (0, 0, 2, 2, 0.5, 2), classes=("cat", "dog"))
    assert repr(two) == "Detections(2 objects: cat 0.75, class 2 0.50)"
    assert repr(two.where(torch.tensor([True, False]))) == "Detections(1 object: cat 0.75)"
    assert repr(found()) == "Detections(0 objects)"
    assert repr(found(*[(0, 0, 1, 1, 1.0, 0)] * 6)).endswith("class 0 1.00, ...)")
    assert two.to("cpu").to_dict() == {
        "boxes": [[1, 2, 3, 4], [0, 0, 2, 2]],
        "scores": [0.75, 0.5],
        "labels": [0, 2],
        "names": ["cat", "class 2"],
        "place": [0, 1],
    }


def test_drawing() -> None:
    image = np.full((40, 80), 90, np.uint8)
    cat = found((10, 10, 30, 30, 0.75, 0), classes=("cat",))
    plain, drawn = (np.asarray(cat.draw(image, min_score=score)) for score in (0.8, 0.7))
    assert (plain == 90).all(), "nothing scores 0.8"
    assert (drawn != 90).any()
    tensor = torch.full((1, 40, 80), 90, dtype=torch.uint8)
    assert np.array_equal(drawn, np.asarray(cat.draw(tensor)))
    named = densedet.draw(Image.fromarray(image), found((10, 10, 30, 30, 0.75, 0)), ("cat",))
    assert np.array_equal(drawn, np.asarray(named))


def test_a_predictor_names_its_detections(run: Run) -> None:
    predictor = densedet.load(run.folder, ["model.postprocess.max_detections=3"])
    [detections] = predictor.predict([np.full((40, 80), 90, np.uint8)])
    assert len(detections) <= 3
    assert detections.classes == run.classes


@pytest.mark.parametrize(
    ("one", "told"), [("a.jpg", r"\['a.jpg'\]"), (Path("a.jpg"), "a.jpg"), (b"jpeg", "bytes")]
)
def test_one_image_where_a_list_is_wanted(run: Run, one: object, told: str) -> None:
    for use in (densedet.load(run.folder).predict, lambda images: densedet.make_batch(run.recipe, images)):
        with pytest.raises(UsageError, match=f"images is a list, not one image: write .*{told}"):
            use(one)


def test_a_detector_called_with_a_tensor_names_what_it_takes(run: Run) -> None:
    module = run.eval_detector
    for call in (module, module.predict, module.losses):
        with pytest.raises(UsageError, match=r"takes a densedet Batch, not a Tensor.*densedet\.make_batch"):
            call(torch.zeros(1, 1, 32, 64))


def test_building_counts_classes(recipe: Recipe) -> None:
    assert densedet.build(recipe).num_classes == 10
    assert densedet.build("quickstart_ssd", TINY, num_classes=4).num_classes == 4
