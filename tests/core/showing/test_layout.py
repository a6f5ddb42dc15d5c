"""The parts of a network, in the order of their calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import densedet
from densedet.core.showing.layout import called_parts
from densedet.core.training.profile import blank_batch, forward_flops, parameter_count

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "beside_a_recipe"


def test_the_quick_start_by_hand() -> None:
    """Fields: the stem's window of 3, then stage by stage (3x3 at the stride before, then two 3x3):
    3 + 2 * 2 = 7, + 4 * 2 * 2 = 23; + 8 = 31, + 8 * 4 = 63; + 16 = 79, + 16 * 4 = 143. SSD's extra stage, a
    window of 3 of stride 16: 175. The head's windows of 3: + 2 strides."""
    detector = densedet.build("quickstart_ssd").eval()
    weights = {name: value.clone() for name, value in detector.state_dict().items()}
    parts = {part.name: part for part in called_parts(detector, 1, (64, 128))}
    assert [part.title for part in parts.values()][:2] == ["backbone.stem", "backbone.stages.0"]
    assert list(parts)[-3:] == ["backbone", "neck", "head"]
    assert parts["backbone"].maps == [(32, 16, 32), (64, 8, 16), (96, 4, 8)]
    assert [str(field) for field in parts["backbone"].fields] == ["23x23", "63x63", "143x143"]
    assert [str(field) for field in parts["neck"].fields] == ["23x23", "63x63", "143x143", "175x175"]
    # + 2 * 4, + 2 * 8, + 2 * 16, + 2 * 32
    assert [str(field) for field in parts["head"].fields] == ["31x31", "79x79", "175x175", "239x239"]
    # 4 anchors of 11 class channels (softmax) and 4 of the box: 60
    assert parts["head"].maps[0] == (60, 16, 32)

    stages = [part for name, part in parts.items() if "." in name]
    own = [parts["backbone"], parts["neck"], parts["head"]]
    assert sum(part.parameters for part in stages) == parts["backbone"].parameters
    assert sum(part.parameters for part in own) == parameter_count(detector)
    assert sum(part.macs for part in stages) == parts["backbone"].macs
    assert sum(part.macs for part in own) == (
        forward_flops(detector, blank_batch(1, 1, 64, 128, torch.device("cpu"))) // 2
    )
    # The stem: 64x32 cells, 16 channels, 3x3 of 1 channel.
    assert stages[0].macs == 64 * 32 * 16 * 9
    after = detector.state_dict()
    assert all(torch.equal(after[name], value) for name, value in weights.items())
    assert not detector.training


def test_a_strangers_detector_has_its_own_parts() -> None:
    recipe = densedet.load_recipe(EXAMPLES / "centernet.yaml")
    detector: Any = densedet.build(recipe).eval()
    parts = {part.name: part for part in called_parts(detector, 1, (64, 128))}
    assert parts["heatmap"].maps == [(10, 16, 32)]
    # The coarsest map's cells, merged at stride 4, and there two windows of 3: 2 * 2 * 4 more.
    assert parts["heatmap"].fields[0] is not None
    assert parts["heatmap"].fields[0].width == parts["backbone"].fields[2].width + 2 * 2 * 4  # type: ignore[union-attr]


def test_a_detector_that_cannot_be_followed_has_no_parts() -> None:
    class Opaque(torch.nn.Module):
        def predict(self, batch: Any) -> Any:
            raise RuntimeError("needs numbers at once")

    assert called_parts(Opaque(), 1, (64, 128)) == []
