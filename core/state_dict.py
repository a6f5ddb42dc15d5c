"""Weights in files: reading them without running code, and not reading them where a checkpoint's weights
replace them anyway."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from torch import Tensor

from densedet.core import sealed_file
from densedet.core.errors import PartError

COUNT = "num_batches_tracked"
"""Old files and frozen norms lack batch norm's count of batches, and nothing computed depends on it."""

_replaced: ContextVar[bool] = ContextVar("_replaced", default=False)


@contextmanager
def weights_follow() -> Iterator[None]:
    """Parts built inside leave their pretrained weights unread: others will replace them, and the file or the
    network may be gone."""
    token = _replaced.set(True)
    try:
        yield
    finally:
        _replaced.reset(token)


def follow() -> bool:
    """Whether a part that is being built should leave its pretrained weights unread."""
    return _replaced.get()


def for_channels(kernel: Tensor, wanted: Tensor) -> Tensor:
    """A convolution's weight (out,3,k,k) for RGB summed over the colours where (out,1,k,k) is ``wanted``:
    that gives grey images the answer of their RGB copies. Anything else as it is."""
    if kernel.dim() == wanted.dim() == 4 and kernel.shape[1] == 3 and wanted.shape[1] == 1:
        return kernel.sum(dim=1, keepdim=True)
    return kernel


def read_state(path: str) -> dict[str, Tensor]:
    """The state dict in a file, read without running any code of it.

    A checkpoint that keeps it under "model" or "state_dict" is unwrapped, one of densedet's gives its
    averaged weights, or the trained ones where there are none. A file whose bytes have changed is refused as
    far as its format tells. Raises PartError for any other file.
    """
    try:
        state = sealed_file.read_foreign(Path(path))
        if isinstance(state, Mapping) and {"format", "detector"} <= state.keys():  # a checkpoint of densedet
            state = sealed_file.read(Path(path))
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise PartError(
            f"the weights file {path!r} cannot be read as a state dict ({type(error).__name__}: {reason}): "
            "write one with torch.save(network.state_dict(), PATH)"
        ) from error
    for key in ("ema", "detector", "model", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if (
        not isinstance(state, Mapping)
        or not state
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    ):
        what = "nothing" if isinstance(state, Mapping) and not state else f"a {type(state).__name__}"
        raise PartError(
            f"the weights file {path!r} holds {what}, not a state dict (names and tensors): "
            "write one with torch.save(network.state_dict(), PATH)"
        )
    return dict(state)


def download(published: Any, what: str, instead: str) -> dict[str, Tensor]:
    """The state dict behind a member of one of torchvision's weights enums, kept in torch's hub folder.

    Raises PartError where the network does not give it: ``what`` could not be had, and ``instead`` is what to
    write.
    """
    try:
        return dict(
            published.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
        )
    except Exception as error:
        raise PartError(
            f"{what} could not be downloaded from {published.url} ({type(error).__name__}: {error}): "
            f"fetch that file elsewhere and write {instead}"
        ) from error


def misfit(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    *,
    reader: str,
    may_differ: Container[str] = (),
    may_lack: tuple[str, ...] = (COUNT,),
) -> str | None:
    """What keeps ``state`` from filling ``own``, which belongs to ``reader``: "they lack a.b and 3 more";
    None where nothing does.

    may_differ: names whose shape may be another one. may_lack: endings of names that only one side may have.
    """
    missing = [name for name in own if name not in state and not name.endswith(may_lack)]
    strange = [name for name in state if name not in own and not name.endswith(may_lack)]
    shapes = [
        name
        for name in own
        if name in state and state[name].shape != own[name].shape and name not in may_differ
    ]
    for found, problem in (
        (missing, "lack"),
        (strange, f"have entries unknown to this {reader}:"),
        (shapes, "differ in shape at"),
    ):
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            detail = (
                f" ({tuple(state[found[0]].shape)} there, {tuple(own[found[0]].shape)} here)"
                if found is shapes
                else ""
            )
            return f"they {problem} {found[0]}{detail}{more}"
    return None
