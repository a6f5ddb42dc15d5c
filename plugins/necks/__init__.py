"""Built-in necks; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    ("neck", "identity", "densedet.plugins.necks.identity:Identity", "hands the backbone's maps on"),
    ("neck", "ssd_extras", "densedet.plugins.necks.ssd_extras:SSDExtras", "SSD's extra stages after the backbone's maps, rescaled L2 norm"),
    ("neck", "fpn", "densedet.plugins.necks.fpn:FPN", "feature pyramid, with P6, P7, ... where asked for"),
    ("neck", "pan", "densedet.plugins.necks.pan:PAN", "feature pyramid and a path back up (PANet)"),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
