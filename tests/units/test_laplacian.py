"""Laplacian likelihoods against an integral, and their integer tables against what coding really takes."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from bottlenecks.coding.coder import TOTAL
from bottlenecks.coding.scale_coder import ScaleCoder
from bottlenecks.training.seeds import generator_for
from bottlenecks.units.laplacian import (
    LARGEST,
    NARROWEST,
    NUM_TABLES,
    PARTS,
    TAIL,
    WIDEST,
    LaplacianConditional,
    code_bits,
    family,
    laplacian_bits,
    scale_of,
    tables_between,
    width_of,
)

SCALES = torch.tensor([8.0, 12.0, 100.0, 260.0, 400.0, float(LARGEST)], dtype=torch.float64)
PLACES = torch.tensor([0.0, 0.2, -0.49, 0.5, -0.51, 1.0, -3.3, 17.0, 200.0], dtype=torch.float64)


def integral(place: float, width: float) -> float:
    """Probability of a step around a place under a Laplacian of this width, by quadrature."""

    def density(value: float) -> float:
        return math.exp(-abs(value) / width) / (2 * width)

    ends = sorted({place - 0.5, place + 0.5, *([0.0] if abs(place) < 0.5 else [])})
    return sum(quad(density, one, two, epsabs=0, epsrel=1e-10)[0] for one, two in pairwise(ends))


def test_bits_are_those_of_the_integral_and_of_the_entropy_model() -> None:
    y, scales = (own.flatten() for own in torch.meshgrid(PLACES, SCALES, indexing="ij"))
    found, likelihood = laplacian_bits(y, scales), LaplacianConditional()._likelihood(y, width_of(scales))
    compared = 0
    for bits, share, place, width in zip(found, likelihood, y.tolist(), width_of(scales).tolist(), strict=True):
        oracle = integral(place, width)
        if oracle > 1e-9:
            assert float(bits) == pytest.approx(-math.log2(oracle), rel=1e-6, abs=1e-9)
            assert float(share) == pytest.approx(oracle, rel=1e-6)
            compared += 1
    assert compared > 35


def test_bits_have_the_right_gradient_for_elements_and_scales() -> None:
    y, scales = (own.flatten() + 1e-3 for own in torch.meshgrid(PLACES, SCALES[1:], indexing="ij"))
    assert torch.autograd.gradcheck(laplacian_bits, (y.requires_grad_(), scales.requires_grad_()), atol=1e-4)


def test_bits_and_gradients_are_finite_however_unlikely_an_element_is() -> None:
    y = torch.tensor([0.0, 0.5, -0.5, 1e4, -1e8], requires_grad=True)
    scales = torch.tensor([[float(PARTS)], [float(LARGEST)]]).expand(2, 5).clone().requires_grad_()
    bits = laplacian_bits(y.expand(2, 5), scales)
    bits.sum().backward()
    assert y.grad is not None and scales.grad is not None
    assert bits.isfinite().all() and (bits >= 0).all() and y.grad.isfinite().all() and scales.grad.isfinite().all()
    assert (bits[:, 4] > bits[:, 3]).all() and bits[0, 3].item() > 1e5  # no clamp: what is far off is dear
    assert y.grad[4] < 0 < y.grad[3]


def test_scales_and_widths_are_two_names_of_one_thing() -> None:
    assert torch.allclose(scale_of(width_of(SCALES)), SCALES)
    middles = width_of(PARTS * (torch.tensor([1.0, float(NUM_TABLES)]) + 0.5))
    assert middles.tolist() == pytest.approx([NARROWEST, WIDEST], rel=1e-5)


def test_tables_are_one_family_symmetric_and_wider_by_and_by() -> None:
    tables = family()
    assert (tables.first, tables.last) == (1, NUM_TABLES)
    rows = tables.tables
    zeros = []
    for counts, length, offset in zip(rows.frequencies, rows.lengths, rows.offsets, strict=True):
        assert counts[:length].sum() == TOTAL and (counts[:length] > 0).all() and not counts[length:].any()
        assert length == 2 * -offset + 2
        listed = counts[: length - 1]
        assert (listed == listed[::-1]).all() and (np.diff(listed[-offset:].astype(int)) <= 0).all()
        zeros.append(listed[-offset] / TOTAL)
    assert (np.diff(rows.lengths) >= 0).all() and (np.diff(zeros) < 0).all()
    assert len(rows.frequencies[0]) * NUM_TABLES < 60_000  # they are stored: tails are cut where the escape takes over


def test_a_table_costs_next_to_nothing_over_the_laplacian_of_the_middle_of_its_scales() -> None:
    rows = family().tables
    for row, (counts, length, offset) in enumerate(zip(rows.frequencies, rows.lengths, rows.offsets, strict=True)):
        width = float(width_of(torch.tensor(PARTS * (row + 1.5))))
        listed = [integral(float(abs(symbol)), width) for symbol in range(offset, -offset + 1)]
        escape = 1 - sum(listed)
        assert escape < 1.01 * TAIL
        shares = np.maximum([*listed, escape], 1e-12)
        bits = float(-(shares * np.log2(shares)).sum())
        more = float((shares * np.log2(shares * TOTAL / counts[:length])).sum())
        assert -1e-9 < more < 1e-4 + 0.003 * bits


def test_a_part_of_the_family_has_the_same_rows() -> None:
    whole, some = family(), tables_between(3, 40)
    assert (some.first, some.last) == (3, 40)
    for row in range(38):
        length = some.tables.lengths[row]
        assert length == whole.tables.lengths[row + 2]
        assert (some.tables.frequencies[row, :length] == whole.tables.frequencies[row + 2, :length]).all()


def drawn(count: int = 20_000) -> tuple[Tensor, Tensor]:
    """Symbols of all tables, as their Laplacians give them and some that are far too large, and their scales."""
    generator = generator_for("symbols")
    scales = torch.randint(0, LARGEST + 1, (count,), generator=generator).double()
    uniform = torch.rand(count, generator=generator, dtype=torch.float64) - 0.5
    symbols = (-uniform.sign() * torch.log1p(-2 * uniform.abs()) * width_of(scales)).round()
    wild = torch.rand(count, generator=generator) < 0.01
    symbols[wild] *= torch.randint(1, 10**6, (int(wild.sum()),), generator=generator)
    return symbols * (scales >= PARTS), scales


def test_bits_of_symbols_are_the_coders_and_come_out_as_bytes() -> None:
    symbols, scales = drawn()
    indices = (scales.long() // PARTS).clamp(0, NUM_TABLES)
    bits = code_bits(symbols.float(), indices)
    assert (bits[indices == 0] == 0).all() and (bits[indices > 0] > 0).all()
    coder = ScaleCoder(family())
    order = coder.order([scales.numpy().astype(np.int16)])
    whole = symbols.numpy().astype(np.int32)
    ideal = coder.ideal_bits([whole], order)
    assert float(bits.double().sum()) == pytest.approx(ideal, rel=1e-6)
    payload = coder.encode([whole], order)
    assert ideal / 8 <= len(payload) <= 1.001 * ideal / 8 + 3
    assert (coder.decode(payload, order)[0] == whole).all()


@pytest.mark.parametrize("number", [1, 30, NUM_TABLES])
def test_bits_of_a_single_symbol_are_the_coders_escaped_or_not(number: int) -> None:
    coder = ScaleCoder(family())
    order = coder.order([np.array([PARTS * number], dtype=np.int16)])
    most = -int(family().tables.offsets[number - 1])
    for symbol in (0, 1, -most, most, most + 1, -most - 1, most + 2, -most - 9, 10**6, -(2**24)):
        found = float(code_bits(torch.tensor([float(symbol)]), torch.tensor([number])))
        assert found == pytest.approx(coder.ideal_bits([np.array([symbol])], order), rel=1e-5)


def test_bits_of_indices_for_all_images_and_of_what_is_infinite() -> None:
    indices = torch.tensor([[[1]], [[20]]])
    symbols = torch.tensor([0.0, 3.0]).view(2, 1, 1, 1).expand(2, 2, 3, 1)
    bits = code_bits(symbols, indices)
    assert bits.shape == symbols.shape
    assert torch.equal(bits[1, 1, 0], code_bits(torch.tensor([3.0]), torch.tensor([20])))
    assert code_bits(torch.tensor([math.inf]), torch.tensor([1])) > 40
