"""Built-in sources; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = ()
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
