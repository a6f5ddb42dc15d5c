"""Built-in run hooks; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "hook",
        "metrics",
        "densedet.plugins.hooks.metrics:MetricsHook",
        "metrics.jsonl: one line a step and an evaluation",
    ),
    (
        "hook",
        "checkpoint",
        "densedet.plugins.hooks.checkpoint:CheckpointHook",
        "last.pt and best.pt, written atomically",
    ),
    (
        "hook",
        "snapshots",
        "densedet.plugins.hooks.snapshots:SnapshotsHook",
        "the weights at several moments of the training, for densedet show explain",
    ),
    (
        "hook",
        "tensorboard",
        "densedet.plugins.hooks.tensorboard:TensorBoardHook",
        "curves, predictions and class-head score maps for TensorBoard",
    ),
    (
        "hook",
        "pictures",
        "densedet.plugins.hooks.pictures:PicturesHook",
        "truth, predictions and score maps of a few validation images at the end",
    ),
    (
        "hook",
        "progress",
        "densedet.plugins.hooks.progress:ProgressHook",
        "a progress bar, or plain lines when the output is no terminal",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
