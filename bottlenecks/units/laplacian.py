"""The entropy model of the transform unit: one scale a coefficient, and one family of tables for all."""

from __future__ import annotations

import math
import warnings
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from bottlenecks.coding.coder import SymbolTables
from bottlenecks.coding.scale_tables import ScaleTables

with warnings.catch_warnings():
    # compressai imports torch_geometric, which scripts functions as it is imported
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
    from compressai.entropy_models import GaussianConditional

NUM_TABLES = 64
NARROWEST, WIDEST = 0.054, 64.0  # Laplace widths of the first and the last table, in quantiser steps
TAIL = 2.0**-10  # probability from which the escape takes over
PARTS = 8  # scales count in so many parts of a table's step
RATIO = (WIDEST / NARROWEST) ** (1 / (NUM_TABLES - 1))  # of the widths of neighbouring tables
LARGEST = PARTS * (NUM_TABLES + 1) - 1  # scale from which the last table is taken for good


class LaplacianConditional(GaussianConditional):
    """CompressAI's conditional model with a Laplacian in the Gaussian's place.

    Departs from it: a scale is a Laplace *width* (the mean magnitude, in quantiser steps), and tables end where the
    escape takes over. Table i is for the scales (in eighths of a table's step) from 8 i to 8 i + 7.
    """

    def __init__(self) -> None:
        super().__init__(None, scale_bound=NARROWEST / RATIO, tail_mass=TAIL)

    def _standardized_cumulative(self, inputs: Tensor) -> Tensor:
        return torch.where(inputs < 0, 0.5 * inputs.clamp(max=0).exp(), 1 - 0.5 * (-inputs).clamp(max=0).exp())

    @staticmethod
    def _standardized_quantile(quantile: float) -> float:
        return math.log(2 * quantile)


def laplacian_bits(y: Tensor, scales: Tensor) -> Tensor:
    """Return the information in a step's width around each element, with a gradient for both.

    The likelihood of `LaplacianConditional`, taken in logarithms, so that it is finite and has a gradient however
    unlikely an element is.

    Args:
        y: elements in quantiser steps, of any shape.
        scales: in eighths of a table's step, of the same shape.
    """
    width = width_of(scales)
    distance, half = y.abs() / width, 0.5 / width
    inside = 1 - (-half).exp() * torch.cosh(torch.minimum(distance, half))
    outside = (half - distance).clamp(max=0) + torch.log(-torch.expm1(-2 * half) / 2)
    inner = distance < half
    return -torch.where(inner, torch.where(inner, inside, 0.5).clamp_min(1e-9).log(), outside) / math.log(2)


def width_of(scales: Tensor) -> Tensor:
    """Return the Laplace width of scales in eighths; in the middle of table 1's it is `NARROWEST`."""
    return NARROWEST * torch.exp(math.log(RATIO) / PARTS * (scales - 1.5 * PARTS))


def scale_of(width: Tensor) -> Tensor:
    """Return the scale in eighths of a Laplace width, not rounded."""
    return 1.5 * PARTS + PARTS / math.log(RATIO) * torch.log(width / NARROWEST)


@lru_cache(maxsize=1)
def family() -> ScaleTables:
    """Return the tables 1 to `NUM_TABLES`."""
    model = LaplacianConditional()
    model.update_scale_table([NARROWEST * RATIO**index for index in range(NUM_TABLES)], force=True)
    cdfs, lengths, offsets = (getattr(model, name).numpy() for name in ("_quantized_cdf", "_cdf_length", "_offset"))
    rows = SymbolTables.from_cdfs(cdfs, lengths, offsets)
    return ScaleTables(_symmetric(rows))


def tables_between(first: int, last: int) -> ScaleTables:
    """Return the part of the family with these tables, both ends included."""
    whole = family().tables
    chosen = slice(first - 1, last)
    width = int(whole.lengths[chosen].max())
    return ScaleTables(
        SymbolTables(whole.frequencies[chosen, :width], whole.lengths[chosen], whole.offsets[chosen]), first
    )


@lru_cache(maxsize=1)
def code_lengths() -> tuple[Tensor, Tensor]:
    """Return the bits of each magnitude under each table, (T + 1, L + 1) float32, and the listed magnitudes, (T + 1,).

    Row 0 is for what is not coded. A row's entry behind its last listed magnitude is the escape itself, without what
    follows it; `code_bits` adds that.
    """
    tables = family().tables
    most = -tables.offsets.astype(np.int64)
    bits = torch.zeros(NUM_TABLES + 1, int(most.max()) + 2)
    for row, (counts, length, centre) in enumerate(zip(tables.frequencies, tables.lengths, most, strict=True), start=1):
        listed = torch.tensor(counts[centre:length].astype(np.float64) / counts[:length].sum())
        bits[row, : len(listed)] = -listed.log2().float()
    return bits, torch.tensor([0, *most])


def code_bits(symbols: Tensor, indices: Tensor) -> Tensor:
    """Return the bits that the tables give whole numbers, escaped values included.

    Args:
        symbols: whole numbers in floating point, of any shape.
        indices: of their tables, int64, of a shape that broadcasts against theirs; 0 takes no bits.
    """
    bits, most = (part.to(symbols.device) for part in code_lengths())
    magnitude = symbols.detach().abs().nan_to_num().clamp(max=2.0**31)
    listed = most[indices]
    beyond = (magnitude - listed).clamp_min(0)
    entry = torch.minimum(magnitude, listed + 1.0).long()
    total = bits[indices.expand_as(entry), entry]
    code = 2 * beyond - (symbols > 0).to(beyond)  # the escape code numbers 1, 3, 5, … above a row and 2, 4, 6, … below
    return total + torch.where((beyond > 0) & (indices > 0), math.log2(33) + torch.frexp(code).exponent - 1, 0.0)


def _symmetric(tables: SymbolTables) -> SymbolTables:
    """Make each row the same for a value and its negative; what rounding left over goes to zero."""
    frequencies = tables.frequencies.astype(np.int64)
    for row, length, offset in zip(frequencies, tables.lengths, tables.offsets, strict=True):
        listed = row[: length - 1]
        both = np.minimum(listed, listed[::-1])
        both[-offset] += 2**16 - row[length - 1] - both.sum()
        listed[:] = both
    return SymbolTables(frequencies, tables.lengths, tables.offsets)
