"""Built-in resizes; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "resize",
        "exact",
        "densedet.plugins.resize.exact:ExactResize",
        "stretched to data.input_size_wh, aspect not kept",
    ),
    (
        "resize",
        "letterbox",
        "densedet.plugins.resize.letterbox:LetterboxResize",
        "as large as fits, aspect kept, at the top left",
    ),
    (
        "resize",
        "short_side",
        "densedet.plugins.resize.short_side:ShortSideResize",
        "short side to a length, long side bounded, data.input_size_wh unused",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
