"""Two ways into a run: a hook that a recipe lists, and functions that are called while this plug-in is
loaded."""

from typing import Any

import densedet
from densedet.core.arguments import PositiveInt, Probability


@densedet.register("hook", "stop_at")
class StopAt:
    """End the run when AP was good enough often enough.

    Args:
        ap: the AP that is good enough.
        times: number of evaluations in a row that must reach it.
    """

    all_ranks = True  # every process of a torchrun sees the same metrics, and all must stop at the same step

    def __init__(self, *, ap: Probability = 0.5, times: PositiveInt = 1) -> None:
        self.ap, self.times, self.reached = ap, times, 0

    @densedet.hookimpl
    def densedet_run_evaluated(self, run: Any, metrics: dict[str, Any]) -> None:
        self.reached = self.reached + 1 if metrics["AP"] >= self.ap else 0
        if self.reached >= self.times:
            run.stop(f"AP reached {self.ap} in {self.reached} evaluations")

    @densedet.hookimpl
    def densedet_state(self, run: Any) -> dict[str, Any]:
        return {"reached": self.reached}  # goes into last.pt, so that a resumed run counts on

    @densedet.hookimpl
    def densedet_restore(self, run: Any, state: dict[str, Any]) -> None:
        self.reached = state["reached"]


@densedet.hookimpl
def densedet_run_step(run: Any, step: dict[str, Any]) -> None:
    """Learning rate and loss of every step as learning_rate.csv in the run folder."""
    with open(run.folder / "learning_rate.csv", "a", encoding="utf-8") as file:
        file.write(f"{run.step},{step['learning_rate']:.6g},{step['loss']:.6g}\n")
