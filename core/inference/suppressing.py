"""Suppression of overlapping boxes with NumPy, for exported files whose graph stops before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densedet.core.array_boxes import pairwise_iou
from densedet.core.suppression import Suppression


def suppress(
    scores: np.ndarray, boxes: np.ndarray, counts: Sequence[int], how: Suppression
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose the detections of an image.

    Args:
        scores: float32 (N,C).
        boxes: float32 (N,4) xyxy, clipped to the image.
        counts: anchors of each level, N in all.
        how: settings.

    Returns:
        The D detections, best first: their anchors int64 (D,), labels int64 (D,) and scores float32 (D,).
    """
    classes = scores.shape[1]
    flat = _candidates(scores, boxes, counts, how)
    anchors, labels, left = flat // classes, flat % classes, scores.reshape(-1)[flat].copy()
    found: list[int] = []
    values: list[float] = []
    # Picking over all classes at once is the same as class by class: only a box's own class suppresses it.
    while len(found) < min(how.max_detections, len(flat)):
        best = int(left.argmax())
        value = left[best]
        if value <= (how.score if how.method == "hard" else how.final_score):
            break
        found.append(best)
        values.append(value)
        factor = _factor(pairwise_iou(boxes[anchors[best]][None], boxes[anchors])[0], how)
        left *= factor if how.class_agnostic else np.where(labels == labels[best], factor, np.float32(1))
        left[best] = -1
    picked = np.array(found, dtype=np.int64)
    return anchors[picked], labels[picked], np.array(values, dtype=np.float32)


def _candidates(scores: np.ndarray, boxes: np.ndarray, counts: Sequence[int], how: Suppression) -> np.ndarray:
    """Return int64 (M,), the flat indices of the pairs of anchor and class that go on."""
    wanted = scores > np.float32(how.score)
    if how.min_size > 0:
        wanted &= (boxes[:, 2:] - boxes[:, :2]).min(axis=1, keepdims=True) >= np.float32(how.min_size)
    classes = scores.shape[1]
    pairs = np.arange(scores.size).reshape(scores.shape)
    if how.per == "class":
        groups = [pairs[:, label] for label in range(classes)]
    else:
        groups = [part.reshape(-1) for part in np.split(pairs, np.cumsum(counts)[:-1])]
    kept = []
    for group in groups:
        group = group[wanted.reshape(-1)[group]]
        if len(group) > how.top_k:
            order = np.argsort(-scores.reshape(-1)[group], kind="stable")
            group = group[order[: how.top_k]]
        kept.append(group)
    return np.concatenate(kept)


def _factor(overlap: np.ndarray, how: Suppression) -> np.ndarray:
    """Return the factors on scores, float32 (M,), by IoUs (M,) with a new detection."""
    if how.method == "hard":
        return (overlap <= np.float32(how.iou)).astype(np.float32)
    if how.method == "linear":
        return np.where(overlap >= np.float32(how.iou), 1 - overlap, np.float32(1))
    return np.exp(-np.square(overlap) / np.float32(how.sigma))
