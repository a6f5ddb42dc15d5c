"""A pretended GPU: tensors that say that they lie on one, while the CPU computes.

What stops a real GPU's host is counted, and mixing devices is refused as a real GPU does, so that the path
of a GPU is tested where there is none. Streams, pinned memory and speed are beyond it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

GPU = torch.device("cuda", 0)

WAITING = (
    "_local_scalar_dense",  # item, tolist, bool, float, int
    "nonzero",
    "masked_select",
    "equal",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "nms",
    "linalg_inv_ex",  # torch.linalg.inv looks at whether it can
)
"""Operators at which the host waits for the GPU, whatever they are called with."""


class Pretended(Tensor):
    """A tensor of the pretended GPU; ``held`` is the tensor on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Pretended:
        made: Pretended = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",  # for torch's own code, which would look for a driver of CUDA
        )
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of the pretended GPU")

    def __repr__(self, **_: Any) -> str:
        return f"Pretended({self.held})"


def on_gpu(tensor: Tensor) -> Tensor:
    """Return a tensor on the pretended GPU."""
    return Pretended(tensor.detach().clone())


class _Device(TorchFunctionMode):
    """Makes on the CPU what shall be made on the GPU, which torch would refuse."""

    def __init__(self, gpu: _Gpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "new_tensor" and isinstance(args[0], Pretended):
            self.gpu.waits["copy of numbers"] += 1
            return on_gpu(torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}))
        if name == "where" and len(args) == 3 and any(isinstance(a, Pretended) for a in args):
            dtype = next((a.dtype for a in args[1:] if isinstance(a, Tensor)), None)
            args = (
                args[0],
                *(a if isinstance(a, Tensor) else Pretended(torch.tensor(a, dtype=dtype)) for a in args[1:]),
            )
        if name == "__setitem__" and isinstance(args[0], Pretended) and not isinstance(args[2], Tensor):
            return func(args[0], args[1], Pretended(torch.tensor(args[2], dtype=args[0].dtype)))
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "cuda":
            return Pretended(func(*args, **{**kwargs, "device": "cpu"}))
        moves = [a for a in args[1:] if isinstance(a, torch.device | str) and str(a).startswith("cuda")]
        if name == "to" and moves and not isinstance(args[0], Pretended):
            rest = [a for a in args[1:] if a not in moves]
            if not kwargs.get("non_blocking"):
                self.gpu.waits[f"copy to the GPU of {tuple(args[0].shape)}"] += 1
            held = args[0].to(*rest, **kwargs)
            return _Uploaded.apply(held)
        return func(*args, **kwargs)


class _Uploaded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, held: Tensor) -> Tensor:
        return on_gpu(held)


class _Gpu(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.launches = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name.split("::")[1]
        flat = list(_tensors((args, kwargs)))
        ours = [t for t in flat if isinstance(t, Pretended)]
        wants = kwargs.get("device")
        if not ours and wants is not None and torch.device(wants).type == "meta":  # by torch's own code
            return Pretended(func(*args, **{**kwargs, "device": torch.device("cpu")}))
        if not ours:
            return func(*args, **kwargs)
        others = [t for t in flat if not isinstance(t, Pretended) and t.dim() > 0]
        to_cpu = name == "_to_copy" and wants is not None and torch.device(wants).type == "cpu"
        if name in ("copy_", "_to_copy"):
            if to_cpu or others:
                self.waits[f"copy of {tuple(flat[-1].shape)}"] += 1
        elif others:
            raise AssertionError(f"{name} mixes tensors of the CPU and the GPU: {[t.shape for t in flat]}")
        masks = name in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index") and any(
            t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1]
        )
        if name in WAITING or masks or (name == "repeat_interleave" and not kwargs.get("output_size")):
            self.waits[f"{name} by mask" if masks else name] += 1
        self.launches += not func.is_view
        if wants is not None:
            kwargs["device"] = torch.device("cpu")
        held_args, held_kwargs = tree_map(_held, (args, kwargs))
        result = func(*held_args, **held_kwargs)
        if to_cpu:
            return result
        # What was changed in place is the same tensor as before.
        known = {id(t.held): t for t in ours}

        def taken(value: Any) -> Any:
            if type(value) is not Tensor:
                return value
            return known[id(value)] if id(value) in known else Pretended(value)

        return tree_map(taken, result)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Pretended) else value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


@contextmanager
def pretended_gpu() -> Iterator[_Gpu]:
    """Pretend that there is a GPU. Yields what counts: ``waits`` of the host for it, and ``launches``."""
    gpu = _Gpu()
    with _Device(gpu), gpu:
        yield gpu
