"""Which convolutions stay in float32."""

from __future__ import annotations

from onnx import TensorProto, helper

from densedet.core.export.quantizing import last_convolutions


def test_the_convolutions_before_the_outputs_are_the_last_ones() -> None:
    """trunk -> relu -> logits -> sigmoid -> scores, and trunk -> box -> boxes."""
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["a"], name="trunk"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w"], ["c"], name="logits"),
        helper.make_node("Sigmoid", ["c"], ["scores"], name="sigmoid"),
        helper.make_node("Conv", ["a", "w"], ["boxes"], name="box"),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("scores", "boxes")]
    graph = helper.make_graph(nodes, "graph", [], outputs)
    assert last_convolutions(graph) == {"logits", "box"}
