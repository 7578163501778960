"""The linear transforms: there and back, one step a coefficient, and sizes that are refused."""

from __future__ import annotations

import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from bottlenecks.training.seeds import generator_for
from bottlenecks.units.linear import JointTransform, LinearTransform, SeparableTransform, make_transform

CHANNELS = 5
SIZES = ((4, 4), (1, 1), (3, 9), (7, 10), (13, 2))


def separable(rank: int = CHANNELS, block: int = 4) -> SeparableTransform:
    """Random weights whose way back undoes them, where all channels are kept."""
    transform = SeparableTransform(CHANNELS, rank, block)
    matrix = torch.randn(CHANNELS, CHANNELS, generator=generator_for("matrix"))
    inverse = matrix.inverse()[:, :rank]
    mean = torch.randn(CHANNELS, generator=generator_for("mean"))
    with torch.no_grad():
        transform.project.weight.copy_(matrix[:rank, :, None, None])
        transform.project.bias.copy_(-matrix[:rank] @ mean)  # type: ignore[union-attr]
        transform.expand.weight.copy_(inverse[:, :, None, None])
        transform.expand.bias.copy_(mean)  # type: ignore[union-attr]
        steps = torch.randn(transform.coefficient_shape, generator=generator_for("steps"))
        transform.log_step.copy_(steps)
        transform.log_size.copy_(steps)
    return transform


def joint(rank: int = 60, block: tuple[int, int] = (3, 4)) -> JointTransform:
    transform = JointTransform(CHANNELS, rank, block)
    weights = torch.randn(rank, CHANNELS * block[0] * block[1], generator=generator_for("joint"))
    mean = torch.randn(CHANNELS, *block, generator=generator_for("mean"))
    with torch.no_grad():
        transform.project.weight.copy_(weights.view_as(transform.project.weight))
        transform.project.bias.copy_(-(weights @ mean.flatten()))  # type: ignore[union-attr]
        transform.expand.weight.copy_(torch.linalg.pinv(weights).T.reshape(transform.expand.weight.shape))
        transform.mean.copy_(mean)
    return transform


def features_of(size: tuple[int, int], count: int = 2) -> Tensor:
    return torch.randn(count, CHANNELS, *size, generator=generator_for("features"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("block", [1, 4, 16])
def test_what_is_not_rounded_comes_back(size: tuple[int, int], block: int) -> None:
    transform, features = separable(block=block), features_of(size)
    y = transform.encode(features)
    assert y.shape[-2:] == transform.latent_size(size) and transform.feature_size(transform.latent_size(size)) == size
    assert torch.allclose(transform.decode(y, size), features, atol=1e-4)


def test_a_joint_transform_of_all_directions_comes_back() -> None:
    transform, features = joint(), features_of((9, 8))
    y = transform.encode(features)
    assert y.shape == (2, 60, 3, 2) and transform.feature_size((3, 2)) == (9, 8)
    assert torch.allclose(transform.decode(y, (9, 8)), features, atol=1e-3)


def test_coefficients_are_channels_then_cosines_over_their_step() -> None:
    transform, features = separable(), features_of((8, 4), 1)
    mixed = torch.einsum("kc,nchw->nkhw", transform.project.weight[:, :, 0, 0], features)
    mixed = (mixed + transform.project.bias[:, None, None]).detach()  # type: ignore[index]
    found = transform.encode(features).detach()
    for top in (0, 4):
        oracle = dctn(mixed[0, :, top : top + 4].numpy(), axes=(1, 2), norm="ortho")
        expected = torch.from_numpy(oracle) / transform.log_step.detach().exp()
        assert torch.allclose(found[0, :, top : top + 4], expected, rtol=1e-4, atol=1e-4)


def test_a_joint_transform_is_a_matrix_on_each_block() -> None:
    transform, features = joint(7), features_of((6, 4), 1)
    for row in range(2):
        block = features[0, :, 3 * row : 3 * row + 3].flatten()
        expected = transform.project.weight.flatten(1) @ block + transform.project.bias
        assert torch.allclose(transform.encode(features)[0, :, row, 0], expected, atol=1e-4)


@pytest.mark.parametrize("transform", [separable(3), joint(3)], ids=["separable", "joint"])
@pytest.mark.parametrize("size", [(6, 8), (9, 4)])
def test_pooling_averages_over_the_places_where_a_value_is_spread(
    transform: LinearTransform, size: tuple[int, int]
) -> None:
    count = torch.Size(transform.coefficient_shape).numel()
    names = transform.spread(torch.arange(float(count)).view(transform.coefficient_shape), size)
    assert names.shape == (3, *transform.latent_size(size))
    latent = torch.randn(names.shape, generator=generator_for("latent"))
    pooled = transform.pool(latent, size).flatten()
    for name in range(count):
        places = latent[names == name]
        assert float(pooled[name]) == pytest.approx(float(places.mean()) if len(places) else 0.0, abs=1e-6)


@pytest.mark.parametrize("transform", [separable(), joint()], ids=["separable", "joint"])
def test_finer_steps_make_larger_coefficients_of_the_same_features(transform: LinearTransform) -> None:
    features = features_of((6, 8))
    before = transform.encode(features)
    restored = transform.decode(before, (6, 8))
    transform.rescale(4.0)
    after = transform.encode(features)
    assert torch.allclose(after, 4 * before, rtol=1e-4, atol=1e-4)
    assert torch.allclose(transform.decode(after, (6, 8)), restored, atol=1e-3)


@pytest.mark.parametrize("size", [(3, 5), (4, 4), (1, 1), (0, 4), (7, 9)])
def test_a_joint_transform_refuses_what_its_blocks_do_not_fill(size: tuple[int, int]) -> None:
    transform = joint(2)
    message = r"no whole number of this unit's blocks of \(3, 4\); .* unit.structure=separable"
    for refuse in (
        lambda: transform.latent_size(size),
        lambda: transform.spread(torch.zeros(2, 1, 1), size),
        lambda: transform.decode(torch.zeros(1, 2, 1, 1), size),
    ):
        with pytest.raises(ValueError, match=message):
            refuse()


@pytest.mark.parametrize("structure", ["separable", "joint"])
def test_every_parameter_is_a_weight_or_a_logarithm(structure: str) -> None:
    transform = make_transform(4, structure, 3, (2, 2))
    listed = [*transform.linear_parameters(), *transform.logarithms()]
    assert {id(own) for own in listed} == {id(own) for own in transform.parameters()}
    assert len(listed) == len([*transform.parameters()])
    assert len(transform.logarithms()) == (2 if structure == "separable" else 0)
