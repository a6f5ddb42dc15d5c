"""Does a part keep its contract? One check per kind, for the tests of whoever writes one::

    from densedet.core.conformance import check_head
    def test_my_head():
        check_head(MyHead, depth=2)

Each takes the class (or function) and its recipe arguments, wires the rest itself, and raises
ConformanceError with a sentence that says what was expected. `check_part` finds the check by the kind. The
contracts are in `densedet.core.contracts`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from densedet.core.conformance.anchors import check_anchors
from densedet.core.conformance.augmentation import check_batch_transform, check_resize, check_transform
from densedet.core.conformance.box_losses import check_box_loss
from densedet.core.conformance.class_losses import check_class_loss
from densedet.core.conformance.coders import check_coder
from densedet.core.conformance.detectors import check_detector
from densedet.core.conformance.evaluators import check_evaluator
from densedet.core.conformance.heads import check_head
from densedet.core.conformance.hooks import check_hook
from densedet.core.conformance.launchers import check_launcher
from densedet.core.conformance.matchers import check_matcher
from densedet.core.conformance.networks import check_backbone, check_neck
from densedet.core.conformance.optimization import check_optimizer, check_schedule
from densedet.core.conformance.postprocessing import check_postprocess
from densedet.core.conformance.requirements import ConformanceError, Factory, require, wire
from densedet.core.conformance.samplers import check_sampler
from densedet.core.conformance.sources import check_source
from densedet.core.conformance.weight_maps import check_weight_map

CHECKS: dict[str, Callable[..., None]] = {
    "backbone": check_backbone,
    "neck": check_neck,
    "anchors": check_anchors,
    "head": check_head,
    "matcher": check_matcher,
    "coder": check_coder,
    "class_loss": check_class_loss,
    "box_loss": check_box_loss,
    "postprocess": check_postprocess,
    "detector": check_detector,
    "source": check_source,
    "sampler": check_sampler,
    "resize": check_resize,
    "transform": check_transform,
    "batch_transform": check_batch_transform,
    "optimizer": check_optimizer,
    "schedule": check_schedule,
    "evaluator": check_evaluator,
    "weight_map": check_weight_map,
    "launcher": check_launcher,
    "hook": check_hook,
}
"""kind -> its check."""


def check_part(kind: str, factory: Factory, **arguments: Any) -> None:
    """Check a part of any kind.

    Args:
        kind: a key of CHECKS.
        factory: the part's class or function.
        **arguments: its arguments in a recipe; what they cannot name is wired.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    require(kind in CHECKS, f"there is no check for kind {kind!r}: {', '.join(CHECKS)}")
    CHECKS[kind](factory, **arguments)


__all__ = [
    "CHECKS",
    "ConformanceError",
    "Factory",
    "check_anchors",
    "check_backbone",
    "check_batch_transform",
    "check_box_loss",
    "check_class_loss",
    "check_coder",
    "check_detector",
    "check_evaluator",
    "check_head",
    "check_hook",
    "check_launcher",
    "check_matcher",
    "check_neck",
    "check_optimizer",
    "check_part",
    "check_postprocess",
    "check_resize",
    "check_sampler",
    "check_schedule",
    "check_source",
    "check_transform",
    "check_weight_map",
    "require",
    "wire",
]
