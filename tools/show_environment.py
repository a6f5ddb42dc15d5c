"""Facts about this machine and installation that a bug report needs."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from densedet.core.text import json_text, say

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "pydantic",
    "pluggy",
    "hotcoco",
    "flatbuffers",
    "tensorboard",
    "matplotlib",
    "timm",
)
VARIABLES = (
    "DENSEDET_",
    "OMP_",
    "MKL_",
    "SLURM_CPUS_PER_TASK",
    "CUDA_VISIBLE_DEVICES",
    "MALLOC_",
    "GLIBC_TUNABLES",
)
"""How the names of the environment variables begin that change what densedet does."""


def environment(arguments: argparse.Namespace) -> int:
    """Print versions, processor, memory, devices, plug-ins and the cache folder, for a bug report."""
    found = facts()
    if arguments.json:
        say(json_text(found, indent=1))
        return 0
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {inner}" for key, inner in value.items() if inner is not None)
        lines = value if isinstance(value, list) else [value]
        say(f"{name}: " + "\n  ".join(map(str, lines or ["none"])))
    return 0


def facts() -> dict[str, Any]:
    """Return the facts as plain values: text, lists of text, and mappings of name to text, number or None."""
    import psutil
    import torch

    import densedet
    from densedet.core import machine
    from densedet.core.data.image_cache import cache_root
    from densedet.core.recipe.plugin_loading import load_plugins
    from densedet.core.training.precision import has_bf16

    memory = psutil.virtual_memory()
    cache = cache_root()
    return {
        "densedet": f"{densedet.__version__} in {Path(str(densedet.__file__)).parent}",
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "torch build": f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only",
        "processor": {
            "name": _processor(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "bf16": "in hardware" if has_bf16(torch.device("cpu")) else "emulated",
            "cores": psutil.cpu_count(logical=False),
            "logical cores": psutil.cpu_count(),
            "usable cores": machine.usable_cores(),
            "torch threads": torch.get_num_threads(),
        },
        "memory GB": {
            "total": round(memory.total / 1e9, 1),
            "available": round(memory.available / 1e9, 1),
            "usable": round(machine.free_memory_mb() / 1e3 * 2**20 / 1e6, 1),
        },
        "devices": _devices(),
        "plug-ins": [
            " ".join(filter(None, [plugin.name, plugin.version, plugin.status, plugin.reason]))
            for plugin in load_plugins(strict=False)
        ],
        "cache": f"{cache}, {_free_gb(cache)} GB free on its disk",
        "variables": [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith(VARIABLES)],
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Return the processor's model; Python's `platform` leaves it empty on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _devices() -> list[str]:
    """Return the devices that ``train.device`` may name."""
    import torch

    found = ["cpu"]
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        found.append(f"cuda:{number} {about.name}, {about.total_memory / 1e9:.1f} GB")
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def _free_gb(folder: Path) -> float:
    """Return the free space where ``folder`` is, or will be made."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return round(shutil.disk_usage(there).free / 1e9, 1)
