"""Built-in necks; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    ("neck", "identity", "densedet.plugins.necks.identity:IdentityNeck", "the backbone's maps unchanged"),
    (
        "neck",
        "ssd_extras",
        "densedet.plugins.necks.ssd_extras:SSDExtrasNeck",
        "SSD's extra stages after the backbone's maps, rescaled L2 norm",
    ),
    (
        "neck",
        "fpn",
        "densedet.plugins.necks.fpn:FPNNeck",
        "feature pyramid, with P6, P7, ... where asked for",
    ),
    ("neck", "pan", "densedet.plugins.necks.pan:PANNeck", "feature pyramid and a path back up (PANet)"),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
