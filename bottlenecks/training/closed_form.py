"""Transforms in closed form: the Karhunen-Loève transform of features, whitened by what the tail listens to.

To second order the distortion of features is `1/2 dx^T M dx`, where `M = E[g g^T]` for the draws g of
`training.sensitivity`. Where the features are whitened by the root of M and then decorrelated, one quantiser step for
all coefficients is best at high rates; here it is 1, and `rescale` makes it finer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from bottlenecks.units.blocks import axis_transform
from bottlenecks.units.laplacian import NUM_TABLES, PARTS, width_of
from bottlenecks.units.linear import JointTransform, SeparableTransform
from bottlenecks.units.transform_part import TransformPart

FLOOR = 1e-2  # of the metric's mean diagonal, added where `loss.mse` adds nothing
RIDGE = 1e-2  # of the number of images
OVERSAMPLING = 16  # directions beside those that are wanted, in the search for them
POWER = 0.7  # of the root of a coefficient's sensitivity, that its step goes with
GAIN_PRIOR = 2.0  # symbols of 1 that were exact, which a gain begins from
MOST_MAPS = 8192  # that the joint transform's directions are found on
SENSED = 512  # images whose draws are looked at for the sensitivity of each coefficient


@dataclass(frozen=True)
class Sample:
    """Training images at one tensor of the cut.

    Attributes:
        features: (N, C, H, W).
        draws: of the score of the first S images, in percent, (D, S, C, H, W).
        identity: multiple of the identity that belongs to the metric beside them.
    """

    features: Tensor
    draws: Tensor
    identity: float

    def select(self, images: Tensor) -> Sample:
        """Return the sample of some of the images."""
        return Sample(self.features[images], self.draws[:, images[images < self.draws.shape[1]]], self.identity)

    def in_blocks(self, block: tuple[int, int]) -> Sample:
        """Return the sample in which every block of (b, d) is a map of its own."""
        return Sample(cut_into_blocks(self.features, block), cut_into_blocks(self.draws, block), self.identity)


def cut_into_blocks(maps: Tensor, block: tuple[int, int]) -> Tensor:
    """Cut maps (…, N, C, H, W) into blocks (…, N H/b W/d, C, b, d), row by row."""
    cut = maps.unflatten(-2, (-1, block[0])).unflatten(-1, (-1, block[1]))  # (…, N, C, H/b, b, W/d, d)
    return cut.movedim((-4, -2), (-5, -4)).flatten(-6, -4)


@dataclass(frozen=True)
class ChannelTransform:
    """The whitened Karhunen-Loève transform of the channels, (C, C) each way, and the channels' means (C,)."""

    analysis: Tensor
    synthesis: Tensor
    mean: Tensor


