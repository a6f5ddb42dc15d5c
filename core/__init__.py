"""Contracts, layers and box functions that parts share, the detector, the recipe and the engine. Names no
concrete part."""

if not __name__.startswith("densedet."):
    raise ImportError(
        f"core was imported as {__name__!r}: write 'from densedet import core' (and take the project's "
        f"root off sys.path)"
    )
