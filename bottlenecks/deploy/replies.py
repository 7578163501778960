"""What a device understands of a server's answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

MOST_NAMED = 5  # classes or objects in a line
MOST_SIDES = 3  # of an embedding: maps (D, H, W)


class Answer(NamedTuple):
    """What a server makes of a frame.

    Attributes:
        text: for people.
        fields: for programs.
    """

    text: str
    fields: dict[str, Any]

    @classmethod
    def of(cls, content: dict[str, Any]) -> Answer:
        """Read a server's answer: classes, a mask, objects or an embedding.

        Raises:
            ValueError: it is not what servers answer.
        """
        try:
            (read,) = [read for name, read in READERS.items() if name in content]
            answer = read(content)
        except Exception:  # whatever a foreign answer leads to
            raise ValueError(f"answered {str(content)[:80]!r}") from None
        return answer


def _read_classes(content: dict[str, Any]) -> Answer:
    best = content["classes"][0]
    label, probability = _printable(best["label"]), float(best["probability"])
    fields = {"class": int(best["class"]), "label": label, "probability": probability}
    return Answer(f"{label} ({probability:.1%})", fields)


def _read_mask(content: dict[str, Any]) -> Answer:
    shares = [{**one, "label": _printable(one["label"]), "share": float(one["share"])} for one in content["shares"]]
    text = ", ".join(f"{one['label']} {one['share']:.0%}" for one in shares[:MOST_NAMED])
    return Answer(text, {"shares": shares, "mask": str(content["mask"])})


def _read_objects(content: dict[str, Any]) -> Answer:
    found = [
        {
            "class": int(one["class"]),
            "label": _printable(one["label"]),
            "score": float(one["score"]),
            "box": [float(corner) for corner in one["box"]],
        }
        for one in content["objects"]
    ]
    text = ", ".join(f"{one['label']} ({one['score']:.0%})" for one in found[:MOST_NAMED])
    return Answer(text or "nothing found", {"objects": found})


def _read_embedding(content: dict[str, Any]) -> Answer:
    values = np.asarray(content["embedding"], np.float64)
    length = np.linalg.norm(values)
    if not values.size or not 1 <= values.ndim <= MOST_SIDES or not np.isfinite(length):
        raise ValueError("no finite numbers")
    text = f"embedding of {' x '.join(map(str, values.shape))} values, length {length:.4g}"
    return Answer(text, {"embedding": values.tolist()})


READERS: Mapping[str, Callable[[dict[str, Any]], Answer]] = {
    "classes": _read_classes,
    "mask": _read_mask,
    "objects": _read_objects,
    "embedding": _read_embedding,
}


def _printable(label: Any) -> str:
    text = str(label)
    return text if text.isprintable() else repr(text)
