from types import SimpleNamespace

from densedet.core.training.evaluation import report_lines

METRICS = {"F1": 0.25, "images": 3, "losses": {"class": 1.5, "box": 0.25}}


def test_numbers_are_printed_by_their_names_where_the_evaluator_has_no_report():
    assert report_lines(object(), METRICS) == [" F1 = 0.2500", "", " losses: class 1.5000, box 0.2500"]
    assert report_lines(object(), {"F1": 1.0}) == [" F1 = 1.0000"]


def test_an_evaluators_own_report_comes_first():
    evaluator = SimpleNamespace(report=lambda metrics: [f"F1 of {metrics['images']} images"])
    assert report_lines(evaluator, METRICS) == ["F1 of 3 images", "", " losses: class 1.5000, box 0.2500"]
