"""Built-in sources; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    ("source", "coco", "densedet.plugins.sources.coco:Coco", "COCO JSON (one file or several joined) and a folder of images"),
    (
        "source",
        "digits",
        "densedet.plugins.sources.digits:Digits",
        "scenes of real handwritten digits, composed on the fly; nothing to download",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
