"""The lessons, solved: the body of each function."""

from __future__ import annotations

import re
from pathlib import Path

from densedet.core.lessons.names import file_name, text_of

BODIES = {
    "iou": {
        "iou": """
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    sides = (high - low).clamp(min=0)
    shared = sides[..., 0] * sides[..., 1]
    area_a = (first[..., 2] - first[..., 0]) * (first[..., 3] - first[..., 1])
    area_b = (second[..., 2] - second[..., 0]) * (second[..., 3] - second[..., 1])
    return shared / (area_a + area_b - shared).clamp(min=1e-9)
"""
    },
    "anchors": {
        "cell_centers": """
    y = (torch.arange(height) + 0.5) * stride
    x = (torch.arange(width) + 0.5) * stride
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)
""",
        "anchor_sides": """
    rows = []
    for ratio in ratios:
        for k in range(octaves):
            size = base_scale * stride * 2 ** (k / octaves)
            rows.append([size / ratio**0.5, size * ratio**0.5])
    return torch.tensor(rows)
""",
    },
    "matcher": {
        "match": """
    values, objects = ious.max(dim=0)
    matched = objects.clone()
    matched[values < positive] = -2
    matched[values < negative] = -1
    for number in range(len(ious)):
        best = ious[number].argmax()
        if ious[number, best] > 0:
            matched[best] = number
    return matched
"""
    },
    "focal": {
        "focal": """
    signed = torch.where(truth == 1, logits, -logits)
    log_pt = functional.logsigmoid(signed)
    alpha_t = torch.where(truth == 1, alpha, 1 - alpha)
    fading = torch.sigmoid(-signed) ** gamma
    return (-alpha_t * fading * log_pt).sum(dim=-1)
"""
    },
    "coder": {
        "encode": """
    center = (boxes[..., :2] + boxes[..., 2:]) / 2
    own_center = (anchors[..., :2] + anchors[..., 2:]) / 2
    size = boxes[..., 2:] - boxes[..., :2]
    own_size = anchors[..., 2:] - anchors[..., :2]
    shift = (center - own_center) / own_size
    growth = torch.log(size / own_size)
    return torch.cat([shift, growth], dim=-1) * weights
""",
        "decode": """
    own_center = (anchors[..., :2] + anchors[..., 2:]) / 2
    own_size = anchors[..., 2:] - anchors[..., :2]
    deltas = deltas / weights
    center = own_center + deltas[..., :2] * own_size
    size = own_size * torch.exp(deltas[..., 2:])
    return torch.cat([center - size / 2, center + size / 2], dim=-1)
""",
    },
    "nms": {
        "nms": """
    ious = pairwise_iou(boxes, boxes)
    left = scores.argsort(descending=True)
    kept = []
    while len(left) > 0:
        best = left[0]
        kept.append(int(best))
        removed = (ious[best, left] > threshold) & (labels[left] == labels[best])
        removed[0] = True
        left = left[~removed]
    return torch.tensor(kept, dtype=torch.int64)
"""
    },
}


def filled(lesson: str, bodies: dict[str, str]) -> str:
    """The text of a lesson with these bodies in the place of its holes."""
    text = text_of(lesson)
    for function, body in bodies.items():
        hole = f'    raise NotImplementedError("write the body of {function}")\n'
        assert text.count(hole) == 1
        text = text.replace(hole, body.lstrip("\n"))
    return text


def write_solution(folder: Path, lesson: str, *changes: tuple[str, str], **bodies: str) -> Path:
    """Write the file of a lesson, solved.

    Args:
        folder: where to.
        lesson: its name.
        changes: (old, new) texts that are replaced in the solution, each once at least.
        bodies: bodies of functions in place of the right ones.
    """
    text = filled(lesson, {**BODIES[lesson], **bodies})
    for old, new in changes:
        assert re.sub(r"\s", "", old), "something must be replaced"
        assert old in text, old
        text = text.replace(old, new)
    file = folder / file_name(lesson)
    file.write_text(text, encoding="utf-8")
    return file
