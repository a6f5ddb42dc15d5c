"""Built-in samplers; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "sampler",
        "shuffle",
        "densedet.plugins.samplers.shuffle:ShuffleSampler",
        "every training image once an epoch, in random order",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
