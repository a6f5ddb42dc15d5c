"""The launcher that --launcher names, checked as a part of a recipe is."""

from __future__ import annotations

from collections.abc import Sequence

from densedet.core.contracts import Launcher
from densedet.core.errors import PartError, UsageError, sentence
from densedet.core.recipe.checking import Checker
from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.core.recipe.signatures import arguments_of, typed_arguments
from densedet.core.recipe.yaml_marks import parse_yaml


def build_launcher(
    text: str | None = None, *, jobs: int | None = None, plugins: Sequence[str] = ()
) -> Launcher:
    """Build a launcher.

    Args:
        text: its name, or ``{name: slurm, partition: gpu}``; None: local.
        jobs: a value for its argument ``jobs``; None: as written.
        plugins: plug-in files that may bring launchers.

    Raises:
        RecipeError: there is no such launcher, or an argument is wrong.
        UsageError: it takes no ``jobs``, or cannot work here.
    """
    loaded = load_plugins(plugins)
    checker = Checker(loaded)
    node = parse_yaml(text or "local", "--launcher")
    node = checker.part(node, "launcher")
    if checker.faults:
        raise RecipeError(checker.faults)
    spec = node.plain()
    component = loaded.components.get("launcher", spec.pop("name"))
    if jobs is not None:
        if "jobs" not in arguments_of(component):
            raise UsageError(f"launcher {component.name} takes no --jobs: its own arguments say how many run")
        spec["jobs"] = jobs
    try:
        launcher: Launcher = component.load()(**typed_arguments(component, spec))
    except PartError:
        raise
    except Exception as error:
        raise UsageError(f"launcher {component.name}: {sentence(error)}") from error
    return launcher
