"""Whether objects come back: from the source to the network's input, to targets, and to source pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from densedet.core import assembly
from densedet.core.boxes import iou
from densedet.core.recipe.loading import Recipe
from densedet.core.text import counted
from densedet.core.types import Batch

SAME = 0.95
"""IoU from which on a box has come back."""
PIXELS = 0.51
"""By which a box may be off in source pixels: images are scaled to whole pixels."""
IMAGES, POSITIVES, STEPS = 64, 500, 300


def source_faults(recipe: Recipe, images: int = IMAGES) -> list[str]:
    """Compare the boxes and classes of a dataset's first images, moved back to source pixels, with those of
    the source.

    Returns:
        A sentence for each image that differs, with the first box.
    """
    source = assembly.build_sources(recipe)[0]
    classes = assembly.class_table(recipe, source)
    dataset = assembly.make_dataset(recipe, source, classes)
    faults = []
    for index in range(min(images, len(source))):
        truth, sample = source.annotation(index), dataset.sample(0, index)
        scale_x, scale_y, offset_x, offset_y = sample.to_source
        scale = torch.tensor([scale_x, scale_y, scale_x, scale_y])
        back = sample.boxes * scale + torch.tensor([offset_x, offset_y, offset_x, offset_y])
        limit = torch.tensor([truth.width, truth.height, truth.width, truth.height])
        wanted = torch.minimum(truth.boxes.clamp(min=0), limit.to(truth.boxes))
        name = f"image {truth.image_id} ({truth.file_name})"
        if back.shape != wanted.shape:
            faults.append(f"{name}: {counted(len(wanted), 'box')} went in and {len(back)} came out")
            continue
        off = (back - wanted).abs().amax(1) if len(wanted) else back.new_zeros(0)
        names = [source.classes[label] if label >= 0 else None for label in truth.labels.tolist()]
        kept = [classes[label] if label >= 0 else None for label in sample.labels.tolist()]
        other = [at for at, (a, b) in enumerate(zip(names, kept)) if b is not None and a != b]
        if bool((off > PIXELS).any()):
            at = int(off.argmax())
            faults.append(f"{name}: box {_text(wanted[at])} comes back as {_text(back[at])}")
        elif other:
            faults.append(f"{name}: class {names[other[0]]!r} comes back as {kept[other[0]]!r}")
    return faults


def target_faults(detector: Any, batch: Batch) -> list[str]:
    """Look whether the targets of a batch stand for its objects: each positive anchor has its object's label
    and box, and the coder can give that box back.

    Args:
        detector: where it has no ``explain`` or coder, nothing is looked at.
        batch: on its device.

    Returns:
        Sentences.
    """
    if not (hasattr(detector, "explain") and hasattr(detector, "coder")):
        return []
    training = detector.training
    detector.eval()
    try:
        targets = detector.explain(batch).targets
    finally:
        detector.train(training)
    image, anchor = targets.places
    slot = targets.matched_idxs[image, anchor]
    faults = []
    if not torch.equal(targets.labels[image, anchor], batch.labels[image, slot]):
        faults.append("a positive anchor has another label than its object")
    if not torch.equal(targets.boxes[image, anchor], batch.boxes[image, slot]):
        faults.append("a positive anchor has another box than its object")
    step = max(1, len(image) // POSITIVES)
    boxes, anchors = targets.boxes[image, anchor][::step], targets.anchors[anchor][::step]
    lost = iou(decoded_again(detector.coder, boxes, anchors), boxes) < SAME
    # A box is lost where none of its anchors gives it back.
    objects = (image * batch.boxes.shape[1] + slot)[::step]
    gone = sorted(set(objects[lost].tolist()) - set(objects[~lost].tolist()))
    if gone:
        row, at = divmod(gone[0], batch.boxes.shape[1])
        faults.append(
            f"{counted(len(gone), 'object')} cannot be given back by {type(detector.coder).__name__} from "
            f"any of its positive anchors, e.g. {_text(batch.boxes[row, at])} of image {batch.image_ids[row]}"
        )
    return faults


def decoded_again(coder: Any, boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return what a coder's best output for boxes (P,4) decodes to, (P,4).

    The output is the target itself where the coder has as many channels; else it is found by descent.
    """
    target = coder.encode(boxes, anchors)
    if coder.box_channels == target.shape[-1]:
        raw = target.clone()
        if torch.allclose(coder.deltas(raw), target, atol=1e-5):
            found: Tensor = coder.decode(raw, anchors)
            return found
    raw = torch.zeros(len(boxes), coder.box_channels, device=boxes.device, requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr=0.2)
    with torch.enable_grad():
        for step in range(STEPS if len(boxes) else 0):
            optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / STEPS)
            optimizer.zero_grad()
            (coder.deltas(raw) - target).abs().sum().backward()
            optimizer.step()
    return coder.decode(raw.detach(), anchors)


def _text(box: Tensor) -> str:
    return str([round(value, 1) for value in box.tolist()])
