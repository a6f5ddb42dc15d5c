"""Speeds and starts are measured in real processes; how fast they are is no test."""

from __future__ import annotations

import json

import pytest

from densedet.core.errors import TrainingError
from densedet.tools.benchmark_speed import first_step, ran
from densedet.tools.benchmark_training import printed
from densedet.tools.main import main


@pytest.mark.long
def test_a_recipe_without_images_of_its_own_trains_on_digits(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--steps", "1", "--rounds", "1", "--set", "data.train.count=16", "data.val.count=2", "--json"]
    assert main(["benchmark", "speed", "laptop_nano", *words]) == 0
    rows = json.loads(capsys.readouterr().out)
    for kind in ("float32", "bf16"):
        assert rows[f"laptop_nano, {kind}: images/s"] > 0
        assert rows[f"laptop_nano, {kind}: memory above the imports MB"] > 0


@pytest.mark.long
def test_a_run_ends_with_its_first_step(tmp_path) -> None:
    first_step(tmp_path, anew=False)
    assert list((tmp_path / "cache").iterdir())


def test_what_fails_is_told() -> None:
    with pytest.raises(TrainingError, match="densedet show nothing failed: "):
        printed("densedet show nothing", ["-m", "densedet.tools.main", "show", "nothing"])
    with pytest.raises(TrainingError, match="ended with 3"):
        ran("-c", "raise SystemExit(3)")
