"""jinja2's environment of every page."""

from __future__ import annotations

from typing import Any

from densedet.core.text import visible


def environment(package: str) -> Any:
    """Return the environment for the templates of a package, which escapes texts.

    Args:
        package: dotted name; its folder ``templates`` holds them.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def shown(value: Any) -> Any:
    """Make control characters of a text visible; HTML that is safe stays as it is."""
    return visible(value) if type(value) is str else value
