"""What a server answers: a task's arrays, as the bundle's tail gives them, to what JSON holds; no torch."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]
Output = tuple[Array, ...]  # of one image
MOST_CLASSES = 5


def classes(output: Output, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the most probable classes of one image's logits (C,): number, label and probability."""
    (logits,) = output
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")[:MOST_CLASSES]
    return {"classes": [{**_named(int(index), class_names), "probability": float(shares[index])} for index in order]}


def mask(output: Output, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the class of each pixel (H, W) as the grey values of a PNG in base64, and the classes' shares.

    The PNG has 8 bits a pixel, or 16 where the bundle has more classes than 8 bits count.
    """
    (numbers,), buffer = output, io.BytesIO()
    most = max(int(numbers.max()), len(class_names) - 1)
    grey = np.uint8 if most <= np.iinfo(np.uint8).max else np.uint16
    Image.fromarray(numbers.astype(grey)).save(buffer, format="PNG")
    found, counts = np.unique(numbers, return_counts=True)
    shares = [
        {**_named(int(found[index]), class_names), "share": float(counts[index] / numbers.size)}
        for index in np.argsort(-counts, kind="stable")
    ]
    return {"mask": base64.b64encode(buffer.getvalue()).decode(), "shares": shares}


def objects(output: Output, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the boxes that are left of an output when doubles are suppressed, from the surest on.

    Args:
        output: boxes (K, 4), scores (K,) falling, labels (K,); then the overlap above which the less sure of two
            boxes of one class is left out, and the most boxes that are given.
        class_names: of the labels.
    """
    boxes, scores, labels, (overlap, most) = output
    kept = suppress(boxes, scores, labels, float(overlap))[: int(most)]
    return {
        "objects": [
            {**_named(int(labels[index]), class_names), "score": float(scores[index]), "box": boxes[index].tolist()}
            for index in kept
        ]
    }


def suppress(boxes: Array, scores: Array, labels: Array, overlap: float) -> list[int]:
    """Choose, from the surest on, boxes that none chosen before of their class overlaps too much; scores above 0."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    left = scores > 0
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        if not left[index]:
            continue
        kept.append(int(index))
        low, high = np.maximum(boxes[index, :2], boxes[:, :2]), np.minimum(boxes[index, 2:], boxes[:, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        left &= (labels != labels[index]) | (shared <= overlap * (areas[index] + areas - shared))
    return kept


def embedding(output: Output, class_names: Sequence[str]) -> dict[str, Any]:
    """Return a vector (D,), tokens (T, D) or maps (D, H, W) as lists of numbers, each as short as its precision is."""
    (values,) = output
    return {"embedding": values.astype(str).astype(np.float64).tolist()}


def _named(number: int, class_names: Sequence[str]) -> dict[str, Any]:
    return {"class": number, "label": class_names[number] if number < len(class_names) else str(number)}


ANSWERS: Mapping[str, Callable[[Output, Sequence[str]], dict[str, Any]]] = {
    "classification": classes,
    "segmentation": mask,
    "detection": objects,
    "embedding": embedding,
}  # by the manifest's task
