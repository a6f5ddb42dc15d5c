"""Built-in evaluators; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "evaluator",
        "coco",
        "densedet.plugins.evaluators.coco:CocoEvaluator",
        "COCO's twelve numbers and AP per class (hotcoco)",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
