"""The costs of finished runs, in turns."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from densedet.core.recipe.loading import load_recipe
from densedet.core.training import costs, session


class Counter:
    """A meter that counts a joule at each reading."""

    def __init__(self) -> None:
        self.readings = 0

    def read(self) -> tuple[float, ...]:
        self.readings += 1
        return (float(self.readings),)

    def between(self, before: tuple[float, ...], after: tuple[float, ...]) -> float:
        return after[0] - before[0]


@pytest.mark.parametrize(
    ("speeds", "wanted"),
    [
        # Each pass measures two rounds of training and prediction; before the first, a round does not count.
        ([1, 1, 100, 10, 104, 11], [[100, 104], [10, 11]]),
        # 100 and 150 differ: again. The medians 100, 105 and 20, 21 are alike.
        ([1, 1, 100, 20, 150, 22, 100, 20, 60, 20], [[100, 105], [20, 21]]),
    ],
)
def test_rounds_that_differ_are_measured_again(
    speeds: list[float], wanted: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(speeds)
    monkeypatch.setattr(costs, "_measure", lambda *_: (float(next(left)), None))
    acts = {"train": (None, 1), "predict": (None, 1)}
    monkeypatch.setattr(costs, "_acts_of", lambda folder, plugins: (acts, torch.device("cpu")))
    [found] = costs.measure_in_turns([Path("run")], rounds=2)
    assert [found["images_per_second"], found["predict_images_per_second"]] == wanted
    assert next(left, None) is None, "no more than that was measured"


def test_a_machine_that_never_rests_ends_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = itertools.cycle([100.0, 100.0, 200.0, 200.0])
    monkeypatch.setattr(costs, "_measure", lambda *_: (next(speeds), None))
    acts = {"train": (None, 1), "predict": (None, 1)}
    monkeypatch.setattr(costs, "_acts_of", lambda folder, plugins: (acts, torch.device("cpu")))
    turns: list[int] = []
    [found] = costs.measure_in_turns([Path("run")], rounds=2, on_round=turns.append)
    assert turns == [0, *[1, 2] * costs.PASSES]
    assert sorted(found["images_per_second"]) == [100, 200]


def test_costs_are_measured_in_turns(tmp_path: Path) -> None:
    changes = [
        "data.train.count=8",
        "data.val.count=6",
        "train.batch_size=4",
        "train.budget={steps: 1}",
        "run.hooks=[checkpoint]",
        "data.cache_gb=0",
        "data.workers=0",
    ]
    run = session.train(load_recipe("quickstart_ssd", changes), folder=tmp_path / "run")
    saved = (run.folder / "last.pt").read_bytes()
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    turns: list[int] = []
    found = costs.measure_in_turns(
        [run.folder, run.folder],
        rounds=2,
        seconds=0,
        meter=Counter(),
        on_round=turns.append,  # type: ignore[arg-type]
    )
    assert turns[:3] == [0, 1, 2], "the first is not counted"
    assert turns[3:] == [1, 2] * (len(turns) // 2 - 1), "further passes, where rounds of no length differ"
    for told in found:
        assert sorted(told) == [
            "images_per_second",
            "predict_images_per_second",
            "predict_joules",
            "train_joules",
        ]
        assert all(len(values) == 2 and min(values) > 0 for values in told.values())
        # One joule for two calls with 4 training images, or with all 6 validation images.
        assert told["train_joules"] == [1 / 8, 1 / 8]
        assert told["predict_joules"] == [1 / 12, 1 / 12]
    assert (run.folder / "last.pt").read_bytes() == saved, "the run is as it was"
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
