"""Built-in anchors; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "anchors",
        "default_boxes",
        "densedet.plugins.anchors.default_boxes:DefaultBoxAnchors",
        "SSD: scales relative to the image, 4/6 per cell",
    ),
    (
        "anchors",
        "octave",
        "densedet.plugins.anchors.octave:OctaveAnchors",
        "RetinaNet: octave scales x ratios, 9 per cell",
    ),
    (
        "anchors",
        "points",
        "densedet.plugins.anchors.points:PointAnchors",
        "FCOS: one square per cell, as wide as the stride",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
