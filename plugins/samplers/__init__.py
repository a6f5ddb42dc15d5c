"""Built-in samplers; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "sampler",
        "shuffle",
        "densedet.plugins.samplers.shuffle:ShuffleSampler",
        "every training image once an epoch, in random order",
    ),
    (
        "sampler",
        "repeat_factor",
        "densedet.plugins.samplers.repeat_factor:RepeatFactorSampler",
        "images with rare classes come more often",
    ),
    (
        "sampler",
        "class_balanced",
        "densedet.plugins.samplers.class_balanced:ClassBalancedSampler",
        "each class is drawn as often as any other",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
