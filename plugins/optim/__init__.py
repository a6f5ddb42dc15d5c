"""Built-in optimizers and schedules; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    ("optimizer", "adamw", "densedet.plugins.optim.optimizers:adamw", "Adam with decoupled weight decay"),
    (
        "optimizer",
        "muon",
        "densedet.plugins.optim.muon:muon",
        "steps along orthogonalised momentum; the most AP in few steps",
    ),
    (
        "optimizer",
        "sgd",
        "densedet.plugins.optim.optimizers:sgd",
        "stochastic gradient descent with momentum",
    ),
    (
        "schedule",
        "cosine",
        "densedet.plugins.optim.schedules:CosineSchedule",
        "warm-up, then half a cosine down to `final`",
    ),
    (
        "schedule",
        "steps",
        "densedet.plugins.optim.schedules:StepSchedule",
        "warm-up, then divided at milestones (the papers')",
    ),
    ("schedule", "constant", "densedet.plugins.optim.schedules:ConstantSchedule", "warm-up, then constant"),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
