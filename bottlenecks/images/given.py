"""Of images that a program hands over as tensors: nothing says how they were made of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing


class NoPreprocessing:
    """Of images that come as tensors: nothing says how they are made of files."""

    def to_dict(self) -> dict[str, Any]:
        """Return nothing, as files keep it."""
        return {}

    def __getattr__(self, name: str) -> Any:
        """Refuse whatever a `Preprocessing` has.

        Raises:
            UsageError: always; the message names the way out.
        """
        if name.startswith("__"):
            raise AttributeError(name)
        raise UsageError(
            "preprocessing: nothing says how image files become the network's input; give "
            "bottlenecks.cut(…, preprocessing=bottlenecks.Preprocessing(mean=…, std=…))"
        )


def read_preprocessing(values: Mapping[str, Any]) -> Any:
    """Return the `Preprocessing` that a file kept, or `NoPreprocessing` where it kept none."""
    return Preprocessing.from_dict(values) if values else NoPreprocessing()
