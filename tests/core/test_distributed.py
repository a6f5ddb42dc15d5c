"""What processes exchange, over two real processes (gloo)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from densedet.core.distributed import (
    alone,
    average_statistics,
    from_main,
    gather_objects,
    shared_normalizer,
    spread,
    sum_over_processes,
    world,
)
from densedet.core.errors import DataError


def work(rank: int, store: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    assert world() == (rank, 2)
    value = torch.tensor(1.0 + 4 * rank)  # 1 and 5
    assert sum_over_processes(value).item() == 6.0
    assert value.item() == 1.0 + 4 * rank, "the value itself stays"
    # max(1 + 5, 1) / 2, since gradients are averaged over the two processes.
    assert shared_normalizer(value).item() == 3.0
    # One positive in all: max(0 + 1, 1) / 2. A minimum for each process would halve the loss.
    assert shared_normalizer(torch.tensor(float(rank))).item() == 0.5
    assert shared_normalizer(torch.zeros(())).item() == 0.5, "max(0 + 0, 1) / 2"
    with torch.no_grad():
        assert shared_normalizer(value).item() == 1.0 + 4 * rank, "in evaluation nobody waits"
    with alone():
        assert world() == (0, 1)
        assert sum_over_processes(value).item() == 1.0 + 4 * rank
    assert gather_objects(f"rank {rank}") == ["rank 0", "rank 1"]
    assert from_main(lambda: f"made by {rank}") == "made by 0"
    with pytest.raises(DataError, match="no image"):
        from_main(broken)
    norm = nn.BatchNorm2d(2)
    norm.running_mean.fill_(rank)
    norm.weight.data.fill_(rank)
    average_statistics(norm)
    assert norm.running_mean.tolist() == [0.5, 0.5]
    assert norm.weight.tolist() == [rank, rank], "parameters stay"
    spread(norm)
    assert norm.weight.tolist() == [0, 0]
    distributed.destroy_process_group()


def broken() -> None:
    raise DataError("no image")


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes(tmp_path: Path) -> None:
    multiprocessing.spawn(work, args=(str(tmp_path / "store"),), nprocs=2)


def test_one_process() -> None:
    assert world() == (0, 1)
    assert sum_over_processes(torch.tensor(3.0)).item() == 3.0
    assert shared_normalizer(torch.tensor(3.0)).item() == 3.0
    assert shared_normalizer(torch.tensor(0.25)).item() == 1.0
    assert gather_objects("alone") == ["alone"]
    assert from_main(lambda: 3) == 3
