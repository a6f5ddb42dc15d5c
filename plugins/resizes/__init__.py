"""Built-in resizes; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    ("resize", "exact", "densedet.plugins.resizes.exact:Exact", "stretched to the recipe's size, aspect not kept"),
    ("resize", "letterbox", "densedet.plugins.resizes.letterbox:Letterbox", "as large as fits, aspect kept, at the top left"),
    ("resize", "short_side", "densedet.plugins.resizes.short_side:ShortSide", "short side to a length, long side bounded, size of its own"),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
