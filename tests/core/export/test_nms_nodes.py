"""Suppression in an ONNX graph finds what it finds with torch."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from densedet.core.export.network import CandidateNetwork
from densedet.core.export.nms_nodes import append_nms
from densedet.core.types import Level, RawOutput
from densedet.plugins.postprocess.nms import NMSPostprocess

LEVELS = (Level(10, 8, 2, 8), Level(5, 4, 2, 16))
OUTPUTS = ["boxes", "scores", "labels", "anchors", "count", "hue"]


class Fixed(nn.Module):
    """A detector whose raw output is its input: images hold scores, boxes and a value of each anchor."""

    def raw(self, images, valid_hw):
        return RawOutput(images[..., 3:7], images[..., :3], (160, 40), {"hue": images[..., 7:]})


def crowd(images: int) -> torch.Tensor:
    """Scores of three classes, a box in a square of 64 pixels and a hue (B,200,8)."""
    random = torch.Generator().manual_seed(0)
    corner, side, scores, hue = (torch.rand(images, 200, n, generator=random) for n in (2, 2, 3, 1))
    return torch.cat([scores, corner * 40, corner * 40 + side * 20 + 4, hue], dim=-1)


def session_of(part: NMSPostprocess, candidates: int) -> onnxruntime.InferenceSession:
    shapes = {"boxes": (TensorProto.FLOAT, [4]), "scores": (TensorProto.FLOAT, [])}
    shapes |= {"labels": (TensorProto.INT64, []), "anchors": (TensorProto.INT64, [])}
    rows = {n: helper.make_tensor_value_info(n, k, ["batch", "K", *rest]) for n, (k, rest) in shapes.items()}
    rows["hue"] = helper.make_tensor_value_info("hue", TensorProto.FLOAT, ["batch", "N", 1])
    given = [
        helper.make_tensor_value_info(f"in_{n}", v.type.tensor_type.elem_type, None) for n, v in rows.items()
    ]
    nodes = [helper.make_node("Identity", [f"in_{name}"], [name]) for name in rows]
    graph = helper.make_graph(nodes, "graph", given, list(rows.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    append_nms(model, part.suppression, 3, ["hue"], candidates)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    "part",
    [
        NMSPostprocess(score=0.3, top_k=40, iou=0.4, max_detections=30),
        NMSPostprocess(score=0.3, top_k=40, per="class", max_detections=300),
        NMSPostprocess(score=0.9, class_agnostic=True, min_size=8.0),
        NMSPostprocess(score=1.0),
    ],
)
def test_the_graph_finds_what_torch_finds(part):
    given = crowd(3)
    columns = CandidateNetwork(Fixed(), part.suppression)(given, None)
    session = session_of(part, columns[0].shape[1])
    feed = {
        f"in_{name}": c.numpy() for name, c in zip(["boxes", "scores", "labels", "anchors", "hue"], columns)
    }
    outputs = dict(zip(OUTPUTS, session.run(OUTPUTS, feed)))
    expected = part(given[..., :3], given[..., 3:7], LEVELS, torch.tensor([[64, 64]] * 3))
    for image, found in enumerate(expected):
        count = outputs["count"][image]
        assert count == len(found)
        for name in ("anchors", "labels"):
            assert outputs[name][image, :count].tolist() == getattr(found, name).tolist()
            assert (outputs[name][image, count:] == -1).all()
        assert np.allclose(outputs["boxes"][image, :count], found.boxes.numpy())
        assert np.allclose(outputs["scores"][image, :count], found.scores.numpy())
        assert (outputs["boxes"][image, count:] == 0).all() and (outputs["scores"][image, count:] == 0).all()
        assert np.allclose(outputs["hue"][image, :count], given[image, found.anchors, 7:].numpy())
