"""Sums over two real processes (gloo)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from densedet.core.distributed import gather_objects, mean_over_processes, world


def work(rank: int, store: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    value = torch.tensor(1.0 + 4 * rank)  # 1 and 5
    assert world() == (rank, 2)
    assert mean_over_processes(value).item() == 3.0  # (1 + 5) / 2
    assert value.item() == 1.0 + 4 * rank, "the value itself stays"
    assert gather_objects(f"rank {rank}") == ["rank 0", "rank 1"]
    distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes(tmp_path: Path) -> None:
    multiprocessing.spawn(work, args=(str(tmp_path / "store"),), nprocs=2)


def test_one_process() -> None:
    assert world() == (0, 1)
    assert mean_over_processes(torch.tensor(3.0)).item() == 3.0
    assert gather_objects("alone") == ["alone"]
