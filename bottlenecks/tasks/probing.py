"""Random linear forms of logits whose gradients have the curvature of a divergence as their second moment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def random_signs(like: Tensor, generators: Sequence[Generator]) -> Tensor:
    """Draw -1 or 1, each as likely, for every element of a tensor.

    Args:
        like: gives shape (N, …), type and device.
        generators: on the CPU, one for each image, so that an image's signs depend on nothing else.
    """
    drawn = [torch.randint(0, 2, like.shape[1:], generator=one, dtype=torch.int8) for one in generators]
    return 2 * torch.stack(drawn).to(like.device, like.dtype) - 1


def probe_softmax(logits: Tensor, generators: Sequence[Generator]) -> Tensor:
    """Probe the classes of each place, with probabilities p, by `sum_c sqrt(p_c) s_c log p_c` of random signs s.

    The expected outer product of its gradient g is the Fisher matrix, `sum_c p_c (d log p_c)(d log p_c)^T`. So it is
    of `d log p_y` with y drawn from p, but there nearly all draws of a confident network tell nothing.

    Args:
        logits: (N, classes, …).
        generators: one for each image.

    Returns:
        One number for each place, (N, …), to be multiplied by the root of the place's weight.
    """
    shares = logits.detach().softmax(1)
    mixed = shares.sqrt() * random_signs(logits, generators)
    return ((mixed - shares * mixed.sum(1, keepdim=True)) * logits).sum(1)


def probe_sigmoid(logits: Tensor, generators: Sequence[Generator]) -> Tensor:
    """Probe independent classes; the same as `probe_softmax` of each against its absence.

    Args:
        logits: (N, classes, …).
        generators: one for each image.

    Returns:
        One number for each place, (N, …), to be multiplied by the root of the place's weight.
    """
    held = logits.detach()
    spread = (held.sigmoid() * (-held).sigmoid()).sqrt()
    return (spread * random_signs(logits, generators) * logits).sum(1)
