"""What every optimiser here has in common."""

from __future__ import annotations

import pytorch_lightning as pl
import torch


def can_fuse(module: pl.LightningModule) -> bool:
    """Whether Adam has one kernel for all tensors of a module's device; elsewhere it goes tensor by tensor.

    Where losses are scaled, that kernel would take the scale off itself, after gradients were clipped.
    """
    return module.device.type in ("cpu", "cuda") and scaler_of(module) is None


def scaler_of(module: pl.LightningModule) -> torch.amp.GradScaler | None:
    """Return what scales a module's losses in half precision; None where it has no trainer or nothing is scaled."""
    return getattr(module._trainer and module._trainer.precision_plugin, "scaler", None)
