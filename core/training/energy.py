"""The energy that the machine has taken, where the system tells it: RAPL for processors, NVML for GPUs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the counters of processors."""

PACKAGE = re.compile(r"(?:intel|amd)-rapl:\d+")
"""Folders of whole processors; those of their parts have a second number."""


class EnergyMeter:
    """Reads the energy counters of this machine: of all processors, and of a GPU where one is used.

    A processor's counter starts again at 0 after some minutes to hours: readings must not be further apart.

    Args:
        device: that the work runs on.
        root: where the counters of processors are.

    Attributes:
        counters: of each a name, what reads its joules, and at how many joules it starts again; 0: never.
    """

    def __init__(self, device: torch.device | None = None, root: Path = POWERCAP) -> None:
        self.counters: list[tuple[str, Callable[[], float], float]] = []
        for folder in sorted(root.glob("*-rapl:*")):
            if PACKAGE.fullmatch(folder.name):
                self._add_processor(folder)
        if device is not None and device.type == "cuda":
            self._add_gpu(device)

    def _add_processor(self, folder: Path) -> None:
        def joules() -> float:
            return int((folder / "energy_uj").read_text()) / 1e6

        try:
            most = int((folder / "max_energy_range_uj").read_text()) / 1e6
            joules()
        except (OSError, ValueError):  # most systems let the administrator alone read it
            return
        self.counters.append((folder.name, joules, most))

    def _add_gpu(self, device: torch.device) -> None:
        try:
            import pynvml

            pynvml.nvmlInit()
            place = torch.cuda.current_device() if device.index is None else device.index
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(place).uuid}")
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except Exception:  # no library, no driver, or a GPU without a counter
            return
        self.counters.append(
            (f"gpu {place}", lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, 0.0)
        )

    def read(self) -> tuple[float, ...] | None:
        """Return the joules of each counter; None where the system tells none."""
        try:
            return tuple(joules() for _, joules, _ in self.counters) or None
        except (OSError, ValueError):
            return None

    def between(self, before: tuple[float, ...] | None, after: tuple[float, ...] | None) -> float | None:
        """Return the joules between two readings; None where either is not there."""
        if before is None or after is None:
            return None
        return sum(
            last - first + (most if last < first else 0.0)
            for first, last, (_, _, most) in zip(before, after, self.counters)
        )
