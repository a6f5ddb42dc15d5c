"""Energy counters, read from a folder that looks like Linux's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from densedet.core.training.energy import EnergyMeter


def counter(root: Path, name: str, microjoules: int, most: int = 100_000_000) -> Path:
    """Make a counter as /sys/class/powercap has them."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def test_the_energy_of_all_processors(tmp_path: Path) -> None:
    counter(tmp_path, "intel-rapl:0", 2_000_000)
    counter(tmp_path, "intel-rapl:1", 95_000_000)
    counter(tmp_path, "intel-rapl:0:0", 7_000_000)  # a part of the first one, which has it already
    (tmp_path / "intel-rapl").mkdir()
    meter = EnergyMeter(root=tmp_path)
    before = meter.read()
    assert before == (2.0, 95.0)
    counter(tmp_path, "intel-rapl:0", 5_500_000)
    counter(tmp_path, "intel-rapl:1", 4_000_000)
    # 5.5 - 2 = 3.5 J; the second counter started again at 100 J: 100 - 95 + 4 = 9 J.
    assert meter.between(before, meter.read()) == pytest.approx(12.5)


def test_a_system_that_tells_no_energy(tmp_path: Path) -> None:
    meter = EnergyMeter(root=tmp_path / "nowhere")
    assert meter.read() is None
    # Of this GPU there is no counter, since there is none of its number.
    assert EnergyMeter(torch.device("cuda", 63), root=tmp_path / "nowhere").counters == []
    assert meter.between(None, meter.read()) is None
    (counter(tmp_path, "intel-rapl:0", 1) / "max_energy_range_uj").write_text("much")
    assert EnergyMeter(root=tmp_path).read() is None


def test_a_counter_that_goes_away(tmp_path: Path) -> None:
    folder = counter(tmp_path, "amd-rapl:0", 1_000_000)
    meter = EnergyMeter(root=tmp_path)
    before = meter.read()
    assert before == (1.0,)
    (folder / "energy_uj").unlink()
    assert meter.read() is None
    assert meter.between(before, None) is None
