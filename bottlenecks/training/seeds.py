"""Generators that depend on what they are for, and on nothing that happened before."""

from __future__ import annotations

import hashlib

from torch import Generator

Purpose = int | float | str | tuple[float, ...]


def generator_for(*purpose: Purpose) -> Generator:
    """Make a CPU generator seeded by its purpose, such as (seed, lambda, step).

    A unit that draws from its own generator trains the same alone, beside others and after a resume.
    """
    return Generator().manual_seed(seed_for(*purpose))


def seed_for(*purpose: Purpose) -> int:
    """Derive a seed of 63 bits."""
    digest = hashlib.sha256("/".join(map(repr, purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
