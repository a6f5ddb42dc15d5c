"""Built-in postprocess; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "postprocess",
        "nms",
        "densedet.plugins.postprocess.nms:NMSPostprocess",
        "top-k per level or class, then non-maximum suppression",
    ),
    (
        "postprocess",
        "soft_nms",
        "densedet.plugins.postprocess.soft_nms:SoftNMSPostprocess",
        "top-k per level or class, then scores that decay with overlap (Soft-NMS)",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
