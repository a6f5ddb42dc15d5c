"""Wrong solutions as students write them: (lesson, what is changed in the right one, the words that name the
mistake)."""

from __future__ import annotations

WRONG: dict[str, list[tuple[list[tuple[str, str]], str]]] = {
    "iou": [
        ([("(high - low)", "(high - low + 1)")], "adds 1 to the sides of the intersection"),
        ([(".clamp(min=0)\n", "\n")], "forgets to clamp negative overlaps"),
        (
            [
                (".clamp(min=0)\n", "\n"),
                ("sides[..., 0] * sides[..., 1]", "(sides[..., 0] * sides[..., 1]).clamp(min=0)"),
            ],
            "clamps the overlap after multiplying",
        ),
        ([("(high - low).clamp(min=0)", "(high - low).abs()")], "absolute value of negative overlaps"),
        (
            [
                ("(high - low)", "(high - low + 1)"),
                ("first[..., 2] - first[..., 0]", "first[..., 2] - first[..., 0] + 1"),
                ("first[..., 3] - first[..., 1]", "first[..., 3] - first[..., 1] + 1"),
                ("second[..., 2] - second[..., 0]", "second[..., 2] - second[..., 0] + 1"),
                ("second[..., 3] - second[..., 1]", "second[..., 3] - second[..., 1] + 1"),
            ],
            "adds 1 to widths and heights",
        ),
        ([("area_b - shared", "area_b")], "sum of both areas instead of the union"),
        ([("area_a + area_b - shared", "area_a")], "area of one box only, the first"),
        ([("area_a + area_b - shared", "area_b")], "area of one box only, the second"),
        ([("(area_a + area_b - shared)", "torch.minimum(area_a, area_b)")], "smaller area"),
        ([("return shared", "return 2 * shared"), ("area_b - shared", "area_b")], "Dice coefficient"),
        ([("return shared", "return 1 - shared")], "returns 1 - IoU"),
        (
            [
                ("high = torch.minimum", "high = torch.maximum"),
                ("low = torch.maximum", "low = torch.minimum"),
            ],
            "exchanges",
        ),
        (
            [
                (
                    "    low =",
                    "    first = torch.cat([first[..., :2], first[..., :2] + first[..., 2:]], -1)\n"
                    "    second = torch.cat([second[..., :2], second[..., :2] + second[..., 2:]], -1)\n"
                    "    low =",
                )
            ],
            "xywh taken for xyxy",
        ),
        (
            [
                ("    low =", "    first, second = first[..., ORDER], second[..., ORDER]\n    low ="),
                ("def iou", "ORDER = [0, 2, 1, 3]\n\n\ndef iou"),
            ],
            "swaps the axes",
        ),
        (
            [(".clamp(min=0)\n", "\n"), ("area_b - shared", "area_b")],
            "forgets to clamp negative overlaps",
        ),
    ],
    "anchors": [
        ([("k / octaves)", "k) / octaves")], "write 2 ** (k / octaves), with brackets"),
        (
            [(" + 0.5) * stride", ") * stride")],
            "corner of the cell instead of its middle, off by half a stride",
        ),
        (
            [
                ("(torch.arange(height) + 0.5) * stride", "torch.arange(height) * stride + 0.5"),
                ("(torch.arange(width) + 0.5) * stride", "torch.arange(width) * stride + 0.5"),
            ],
            "0.5 pixels",
        ),
        ([(" + 0.5) * stride", " + 1) * stride")], "far corner"),
        (
            [
                ("torch.meshgrid(y, x", "torch.meshgrid(x, y"),
                ("    y, x = torch.mesh", "    x, y = torch.mesh"),
            ],
            "column by column",
        ),
        ([("torch.stack([x, y]", "torch.stack([y, x]")], "returns y, x instead of x, y"),
        (
            [("size / ratio**0.5, size * ratio**0.5", "size * ratio**0.5, size / ratio**0.5")],
            "width and height are swapped",
        ),
        ([("size / ratio**0.5, size * ratio**0.5", "size / ratio, size * ratio")], "the area is not kept"),
        ([("size / ratio**0.5, size * ratio**0.5", "size, size * ratio")], "the area is not kept"),
        ([("base_scale * stride *", "base_scale * stride * stride *")], "multiplies the stride twice"),
        ([("base_scale * stride *", "base_scale *")], "the stride is missing"),
        ([("2 ** (k / octaves)", "(1 + k / octaves)")], "equal steps instead of equal factors"),
        (
            [
                (
                    "    for ratio in ratios:\n        for k in range(octaves):",
                    "    for k in range(octaves):\n        for ratio in ratios:",
                )
            ],
            "the order within a cell is wrong",
        ),
    ],
    "matcher": [
        ([("range(len(ious))", "range(1, len(ious))")], "off by one: rule 4 leaves out the first object"),
        ([("matched[best] = number", "matched[best - 1] = number")], "off by one: rule 4 gives each object"),
        ([("] = -1", "] = len(ious)")], "its background is the number of objects"),
        (
            [("return matched", "matched[matched >= 0] += 1\n    return matched")],
            "off by one: object k is matched as k + 1",
        ),
        ([("    return matched", "    return matched + 1")], "off by one"),
        (
            [("return matched", "matched[matched >= 0] -= 1\n    return matched")],
            "off by one: object k is matched as k - 1",
        ),
        ([("    return matched", "    return matched.roll(1)")], "off by one: each anchor has the result of"),
        ([("values < positive", "values <= positive")], "compares by > where it must be >="),
        ([("values < negative", "values <= negative")], "compares by <= where it must be <"),
        (
            [("    for number in range(len(ious)):", "    for number in range(0):")],
            "does not give each object its best anchor",
        ),
        ([("values < negative", "values < positive")], "between the two thresholds for background"),
        ([("if ious[number, best] > 0:", "if True:")], "gives an object that touches no anchor"),
        ([("dim=0", "dim=1")], "wrong axis"),
        ([("range(len(ious))", "reversed(range(len(ious)))")], "the earlier object has it"),
        (
            [("] = -1", "] = -9"), ("] = -2", "] = -1"), ("] = -9", "] = -2")],
            "exchanges background and ignored",
        ),
    ],
    "focal": [
        ([("torch.sigmoid(-signed) ** gamma", "1 - torch.sigmoid(signed) ** gamma")], "1 - p_t^gamma"),
        ([("-alpha_t * fading", "-fading")], "it has no alpha"),
        ([("alpha, 1 - alpha)", "1 - alpha, alpha)")], "alpha is on the wrong side"),
        ([("torch.where(truth == 1, alpha, 1 - alpha)", "alpha")], "multiplies everything by alpha"),
        ([(" * fading", "")], "it has no gamma"),
        (
            [("torch.sigmoid(-signed) ** gamma", "(1 - torch.sigmoid(logits)) ** gamma")],
            "(1 - p)^gamma instead",
        ),
        ([("torch.sigmoid(-signed)", "torch.sigmoid(signed)")], "p_t^gamma instead of (1 - p_t)^gamma"),
        ([("functional.logsigmoid(signed)", "functional.logsigmoid(logits)")], "the log of p, not of p_t"),
        ([("(-alpha_t", "(alpha_t")], "its sign is wrong"),
        ([(".sum(dim=-1)", ".mean(dim=-1)")], "the mean over the classes"),
        ([(".sum(dim=-1)", ".sum(dim=-1) / logits.shape[1]")], "normalised by all anchors"),
        ([(".sum(dim=-1)", ".sum()")], "sums over everything"),
        ([(".sum(dim=-1)", "")], "it is not summed"),
        ([("log_pt).sum", "log_pt * truth).sum")], "counts the true classes only"),
    ],
    "coder": [
        ([("growth = torch.log(size / own_size)", "growth = size / own_size")], "no logarithm of the sizes"),
        ([("dim=-1) * weights", "dim=-1)")], "the weights are not applied"),
        ([("dim=-1) * weights", "dim=-1) / weights")], "it divides by the weights"),
        ([("(center - own_center) / own_size", "(center - own_center) / size")], "size of the object's box"),
        (
            [
                (
                    "    size = boxes",
                    "    center, own_center = boxes[..., :2], anchors[..., :2]\n    size = boxes",
                )
            ],
            "the corner of the boxes instead of",
        ),
        ([("(center - own_center) / own_size", "(own_center - center) / own_size")], "points the wrong way"),
        ([("torch.exp(deltas[..., 2:])", "deltas[..., 2:]")], "decodes sizes without exp"),
        ([("deltas / weights", "deltas * weights")], "it multiplies by the weights"),
        ([("    deltas = deltas / weights\n", "")], "the weights are not taken off"),
        (
            [("[center - size / 2, center + size / 2]", "[center, center + size]")],
            "the centre for the corner",
        ),
        ([("[center - size / 2, center + size / 2]", "[center - size, center + size]")], "a whole width"),
        ([("[center - size / 2, center + size / 2]", "[center, size]")], "returns centre and size"),
    ],
    "nms": [
        ([("== labels[best]", "!= labels[best]")], "boxes of other classes only"),
        ([(" & (labels[left] == labels[best])", "")], "suppresses across classes"),
        ([("descending=True", "descending=False")], "keeps the box of the lower score"),
        ([("> threshold", ">= threshold")], "exactly the threshold (>=)"),
        (
            [("torch.tensor(kept, dtype=torch.int64)", "torch.tensor(sorted(kept), dtype=torch.int64)")],
            "in the order of the input",
        ),
        (
            [
                (
                    "torch.tensor(kept, dtype=torch.int64)",
                    "torch.zeros(len(boxes), dtype=torch.bool).index_fill(0, torch.tensor(kept), True)",
                )
            ],
            "returns a mask, not indices",
        ),
        ([("> threshold", "< threshold")], "below the threshold"),
        ([("    return torch.tensor(kept, dtype=torch.int64)", "    return boxes[kept]")], "returns boxes"),
        ([("(ious[best, left] > threshold) & ", "")], "one box of each class"),
    ],
}

