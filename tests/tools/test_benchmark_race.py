"""The race beside torchvision's detectors: budgets, rows, and peers that really train."""

from __future__ import annotations

import pytest

from densedet.core.errors import TrainingError
from densedet.tools.benchmark_race import PEERS, budgets, peer, told, trained
from densedet.tools.main import main

DIGITS = [
    "data.train={name: digits, split: train, count: 16, size: [96, 64]}",
    "data.val={name: digits, split: val, count: 2, size: [96, 64]}",
    "data.holdout=null",
]


def test_budgets_double_up_to_the_largest() -> None:
    assert list(budgets(1.5)) == [0.25, 0.5, 1.0, 1.5]
    assert list(budgets(0.1)) == [0.1]


def test_a_row_is_the_mean_over_the_seeds() -> None:
    runs = [
        {"AP": ap, "images_per_second": speed, "peak_memory_mb": memory}
        for ap, speed, memory in ((0.2, 10, 700.4), (0.4, 12, 650))
    ]
    assert told(runs, 1.0) == {
        "minutes": 1.0,
        "AP": 0.3,
        "each": [0.2, 0.4],
        "images/s": [10, 12],
        "peak memory MB": 700,
    }


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_trains_and_is_judged_as_ours_are(name: str) -> None:
    """One step on digits teaches nothing; what counts is that boxes and labels fit both sides."""
    found = peer(name, 1e-4, 0, DIGITS)
    assert 0 <= found["AP"] < 0.2
    assert found["images_per_second"] > 0


def test_labels_of_ssdlite_leave_0_to_the_background() -> None:
    """torchvision's SSD counts classes from 1, its RetinaNet from 0; ours from 0."""
    assert {name: first for name, (_, first) in PEERS.items()} == {
        "torchvision_ssdlite": 1,
        "torchvision_retinanet_r18": 0,
    }


@pytest.mark.long
def test_a_recipe_takes_part_for_the_same_minutes() -> None:
    found = trained("quickstart_ssd", [*DIGITS, "data.input_size_wh=[96, 64]"], 0.01, 3)
    assert (found["seed"], found["status"]) == (3, "done")
    assert found["minutes"] >= 0.01


def test_who_fails_is_named() -> None:
    with pytest.raises(TrainingError, match="^bccd_ssd failed: .*annotations_train.json"):
        trained("bccd_ssd", [], 0.01, 0)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--to", "1.5"], "--to 1.5 is no AP: write a number between 0 and 1"),
        (["--minutes", "0"], "--minutes 0 is no time to train in"),
        (["--db", "none.json"], "there is nothing at none.json"),
    ],
)
def test_wrong_words(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "race", "--db", "x.json", *words]) != 0
    assert sentence in capsys.readouterr().err