def channel_transform(sample: Sample) -> ChannelTransform:
    """Find the channel matrices from position-averaged metric and covariance.

    Constant channels have no part in them, and nothing has where the tail listens to nothing.
    """
    features, draws = sample.features, sample.draws
    channels, positions = features.shape[1], features[:, 0].numel()
    mean = features.double().mean((0, 2, 3))
    varying = (features.amax((0, 2, 3)) > features.amin((0, 2, 3))).double()
    covariance = _gram(features, mean) / positions
    metric = torch.stack([_gram(own) for own in draws]).sum(0) / draws[:, :, 0].numel()
    floor = sample.identity or FLOOR * float(metric.diagonal().mean())
    if not floor:
        return ChannelTransform(torch.zeros_like(metric), torch.zeros_like(metric), mean)
    metric = torch.outer(varying, varying) * metric + floor * torch.eye(channels, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(metric)
    root, inverse = (vectors * values.pow(power) @ vectors.T for power in (0.5, -0.5))
    _, basis = torch.linalg.eigh(root @ covariance @ root)
    basis = basis.flip(1)
    return ChannelTransform(basis.T @ root * varying, varying[:, None] * (inverse @ basis), mean)


def fit_separable(sample: Sample, channels: ChannelTransform, rank: int, block: int) -> SeparableTransform:
    """Make a separable transform with a step of 1 where the sensitivity is that of the whitened features."""
    shape = sample.features.shape[1:]
    transform = SeparableTransform(shape[0], rank, block)
    analysis, synthesis = channels.analysis[:rank], channels.synthesis[:, :rank]
    with torch.no_grad():
        transform.project.weight.copy_(analysis[:, :, None, None])
        transform.project.bias.copy_(-analysis @ channels.mean)  # type: ignore[union-attr]
        transform.expand.weight.copy_(synthesis[:, :, None, None])
        transform.expand.bias.copy_(channels.mean)  # type: ignore[union-attr]
        rows, columns = (axis_transform(side, block)[0] for side in shape[1:])
        draws = sample.draws[:, :SENSED].flatten(0, 1)
        seen = torch.einsum("nchw,ck->nkhw", draws, synthesis.float())
        energy = (rows @ seen @ columns.mT).square().mean(0).double()
        energy += sample.identity * synthesis.square().sum(0)[:, None, None]
        sensitivity = transform.pool(energy, (shape[1], shape[2]))
        floor = FLOOR * sensitivity.mean()
        logarithm = -POWER / 2 * sensitivity.clamp_min(floor if floor > 0 else 1.0).log()
        transform.log_step.copy_(logarithm)
        transform.log_size.copy_(logarithm)
    return transform


@dataclass(frozen=True)
class Projections:
    """The joint transform's directions: the projections' principal components.

    Attributes:
        encoder: (n, C, H, W), by falling energy.
        mean: (C, H, W).
    """

    encoder: Tensor
    mean: Tensor


def joint_projections(sample: Sample, most: int, rank: int) -> Projections:
    """Find the directions that whole maps, or blocks of them, are projected on.

    With A the draws as columns, over the root of their number (M = A A^T), the whitened Karhunen-Loève transform is the
    PCA of the projections A^T x. Where `loss.mse` dominates, it is that of the features themselves, with M's multiple
    of the identity.

    Args:
        sample: of the training images, or of their blocks.
        most: draws that are used.
        rank: directions that are wanted at the most.
    """
    features = sample.features[:: math.ceil(len(sample.features) / MOST_MAPS)].flatten(1)
    mean = features.mean(0)
    centred = features - mean
    count = min(most, sample.draws[:, :, 0, 0, 0].numel())
    draws = sample.draws.transpose(0, 1).flatten(0, 1)[:count].flatten(1) / count**0.5
    energy = float(draws.double().square().sum()) / draws.shape[1]
    outweighed = sample.identity > energy
    seen = centred[:most] if outweighed else centred @ draws.T
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vectors = torch.svd_lowrank(seen, q=min(rank + OVERSAMPLING, *seen.shape), niter=4)[2][:, :rank]
    encoder = sample.identity**0.5 * vectors.T if outweighed else vectors.T @ draws
    return Projections(encoder.view(-1, *sample.features.shape[1:]), mean.view(sample.features.shape[1:]))


def fit_joint(projections: Projections, rank: int) -> JointTransform:
    """Make a joint transform of the first directions; its way back is for `fit_decoder`."""
    channels, height, width = projections.mean.shape
    encoder = projections.encoder[:rank]
    transform = JointTransform(channels, len(encoder), (height, width))
    with torch.no_grad():
        transform.project.weight.copy_(encoder)
        transform.project.bias.copy_(-(encoder.flatten(1) @ projections.mean.flatten()))  # type: ignore[union-attr]
        transform.expand.weight.zero_()
        transform.mean.copy_(projections.mean)
    return transform


@torch.no_grad()
def fit_scales(part: TransformPart, y: Tensor) -> None:
    """Give each coefficient the table that codes its symbols in y (N, K, h, w), training images', in the fewest bits.

    A Laplacian's code length depends on the share of zeros and on the mean magnitude alone. Where all are zero nothing
    will be coded.
    """
    magnitude = part.round(y).abs_()
    zeros = part.transform.pool((magnitude == 0).float().mean(0), part.own_size)
    excess = part.transform.pool((magnitude - 0.5).clamp_min_(0).mean(0), part.own_size)
    none, one, width = table_costs()
    nats = zeros[..., None] * none + (1 - zeros[..., None]) * one + excess[..., None] / width
    scales = PARTS * (nats.argmin(-1) + 1.5)
    part.scales.copy_(torch.where(zeros > 1 - 1e-7, PARTS / 2, scales))


@lru_cache(maxsize=1)
def table_costs() -> tuple[Tensor, Tensor, Tensor]:
    """Return the nats of 0 and of half a step under each table's Laplacian, and its width, which further ones go by."""
    width = width_of(PARTS * (torch.arange(NUM_TABLES) + 1.5))
    return -(-torch.expm1(-0.5 / width)).log(), -(-0.5 * torch.expm1(-1 / width)).log(), width


@torch.no_grad()
def fit_decoder(part: TransformPart, features: Tensor, y: Tensor) -> None:
    """Fit the way back from the symbols of y (N, K, h, w) to features (N, C, H, W).

    A joint transform's is the ridge regression of the features on the symbols; a separable one's steps get a gain for
    each coefficient, the least squares one, drawn towards 1 where few symbols speak for it.
    """
    transform, symbols = part.transform, part.round(y) * part.indices(part.own_size).gt(0)
    if isinstance(transform, JointTransform):
        fit_ridge(transform, features, [symbols])
        return
    assert isinstance(transform, SeparableTransform)
    size = part.own_size
    total = len(y) * transform.pool(symbols.square().mean(0), size)
    found = len(y) * transform.pool((symbols * y).mean(0), size)
    gain = ((found + GAIN_PRIOR) / (total + GAIN_PRIOR)).clamp(0.5, 1.5)
    transform.log_size.copy_(transform.log_step + gain.log())


def fit_ridge(transform: JointTransform, features: Tensor, latents: Sequence[Tensor], ridge: float = RIDGE) -> None:
    """Make the way back the ridge regression of features (N, C, H, W) on several latents (N, K, h, w) alike."""
    wanted = cut_into_blocks(features, transform.block).flatten(1)  # (N h w, C b d)
    stacked = torch.stack([latent.permute(0, 2, 3, 1).flatten(0, 2) for latent in latents])
    means = stacked.mean((0, 1)), wanted.mean(0)
    rows = stacked - means[0]
    every = rows.flatten(0, 1).double()
    gram = every.T @ every + ridge * len(every) * torch.eye(every.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, (rows.sum(0).T @ wanted).double()).float()
    transform.expand.weight.copy_(weights.view(transform.expand.weight.shape))
    transform.mean.copy_((means[1] - means[0] @ weights).view(transform.mean.shape))


def _gram(features: Tensor, mean: Tensor | None = None) -> Tensor:
    """Sum the outer products of the channels, about a mean (C,), over images and positions, (C, C) float64."""
    total = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
    for part in features.split(64):
        rows = part.transpose(0, 1).flatten(1) - (0 if mean is None else mean[:, None].float())
        total += (rows @ rows.T).double()
    return total
