"""A short form of coverage_of_intervals.py, which counts how often intervals hold a known truth."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("coverage_of_intervals.py")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_of_intervals", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_intervals_hold_the_truth(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40 repetitions 95 % are 38; 33 and fewer come once in 300 times."""
    monkeypatch.setattr(script, "POPULATION", 20_000)
    monkeypatch.setattr(script, "SEEDS", (2, 4))
    rng = np.random.default_rng(1)
    world = script.World.make(True, rng)
    for sums in script.cell(world, 50, 1.0, 40, 60, rng).values():
        assert sums[0] >= 34, "A's interval for new images"
        assert sums[1] >= 34, "the interval of A - B"
        assert sums[2] <= 6, "A found different from itself"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_five_hundred_repetitions(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """50 images and 1 : 1, as in a row of docs/intervals.md, which the script makes for more seeds."""
    monkeypatch.setattr(script, "SEEDS", (3,))
    world = script.World.make(True, np.random.default_rng((0, True)))
    rng = np.random.default_rng((0, 50, 1000))
    for sums in script.cell(world, 50, 1.0, 500, 100, rng).values():
        assert 460 <= sums[0] <= 490
        assert 460 <= sums[1] <= 490
        assert sums[2] <= 35
