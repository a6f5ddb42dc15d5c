"""Built-in coders; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "coder",
        "delta",
        "densedet.plugins.coders.delta:DeltaCoder",
        "centre shift and log scale, as R-CNN, SSD and RetinaNet",
    ),
    (
        "coder",
        "ltrb",
        "densedet.plugins.coders.ltrb:LTRBCoder",
        "distances from the anchor's centre to the four sides, as FCOS",
    ),
    (
        "coder",
        "distribution",
        "densedet.plugins.coders.distribution:DistributionCoder",
        "a softmax over bins per side, as GFL",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
