"""One run on several processes: joining the others of a `torchrun`, sums over them, faults told once."""

from __future__ import annotations

import atexit
import hashlib
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from densedet.core.errors import DensedetError, PeerError, sentence

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""The longest time that processes wait for each other. Evaluations, pictures and checkpoints of rank 0 take
less; a process that is gone is noticed at once."""

OF_THE_GROUP = ("gloo", "NCCL", "Connection closed", "Connection reset", "Timed out", "ProcessGroup")
"""Words of torch's errors where another process is gone."""

_store: Any = None
_alone = False


# -- who takes part --------------------


def join() -> None:
    """Join the other processes where the environment of a `torchrun` names them; else do nothing.

    Processes exchange CPU tensors by gloo and CUDA tensors by NCCL. Each takes the GPU of its LOCAL_RANK.

    Raises:
        DensedetError: the others cannot be reached.
    """
    global _store
    wanted = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if dist.is_initialized() or not all(name in os.environ for name in wanted):
        return
    if int(os.environ["WORLD_SIZE"]) < 2:
        return
    backend = "gloo"
    if torch.cuda.is_available() and dist.is_nccl_available():
        backend = "cpu:gloo,cuda:nccl"
        if local_rank() < torch.cuda.device_count():
            torch.cuda.set_device(local_rank())
    try:
        _store, rank, count = next(rendezvous("env://", timeout=TIMEOUT))
        dist.init_process_group(backend, store=_store, rank=rank, world_size=count, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise DensedetError(
            f"the {os.environ['WORLD_SIZE']} processes of this run did not find each other at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}: {sentence(error)}"
        ) from error
    atexit.register(leave)


def leave() -> None:
    """Leave the others, if this process has joined them by `join`."""
    global _store
    if _store is not None and dist.is_initialized():
        dist.destroy_process_group()
    _store = None


def local_rank() -> int:
    """Return the number of this process on its machine, 0 outside of a torchrun."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_world() -> int:
    """Return the number of processes of this torchrun on this machine, 1 outside of one."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def world() -> tuple[int, int]:
    """Return (rank, number of processes); (0, 1) outside of torch.distributed and within `alone`."""
    if not _alone and dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@contextmanager
def alone() -> Iterator[None]:
    """Count this process as the only one for a while, so that nothing waits for the others: for work that one
    process does by itself, or that processes do in different amounts."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


@contextmanager
def together() -> Iterator[None]:
    """Join the other processes, and tell a fault of another process from one of this process.

    Raises:
        PeerError: another process of the run has ended.
    """
    join()
    try:
        yield
    except BaseException as error:
        if world()[1] == 1 or isinstance(error, PeerError):
            raise
        if isinstance(error, RuntimeError) and any(word in str(error) for word in OF_THE_GROUP):
            raise PeerError(f"another process of this run has ended: {_fault()}") from error
        if _store is not None:
            with suppress(RuntimeError):  # the store went with the process that held it
                _store.compare_set("densedet/fault", "", sentence(error))
        raise


def _fault() -> str:
    """Return what the first process with a fault has said of it."""
    with suppress(RuntimeError):
        if _store is not None and _store.check(["densedet/fault"]):
            return str(_store.get("densedet/fault").decode())
    return "it has left no message"


def is_news(text: str, *, of_peer: bool = False) -> bool:
    """Whether no other process of this run has told a fault in these words.

    Args:
        text: the fault.
        of_peer: the fault is that another process has ended: no news where any fault was told.
    """
    if _store is None:
        return True
    with suppress(RuntimeError):  # the store went with the process that held it
        told = _store.add("densedet/told", 0 if of_peer else 1)
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return _store.add(f"densedet/told/{key}", 1) == 1 and not (of_peer and told)
    return True


# -- what they exchange --------------------


def sum_over_processes(value: Tensor) -> Tensor:
    """Return the sum of ``value`` over the processes; the value itself stays."""
    if world()[1] == 1:
        return value
    summed = value.detach().clone()
    dist.all_reduce(summed)
    return summed


def shared_normalizer(value: Tensor, *, minimum: float = 1.0) -> Tensor:
    """Return the divisor of this process's summed losses, so that training equals that of one process.

    One process divides the losses of the whole batch by max(n, minimum), where n counts e.g. its positive
    anchors. Each of P processes divides the losses of its share by max(sum of all n, minimum) / P, since
    DistributedDataParallel averages their gradients. Where no gradients are recorded (evaluation), processes
    go through different numbers of batches, and this process counts alone.

    Args:
        value: n of this process, a float tensor of any shape.
        minimum: the least divisor of one process.
    """
    if not torch.is_grad_enabled():
        return value.detach().clamp(min=minimum)
    return sum_over_processes(value.detach()).clamp(min=minimum) / world()[1]


def average_statistics(*modules: torch.nn.Module) -> None:
    """Set the floating buffers of modules, such as batch norm's running statistics, to their means over the
    processes."""
    _, count = world()
    if count == 1:
        return
    buffers = [b for module in modules for b in module.buffers() if b.is_floating_point() and b.numel()]
    if not buffers:
        return
    flat = torch.cat([buffer.reshape(-1).double() for buffer in buffers])
    dist.all_reduce(flat)
    parts = (flat / count).split([buffer.numel() for buffer in buffers])
    for buffer, part in zip(buffers, parts):
        buffer.copy_(part.view_as(buffer))


def spread(module: torch.nn.Module) -> None:
    """Give every process rank 0's parameters and buffers."""
    if world()[1] > 1:
        for value in module.state_dict().values():
            dist.broadcast(value, 0)


def gather_objects(value: T) -> list[T]:
    """Return the ``value`` of every process, in rank order."""
    _, count = world()
    if count == 1:
        return [value]
    values: list[Any] = [None] * count
    dist.all_gather_object(values, value)
    return values


def from_main(make: Callable[[], T]) -> T:
    """Call ``make`` on rank 0 alone, and return its result on every process, or raise its error there."""
    rank, count = world()
    if count == 1:
        return make()
    sent: list[Any] = [None, None]
    if rank == 0:
        try:
            with alone():
                sent[0] = make()
        except Exception as error:
            sent[1] = _sendable(error)
    dist.broadcast_object_list(sent, src=0)
    if sent[1] is not None:
        raise sent[1]
    result: T = sent[0]
    return result


def _sendable(error: Exception) -> Exception:
    """Return ``error``, or the same sentence with the same exit code where it cannot be pickled."""
    with suppress(Exception):
        if str(pickle.loads(pickle.dumps(error))) == str(error):
            return error
    plain = DensedetError(sentence(error))
    plain.exit_code = getattr(error, "exit_code", 1)
    return plain


def barrier() -> None:
    """Wait for the other processes."""
    gather_objects(None)


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that clocks read what was done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