BODIES: list[tuple[str, str, str, str]] = [
    (
        "nms",
        "nms",
        """
    order = scores.argsort(descending=True).tolist()
    ious, kept = pairwise_iou(boxes, boxes), []
    for i, place in enumerate(order):
        before = order[i - 1] if i else place
        same_class = i > 0 and labels[before] == labels[place]
        if not same_class or ious[before, place] <= threshold:
            kept.append(place)
    return torch.tensor(kept, dtype=torch.int64)
""",
        "its neighbour in the order of the scores only",
    ),
    (
        "nms",
        "nms",
        """
    order = scores.argsort(descending=True)
    boxes, labels = boxes[order], labels[order]
    ious = pairwise_iou(boxes, boxes)
    kept = []
    for i in range(len(boxes)):
        if all(ious[i, j] <= threshold or labels[i] != labels[j] for j in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)
""",
        "positions in the sorted list",
    ),
    (
        "nms",
        "nms",
        """
    ious = pairwise_iou(boxes, boxes)
    better = (scores[None] > scores[:, None]) & (labels[None] == labels[:, None])
    stays = ~((ious > threshold) & better).any(dim=1)
    places = stays.nonzero().squeeze(1)
    return places[scores[places].argsort(descending=True)]
""",
        "a box that was removed still removes others",
    ),
    (
        "matcher",
        "match",
        """
    matched = torch.full((ious.shape[1],), -1)
    for anchor in range(ious.shape[1]):
        best = 0
        for number in range(len(ious)):
            if ious[number, anchor] > ious[best, anchor]:
                best = number
        if ious[best, anchor] >= positive:
            matched[anchor] = best + 1
        elif ious[best, anchor] >= negative:
            matched[anchor] = -2
    for number in range(len(ious)):
        best = int(ious[number].argmax())
        if ious[number, best] > 0:
            matched[best] = number + 1
    return matched
""",
        "off by one: object k is matched as k + 1",
    ),
    (
        "iou",
        "iou",
        """
    x1, y1, x2, y2 = first.unbind(-1)
    a1, b1, a2, b2 = second.unbind(-1)
    width = torch.minimum(x2, a2) - torch.maximum(x1, a1)
    height = torch.minimum(y2, b2) - torch.maximum(y1, b1)
    shared = width * height
    union = (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(union))
""",
        "forgets to clamp negative overlaps",
    ),
    (
        "focal",
        "focal",
        """
    loss = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return ((1 - (-loss).exp()) ** gamma * loss).sum(-1)
""",
        "it has no alpha",
    ),
    (
        "coder",
        "encode",
        """
    w, h = anchors[..., 2] - anchors[..., 0], anchors[..., 3] - anchors[..., 1]
    bw, bh = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    dx, dy = (boxes[..., 0] - anchors[..., 0]) / w, (boxes[..., 1] - anchors[..., 1]) / h
    return torch.stack([dx, dy, torch.log(bw / w), torch.log(bh / h)], dim=-1) * weights
""",
        "takes the corner of the boxes instead of their centre",
    ),
    (
        "anchors",
        "cell_centers",
        """
    return torch.tensor([[x * stride, y * stride] for y in range(height) for x in range(width)])
""",
        "off by half a stride",
    ),
]
"""(lesson, function, body, the words that name the mistake): written in other ways."""
