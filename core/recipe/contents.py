"""What the files hold on which a recipe depends beside its values: its plug-ins, and the files that it
names. No torch here."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from densedet.core.files import content_of
from densedet.core.recipe.loading import Recipe
from densedet.core.recipe.plugin_loading import Plugin, is_file

FINGERPRINTED = {"data": ("train", "val")}
"""Keys of sections whose files are told by the fingerprint of the data."""


def contents_of(recipe: Recipe | Mapping[str, Any]) -> dict[str, str]:
    """Return a digest of the content of each plug-in that a recipe names or uses, and of each file that it
    names, such as its weights.

    Args:
        recipe: the recipe; plain values tell nothing of installed plug-ins that it uses without naming them.

    Returns:
        {plug-in or file, as the recipe names it: digest}. The source and its split are left out: their images
        and boxes have a fingerprint.
    """
    values = recipe.values if isinstance(recipe, Recipe) else recipe
    named = [str(name) for name in values.get("plugins") or []]
    found = {name: plugin_content(name) for name in named}
    for text in _texts(values):
        if set(text) & set("./") and text not in found and (content := content_of(text)) != text:
            found[text] = content
    if isinstance(recipe, Recipe):
        for plugin in recipe.plugins.plugins[1:]:  # the first are the built-ins
            if plugin.name not in named and _uses(values, plugin):
                found[plugin.name] = _digest(_files_of(plugin.plugin.__name__)) or plugin.version
    return found


def digest_of_contents(contents: Mapping[str, str]) -> str:
    """Return one digest of all contents; empty where there are none."""
    text = "\n".join(sorted(contents.values()))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest() if contents else ""


def plugin_content(origin: str) -> str:
    """Return a digest of a plug-in file with the modules beside it that it imports, or of a module's whole
    package; the name itself where there is no such file."""
    return _digest(_files_of(origin)) or origin


def with_contents(value: Any, contents: Mapping[str, str]) -> Any:
    """Return plain values with the digests of plug-ins and files in place of their names."""
    if isinstance(value, Mapping):
        return {key: with_contents(inner, contents) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_contents(inner, contents) for inner in value]
    return contents.get(value, value) if isinstance(value, str) else value


def _texts(values: Any, path: str = "") -> Iterator[str]:
    """Yield the texts among a recipe's values that may name a file."""
    if isinstance(values, Mapping):
        for key, inner in values.items():
            if key not in FINGERPRINTED.get(path, ()) and (path or key not in ("run", "plugins")):
                yield from _texts(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(values, list):
        for inner in values:
            yield from _texts(inner, path)
    elif isinstance(values, str):
        yield values


def _uses(values: Any, plugin: Plugin) -> bool:
    """Whether a recipe names a part that an installed plug-in brings."""
    brought = {name for _, name in plugin.parts}
    if isinstance(values, Mapping):
        return values.get("name") in brought or any(_uses(inner, plugin) for inner in values.values())
    if isinstance(values, list):
        return any(inner in brought if isinstance(inner, str) else _uses(inner, plugin) for inner in values)
    return False


def _files_of(name: str) -> list[Path]:
    """Return the files that make a plug-in: a file and what it imports from beside it, or a package."""
    if not is_file(name):
        return _package(name.partition(".")[0])
    found = [Path(name)]
    for file in found:  # it grows
        for top in sorted(_imported(file)):
            place = found[0].parent / top
            beside = [place.with_suffix(".py")] if place.with_suffix(".py").is_file() else _below(place)
            found += [one for one in beside if one not in found]
    return found


def _package(name: str) -> list[Path]:
    """Return the files of an importable module or package; nothing is imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    places = spec.submodule_search_locations
    return [file for place in places for file in _below(Path(place))] if places else [Path(str(spec.origin))]


def _below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def _imported(file: Path) -> set[str]:
    """Return the first names of all modules that a Python file imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set()
    nodes = list(ast.walk(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.partition(".")[0] for name in names}


def _digest(files: Sequence[Path]) -> str:
    """Return one digest of files; empty where the first cannot be read."""
    contents = [content_of(str(file)) for file in files]
    if not files or contents[0] == str(files[0]):
        return ""
    return hashlib.blake2b("".join(contents).encode(), digest_size=16).hexdigest()
