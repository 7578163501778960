"""State dicts of plain torchvision detectors: their names, and what their older files take for granted."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping

from torch import Tensor, nn

HEADS = "heads.model."  # everything but the backbone lies under it
WITHOUT_EPS = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")  # their COCO_V1 was trained with BatchNorm's eps 0


def own_name(name: str, expected: Container[str]) -> str:
    """Name a tensor of a torchvision detector as a `Detector` does.

    Args:
        name: as torchvision has it now, or had it before its version 0.13.
        expected: the detector's names.
    """
    return next((candidate for candidate in _candidates(name) if candidate in expected), name)


def with_eps(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Change weights that were trained without BatchNorm's eps so that they give the same with it.

    Args:
        state: tensors under the network's own names.
        network: has the eps.
    """
    changed = dict(state)
    for path, module in network.named_modules():
        if f"{path}.running_var" in changed:
            variance = changed[f"{path}.running_var"]
            changed[f"{path}.weight"] = changed[f"{path}.weight"] * ((variance + module.eps) / variance).sqrt()
    return changed


def _candidates(name: str) -> Iterator[str]:
    yield name
    yield HEADS + name
    yield re.sub(r"(backbone\.fpn\.\w+\.\d+)\.(\w+)$", r"\1.0.\2", name)
    yield HEADS + re.sub(r"(rpn\.head\.conv)\.(\w+)$", r"\1.0.0.\2", name)
    # Convolutions and activations stood in one row: the i-th convolution was number 2i.
    yield HEADS + re.sub(r"(head\.conv)\.(\d+)\.(\w+)$", lambda m: f"{m[1]}.{int(m[2]) // 2}.0.{m[3]}", name)
