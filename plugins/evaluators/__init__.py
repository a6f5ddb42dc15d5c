"""Built-in evaluators; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "evaluator",
        "coco",
        "densedet.plugins.evaluators.coco:CocoEvaluator",
        "COCO's twelve numbers and AP per class (hotcoco)",
    ),
    (
        "evaluator",
        "voc",
        "densedet.plugins.evaluators.voc:VocEvaluator",
        "PASCAL VOC's AP per class, over 11 recalls (2007) or the whole curve (2010)",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
