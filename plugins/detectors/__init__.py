"""Built-in detectors; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "detector",
        "dense",
        "densedet.plugins.detectors.dense:DenseDetector",
        "backbone, neck and head over a grid of anchors",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
