"""The network of a detector as it is called: its parts and stages, their maps, arithmetic and receptive
fields."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from densedet.core.showing.receptive import Field, receptive_fields
from densedet.core.training.profile import blank_batch, parameter_count
from densedet.core.types import Batch, Prediction


@dataclass
class Called:
    """A part of the network, or a stage of its backbone, that was called to predict an image.

    Attributes:
        name: path in the detector; of stages in a row whose maps have the same size, that of the last.
        title: the name for people, which tells where such a row begins.
        kind: name of its class.
        maps: (channels, height, width) of each map that it returned.
        parameters: numbers that training may change.
        macs: multiply-adds for an image.
        fields: receptive field of a cell at the middle of each map; None where it could not be measured.
    """

    name: str
    title: str
    kind: str
    maps: list[tuple[int, int, int]]
    parameters: int
    macs: int
    fields: list[Field | None]


class _Enough(Exception):
    """All that was asked for has been called."""


def called_parts(detector: nn.Module, channels: int, image_hw: tuple[int, int]) -> list[Called]:
    """Return the parts of a detector, and the stages of its backbone before it, in the order of their calls.

    The detector predicts an image without computing numbers (on torch's meta device), and then again for the
    receptive fields. A part that is called several times counts once, with its last maps.
    """
    blank = partial(blank_batch, 1, channels, device=torch.device("cpu"))
    found = _grouped(_without_numbers(detector, blank(*image_hw)))
    if not found:
        return []
    smallest = [maps[-1] for called in found.values() if (maps := called.maps)]
    stride = max((-(-image_hw[0] // height) for _, height, _ in smallest), default=1)
    wanted = list(found)

    def run(images: Tensor) -> dict[str, Tensor]:
        batch = blank(*images.shape[2:])
        batch.images = images
        return _middles(detector, batch, wanted)

    for short in sorted({min(stride, image_hw[0]), min(2 * stride, image_hw[0]), image_hw[0]}):
        with contextlib.suppress(Exception):  # an image that is too low for the network, or for this trick
            measured = receptive_fields(detector, run, channels, (short, max(image_hw)))
            for name, called in found.items():
                called.fields = [measured.get(f"{name}/{place}") for place in range(len(called.maps))]
            break
    return list(found.values())


def tracked(detector: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that are looked at, by name: the detector's own, and the stages of its backbone."""
    found: dict[str, nn.Module] = {}
    for name, module in detector.named_children():
        if name == "backbone":
            found |= {f"{name}.{path}": stage for path, stage in _stages(module)}
        found[name] = module
    return found


def _stages(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Give the modules that a backbone consists of, with containers opened."""
    children = list(module.named_children())
    for name, child in children:
        if len(children) == 1 or isinstance(child, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
            inner = list(_stages(child))
            if inner:
                yield from ((f"{name}.{path}", stage) for path, stage in inner)
                continue
        yield name, child


def _without_numbers(detector: nn.Module, batch: Batch) -> dict[str, Called]:
    """Predict on the meta device, and note what is called."""
    shadow = copy.deepcopy(detector).to("meta")
    sizes = batch.valid_hw
    batch = batch.to("meta")
    batch.host_hw = batch.valid_hw, sizes
    found: dict[str, Called] = {}
    counter = FlopCounterMode(display=False)
    begun: dict[str, int] = {}
    modules = tracked(shadow)

    def begin(name: str, module: nn.Module, given: Any) -> None:
        begun[name] = counter.get_total_flops()

    def end(name: str, module: nn.Module, given: Any, output: Any) -> None:
        macs = (counter.get_total_flops() - begun[name]) // 2
        earlier = found.pop(name).macs if name in found else 0
        maps = [tuple(shape) for shape, _ in cells_of(output, given)]
        count = parameter_count(module)
        found[name] = Called(name, name, type(module).__name__, maps, count, macs + earlier, [])  # type: ignore[arg-type]

    handles = [module.register_forward_pre_hook(partial(begin, name)) for name, module in modules.items()]
    handles += [module.register_forward_hook(partial(end, name)) for name, module in modules.items()]
    with counter, torch.no_grad(), contextlib.suppress(Exception):  # NMS needs numbers
        shadow.predict(batch)  # type: ignore[operator]
    for handle in handles:
        handle.remove()
    return {name: called for name, called in found.items() if called.maps}


def _grouped(found: dict[str, Called]) -> dict[str, Called]:
    """Join the stages of the backbone that follow one another and whose maps have the same size."""
    rows: list[list[Called]] = []
    for called in found.values():
        last = rows[-1][-1] if rows else called
        stages = called.name.startswith("backbone.") and last.name.startswith("backbone.")
        if rows and stages and [m[1:] for m in last.maps] == [m[1:] for m in called.maps]:
            rows[-1].append(called)
        else:
            rows.append([called])
    joined = {}
    for row in rows:
        last = row[-1]
        path = row[0].name.split(".")
        prefixes = [".".join(path[:count]) for count in range(1, len(path) + 1)]
        under = [[one for one in found.values() if f"{one.name}.".startswith(f"{p}.")] for p in prefixes]
        alone = (prefix for prefix, inside in zip(prefixes, under) if inside == row)
        span = f"{row[0].name} to {last.name.removeprefix('backbone.')}"
        title = next(alone, span) if len(row) > 1 else last.name
        total = sum(one.parameters for one in row), sum(one.macs for one in row)
        joined[last.name] = Called(last.name, title, last.kind, last.maps, *total, [])
    return joined


def _middles(detector: nn.Module, batch: Batch, wanted: Sequence[str]) -> dict[str, Tensor]:
    """Predict, and return the values of the cell at the middle of each map, by "name/number"."""
    found: dict[str, Tensor] = {}

    def note(name: str, module: nn.Module, given: Any, output: Any) -> None:
        for place, (_, values) in enumerate(cells_of(output, given)):
            found[f"{name}/{place}"] = values
        if name == wanted[-1]:
            raise _Enough

    modules = tracked(detector)
    handles = [modules[name].register_forward_hook(partial(note, name)) for name in wanted]
    try:
        detector.predict(batch)  # type: ignore[operator]
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return found


def cells_of(output: Any, given: Any) -> list[tuple[tuple[int, int, int], Tensor]]:
    """Return (channels, height, width) of each map in a module's output, and the values of the cell at its
    middle.

    Args:
        output: a map (B,c,h,w), a `Prediction`, whose logits and boxes belong together, or any nest of maps.
        given: the module's arguments; of a `Prediction`, the maps that tell the sizes of the levels.
    """
    if isinstance(output, Prediction):
        sizes = [shape[1:] for shape, _ in cells_of(given, ())]
        found = []
        for (height, width), *outputs in zip(sizes, output.logits, output.box):
            anchors = outputs[0].shape[1] // (height * width)
            first = ((height // 2) * width + width // 2) * anchors
            values = torch.cat([one[:, first : first + anchors].flatten() for one in outputs])
            channels = anchors * sum(one.shape[2] for one in outputs)
            found.append(((channels, height, width), values))
        return found
    if isinstance(output, Tensor):
        if output.ndim != 4:
            return []
        _, channels, height, width = output.shape
        return [((channels, height, width), output[:, :, height // 2, width // 2])]
    if isinstance(output, dict):
        output = list(output.values())
    elif is_dataclass(output) and not isinstance(output, type):
        output = [getattr(output, field.name) for field in fields(output)]
    if isinstance(output, (list, tuple)):
        return [cell for one in output for cell in cells_of(one, ())]
    return []
