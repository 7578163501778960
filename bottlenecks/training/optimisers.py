"""What every optimiser here has in common."""

from __future__ import annotations

import torch


def can_fuse(device: torch.device) -> bool:
    """Whether Adam has one kernel for all of a device's tensors; elsewhere it goes tensor by tensor."""
    return device.type in ("cpu", "cuda")
