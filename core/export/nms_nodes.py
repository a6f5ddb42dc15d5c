"""Non-maximum suppression in ONNX, appended to a graph that gives its candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from densedet.core.export.network import PADDED
from densedet.core.suppression import Suppression


class Nodes:
    """Nodes and constants to be appended to a graph.

    Args:
        graph: gets them.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self._count = 0

    def constant(self, value: Any, dtype: Any) -> str:
        """Add an initializer; its name."""
        name = self._name("constant")
        self.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype=dtype), name))
        return name

    def add(self, kind: str, *inputs: str, outputs: int = 1, named: str = "", **attributes: Any) -> Any:
        """Add a node; the name of its output, or the names of several."""
        names = [named] if named else [self._name(kind) for _ in range(outputs)]
        self.graph.node.append(helper.make_node(kind, inputs, names, name=f"{names[0]}_node", **attributes))
        return names[0] if outputs == 1 else names

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"nms_{kind.lower()}_{self._count}"


def append_nms(
    model: onnx.ModelProto, how: Suppression, classes: int, extra: Sequence[str], candidates: int | None
) -> None:
    """Turn a graph of `CandidateNetwork` into one that gives detections.

    Args:
        model: its outputs are boxes, scores, labels, anchors and the extras; they are replaced. The new ones:
            boxes (B,D,4), scores (B,D), labels (B,D), anchors (B,D), count (B,) and (B,D,*shape) of each
            extra, best first; from ``count`` on they are empty (0, label and anchor -1).
        how: hard suppression.
        classes: C.
        extra: names of the extras.
        candidates: K; None where it depends on the input.
    """
    graph = model.graph
    given = ["boxes", "scores", "labels", "anchors", *extra]
    inner = {name: f"candidate_{name}" for name in given}
    _rename(graph, inner)
    shapes = {one.name: one for one in graph.output}
    del graph.output[:]
    nodes = Nodes(graph)
    boxes, scores, labels, anchors = (inner[name] for name in given[:4])
    if how.class_agnostic:
        per_class = nodes.add("Unsqueeze", scores, nodes.constant([1], np.int64))
    else:
        own = nodes.add(
            "Equal",
            nodes.add("Unsqueeze", labels, nodes.constant([1], np.int64)),
            nodes.constant(np.arange(classes).reshape(1, classes, 1), np.int64),
        )  # (B,C,K)
        lifted = nodes.add("Unsqueeze", scores, nodes.constant([1], np.int64))
        per_class = nodes.add("Where", own, lifted, nodes.constant(PADDED, np.float32))
    chosen = nodes.add(
        "NonMaxSuppression",
        boxes,
        per_class,
        nodes.constant([how.max_detections], np.int64),
        nodes.constant([how.iou], np.float32),
        nodes.constant([0.0], np.float32),
    )  # (M,3): image, class, candidate
    places = nodes.add("Gather", chosen, nodes.constant([0, 2], np.int64), axis=1)
    nothing = nodes.add(
        "ConstantOfShape",
        nodes.add("Shape", scores),
        value=helper.make_tensor("value", TensorProto.FLOAT, [1], [PADDED]),
    )
    survivors = nodes.add("ScatterND", nothing, places, nodes.add("GatherND", scores, places))  # (B,K)
    if candidates is not None:
        most = nodes.constant([min(how.max_detections, candidates)], np.int64)
    else:
        length = nodes.add("Gather", nodes.add("Shape", scores), nodes.constant([1], np.int64))
        most = nodes.add("Min", length, nodes.constant([how.max_detections], np.int64))
    values, rows = nodes.add("TopK", survivors, most, outputs=2, axis=1)  # (B,D)
    filled = nodes.add("Greater", values, nodes.constant(0.0, np.float32))
    numbers = nodes.add("Cast", filled, to=TensorProto.INT64)
    nodes.add("ReduceSum", numbers, nodes.constant([1], np.int64), keepdims=0, named="count")
    nodes.add("Where", filled, values, nodes.constant(0.0, np.float32), named="scores")
    rows = nodes.add("Unsqueeze", rows, nodes.constant([2], np.int64))
    none = nodes.constant(-1, np.int64)
    for source, name in ((labels, "labels"), (anchors, "anchors")):
        nodes.add("Where", filled, nodes.add("GatherND", source, rows, batch_dims=1), none, named=name)
    part = nodes.add(
        "Unsqueeze", nodes.add("Cast", filled, to=TensorProto.FLOAT), nodes.constant([2], np.int64)
    )
    nodes.add("Mul", nodes.add("GatherND", boxes, rows, batch_dims=1), part, named="boxes")
    anchor_rows = nodes.add("GatherND", anchors, rows, batch_dims=1)
    anchor_rows = nodes.add("Unsqueeze", anchor_rows, nodes.constant([2], np.int64))
    for name in extra:
        nodes.add("GatherND", inner[name], anchor_rows, batch_dims=1, named=name)
    _declare(graph, {name: shapes[inner[name]] for name in extra})


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Give values of a graph other names."""
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(name, name) for name in field]
    for value in (*graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)


def _declare(graph: onnx.GraphProto, extra: dict[str, Any]) -> None:
    """List the outputs with their types and shapes; ``extra`` are the values of all anchors by name."""
    kinds = {"boxes": ("FLOAT", 4), "scores": ("FLOAT",), "labels": ("INT64",), "anchors": ("INT64",)}
    for name, (kind, *rest) in kinds.items():
        shape = ["batch", "detections", *rest]
        graph.output.append(helper.make_tensor_value_info(name, getattr(TensorProto, str(kind)), shape))
    graph.output.append(helper.make_tensor_value_info("count", TensorProto.INT64, ["batch"]))
    for name, value in extra.items():
        tensor = value.type.tensor_type
        rest = [dim.dim_value or dim.dim_param for dim in tensor.shape.dim][2:]
        shape = ["batch", "detections", *rest]
        graph.output.append(helper.make_tensor_value_info(name, tensor.elem_type, shape))
