"""Built-in heads; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    ("head", "ssd", "densedet.plugins.heads.ssd:SSDHead", "one predictor per level, nothing shared (SSD)"),
    (
        "head",
        "ssdlite",
        "densedet.plugins.heads.ssdlite:SSDLiteHead",
        "one depthwise separable predictor per level (SSDlite)",
    ),
    (
        "head",
        "retinanet",
        "densedet.plugins.heads.retinanet:RetinaNetHead",
        "class and box towers shared by all levels (RetinaNet)",
    ),
    (
        "head",
        "fcos",
        "densedet.plugins.heads.fcos:FCOSHead",
        "shared towers with group norm and a centre-ness branch (FCOS)",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
