from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from densedet.core.assembly.evaluators import metric_value, report_lines
from densedet.core.examples import example_batch
from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.loading import load_recipe
from densedet.core.training.evaluation import evaluate_detector
from densedet.core.types import Detections

METRICS = {"F1": 0.25, "images": 3, "losses": {"class": 1.5, "box": 0.25}}


def test_numbers_are_printed_by_their_names_where_the_evaluator_has_no_report():
    assert report_lines(object(), METRICS) == [" F1 = 0.2500", "", " losses: class 1.5000, box 0.2500"]
    assert report_lines(object(), {"F1": 1.0}) == [" F1 = 1.0000"]


def test_an_evaluators_own_report_comes_first():
    evaluator = SimpleNamespace(report=lambda metrics: [f"F1 of {metrics['images']} images"])
    assert report_lines(evaluator, METRICS) == ["F1 of 3 images", "", " losses: class 1.5000, box 0.2500"]


def test_validation_losses_are_the_mean_over_images():
    """A batch of 3 images with loss 1 and one of 1 image with loss 5: (3 * 1 + 1 * 5) / 4 = 2."""

    class Scripted(nn.Module):
        def losses(self, batch):
            return {"class": torch.tensor(1.0 if len(batch) == 3 else 5.0)}

        def predict(self, batch):
            return [Detections.empty() for _ in range(len(batch))]

    whole = example_batch()

    def rows(chosen):
        tensors = {f.name: getattr(whole, f.name) for f in fields(whole)}
        return replace(whole, **{k: v[chosen] for k, v in tensors.items() if isinstance(v, torch.Tensor)})

    batches = [rows([0, 1, 0]), rows([1])]
    evaluator = SimpleNamespace(add=lambda index, detections: None, result=dict)
    metrics = evaluate_detector(Scripted(), batches, evaluator, device=torch.device("cpu"))
    assert metrics["images"] == 4
    assert metrics["losses"]["class"] == pytest.approx(2.0)


def test_one_forward_pass_where_the_detector_has_one():
    class Once(nn.Module):
        def evaluate(self, batch):
            return {"class": torch.tensor(3.0)}, [Detections.empty() for _ in range(len(batch))]

        def predict(self, batch):
            return [Detections.empty() for _ in range(len(batch))]

    evaluator = SimpleNamespace(add=lambda index, detections: None, result=dict, state=dict)
    metrics = evaluate_detector(Once(), [example_batch()], evaluator, device=torch.device("cpu"))
    assert metrics == {"losses": {"class": 3.0}, "images": 2}
    without = evaluate_detector(
        Once(), [example_batch()], evaluator, device=torch.device("cpu"), with_losses=False
    )
    assert without == {"images": 2}


def test_the_metric_of_a_class_whose_name_has_dots() -> None:
    metrics = {"AP": 0.1, "classes": {"a.b": {"AP": 0.25}}}
    assert metric_value(load_recipe("quickstart_ssd", {"evaluate.metric": "classes.a.b.AP"}), metrics) == 0.25
    with pytest.raises(RecipeError, match=r"write one of AP, or of one class, e.g. classes\.a\.b\.AP"):
        metric_value(load_recipe("quickstart_ssd", {"evaluate.metric": "classes.a.AP"}), metrics)
