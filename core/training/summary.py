"""The numbers of a finished run, as summary.json holds them."""

from __future__ import annotations

import platform
from typing import Any

import torch

from densedet.core.training import profile
from densedet.core.training.memory import peak_mb
from densedet.core.training.run import Run


def summarise(run: Run, status: str, reason: str | None) -> dict[str, Any]:
    """Collect what summary.json holds.

    Args:
        run: a run that has ended.
        status: "done", "stopped" or "failed". A run that failed, or whose end a signal wants soon, has
            no speed and no arithmetic measured.
        reason: why it stopped or failed; None where it is done.
    """
    width, height = run.recipe.data.input_size_wh
    channels = run.recipe.data.channels
    detector = run.eval_detector
    one, many = (
        profile.blank_batch(n, channels, height, width, run.device) for n in (1, min(16, run.settings.images))
    )
    speed = flops = None
    if status != "failed" and not run.exit_code:
        flops = profile.forward_flops(detector, one)
        # A second of measuring would outweigh a short run.
        speed = profile.images_per_second(detector, many, seconds=min(1.0, 0.1 * run.seconds))
    return {
        "status": status,
        "reason": reason,
        "recipe": run.recipe.name,
        **{key: value for key, value in run.metrics.items() if isinstance(value, float)},
        "classes": run.metrics.get("classes"),
        "metric": run.recipe.evaluate.metric,
        "best_value": run.best["value"],
        "best_step": run.best["step"],
        "parameters": profile.parameter_count(run.detector),
        "flops": flops,
        "macs": None if flops is None else flops // 2,
        "images_per_second": round(run.images_seen / run.seconds, 2) if run.seconds else None,
        "predict_images_per_second": None if speed is None else round(speed, 1),
        "peak_memory_mb": round(max(run.peak_memory_mb, peak_mb())),
        "import_memory_mb": round(run.import_memory_mb),
        "gpu_peak_memory_mb": None if run.gpu_peak_memory_mb is None else round(run.gpu_peak_memory_mb),
        "minutes": round(run.seconds / 60, 3),
        "steps": run.step,
        "epochs": run.epoch,
        "images_seen": run.images_seen,
        "data": run.data_facts,
        "fingerprints": run.fingerprints,
        "lost_boxes": run.dropped,
        "broken_images": [
            *(run.broken[i] for i in sorted(run.broken)),
            *run.metrics.get("broken_images", ()),
        ],
        "seed": run.settings.seed,
        "precision": run.precision,
        "measured_ms": run.measured_ms,
        "device": str(run.device),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """Describe the machine and the versions that figures were measured on."""
    import torchvision

    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
