"""How many loader processes `data.workers` comes to."""

from __future__ import annotations

import pytest
import torch

from densedet.core.assembly import data, worker_count
from densedet.core.recipe.loading import load_recipe


@pytest.mark.parametrize(
    ("gpu", "cores", "processes", "workers"),
    [(False, 16, 1, 0), (True, 4, 1, 4), (True, 64, 1, 8), (True, 16, 4, 4), (True, 2, 4, 1)],
)
def test_workers_by_what_the_machine_has(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, cores: int, processes: int, workers: int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(data, "usable_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert worker_count(load_recipe("quickstart_ssd", ["data.workers=auto"])) == workers
    assert worker_count(load_recipe("quickstart_ssd", ["data.workers=auto", "train.device=cpu"])) == 0
    assert worker_count(load_recipe("quickstart_ssd", ["data.workers=3"])) == 3
