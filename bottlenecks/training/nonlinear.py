"""Where nonlinear encoders begin: learnt on coefficients and the tail's outputs, with a small network for the tail."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from bottlenecks.errors import UsageError
from bottlenecks.rates.places import Lmbda, middle_of
from bottlenecks.settings.target import PERCENT, Target
from bottlenecks.splitting.features import num_images
from bottlenecks.training.any_rate import FITTED, PER_OCTAVE, Measured, find_range, fit_steps, with_range
from bottlenecks.training.closed_form import fit_decoder
from bottlenecks.training.frozen import FrozenBatch
from bottlenecks.training.loss import RateDistortionLoss
from bottlenecks.training.structure import EVALUATED
from bottlenecks.units.hidden import HiddenLayer
from bottlenecks.units.laplacian import LARGEST, NUM_TABLES, PARTS, code_bits, laplacian_bits
from bottlenecks.units.settings import TransformSettings
from bottlenecks.units.transform import TransformUnit

STEPS, BATCH = 3000, 256
LATENTS = 16  # coefficients that are coded at the most
READERS = 64  # channels of the network in the tail's place
RATE, DECAY, WARMUP = 5e-3, 1e-3, 0.1  # learning rate at its peak, weight decay, share of the steps
SCALE_RATE = 0.2  # of scales, in eighths of a table step
FIRST = 3.0  # standard deviation of the first coefficient, in steps, that learning begins with

Distil = Callable[[Tensor, Tensor], Tensor]  # outputs (N, E) and the unsplit network's -> distortion (N,)


class Learnt(NamedTuple):
    """A nonlinear encoder of coefficients, as it was learnt for a lambda, or for a range of them.

    Attributes:
        layer: the encoder, of coefficients whose first one has a standard deviation of `FIRST`.
        scales: of what is coded, in eighths of a table step, (K,); 0 where nothing is.
        measured: what held-back images take, and lose by the network in the tail's place; of one lambda at multiplier 0
            alone.
    """

    layer: HiddenLayer
    scales: Tensor
    measured: list[Measured]


class Encoders(nn.Module):
    """The encoders of several rates side by side, each with scales and a reader of its own.

        y -> as `HiddenLayer` -> + noise -> reader: linear (K to 64) -> GELU -> linear (to E) -> output

    Args:
        count: L, of the rates.
        sizes: numbers of coefficients that are seen, of those that are coded, of hidden channels, and of outputs.
        generator: of the weights.
    """

    def __init__(self, count: int, sizes: tuple[int, int, int, int], generator: Generator) -> None:
        super().__init__()
        seen, coded, hidden, outputs = sizes
        shapes = {
            "straight": (coded, seen),
            "widen": (hidden, seen),
            "narrow": (coded, hidden),
            "read": (READERS, coded),
            "say": (outputs, READERS),
        }
        self.weights, self.biases = nn.ParameterDict(), nn.ParameterDict()
        for name, (fan_out, fan_in) in shapes.items():
            for own, shape in ((self.weights, (fan_in, fan_out)), (self.biases, (1, fan_out))):
                drawn = (2 * torch.rand(1, *shape, generator=generator) - 1) / math.sqrt(fan_in)
                own[name] = nn.Parameter(drawn.repeat(count, 1, 1))
        with torch.no_grad():
            self.weights["straight"].copy_(torch.eye(seen, coded))
            for zeros in (self.biases["straight"], self.weights["narrow"], self.biases["narrow"]):
                zeros.zero_()
        self.scales = nn.Parameter(torch.full((count, 1, coded), 3.0 * PARTS))

    def encode(self, y: Tensor) -> Tensor:
        """Turn coefficients (N, K), the same for all rates, into those that are coded, (L, N, coded)."""
        every = y.expand(len(self.scales), *y.shape)
        return self._linear("straight", every) + self._linear("narrow", F.gelu(self._linear("widen", every)))

    def read(self, latents: Tensor) -> Tensor:
        """Say what the network's output may be, (L, N, E)."""
        return self._linear("say", F.gelu(self._linear("read", latents)))

    def layer(self, rate: int, rank: int) -> HiddenLayer:
        """Return the encoder of a rate for so many coefficients; those that are not coded are zero."""
        layer = HiddenLayer(rank, self.weights["widen"].shape[2])
        for name in ("straight", "widen", "narrow"):
            module, weight, bias = getattr(layer, name), self.weights[name][rate].mT, self.biases[name][rate, 0]
            module.weight.zero_()[: len(weight), :, 0, 0] = weight
            module.bias.zero_()[: len(bias)] = bias
        return layer

    def _linear(self, name: str, inputs: Tensor) -> Tensor:
        return torch.baddbmm(self.biases[name], inputs, self.weights[name])


def learn_encoders(
    seen: tuple[Tensor, Tensor],
    held: tuple[Tensor, Tensor],
    distil: Distil,
    lmbdas: Sequence[Lmbda],
    num_pixels: int,
    width: int,
    seed: int,
) -> list[Learnt]:
    """Learn an encoder for each lambda, by `lambda * distortion + bpp`; for both ends of a range, at steps all over it.

    Symbols are not rounded but noisy: a small network that looks at whole numbers finds no way to fewer of them. Which
    lambda a step of a range is for is what theory says: it goes with the inverse square of the step.

    Args:
        seen: coefficients (N, K) of images or their views, and the unsplit network's outputs (N, E).
        held: the same of images that are not among them.
        distil: the distortion of outputs.
        lmbdas: of the rates, both ends of a range.
        num_pixels: of the network's input.
        width: hidden channels of the encoders.
        seed: of weights, order and noise.
    """
    generator = torch.Generator().manual_seed(seed)
    (y, teacher), count = seen, len(lmbdas)
    rank, outputs = y.shape[1], teacher.shape[1]
    encoders = Encoders(count, (rank, min(LATENTS, rank), width, outputs), generator)
    others = [parameter for name, parameter in encoders.named_parameters() if name != "scales"]
    groups = [{"params": others, "lr": RATE}, {"params": [encoders.scales], "lr": SCALE_RATE}]
    optimiser = torch.optim.AdamW(groups, weight_decay=DECAY)
    peaks = [RATE, SCALE_RATE]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peaks, STEPS, pct_start=WARMUP)
    middles, spans = torch.tensor([*map(middle_of, lmbdas)])[:, None], [*map(_span, lmbdas)]
    for _ in range(STEPS):
        rows = torch.randint(len(y), (BATCH,), generator=generator)
        shifts = torch.stack([torch.linspace(-span, span, BATCH) for span in spans])  # rows come in any order
        finer = _factor(shifts)
        exact = encoders.encode(y[rows]) * finer[..., None]
        noisy = exact + torch.rand(exact.shape[1:], generator=generator) - 0.5
        scales = (encoders.scales + shifts[..., None]).clamp(PARTS, LARGEST)
        bits = laplacian_bits(noisy, scales.expand_as(noisy)).sum(2)
        distortion = _distortion(encoders, noisy / finer[..., None], teacher[rows], distil)
        loss = (middles * finer**2 * distortion + bits / num_pixels).mean(1).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        scales, exact = encoders.scales.round().clamp(0, LARGEST), encoders.encode(held[0])
        shares = torch.linspace(-1, 1, FITTED) if max(spans) else torch.zeros(1)
        measured: list[list[Measured]] = [[] for _ in lmbdas]
        for share in shares:
            shifts = torch.tensor([[round(float(share) * span)] for span in spans])[..., None]
            whole = (scales + shifts).long()
            numbers = torch.div(whole, PARTS, rounding_mode="floor").clamp(0, NUM_TABLES)
            symbols = exact * _factor(shifts)
            symbols = symbols.sign() * (symbols.abs() + 0.5).floor() * (numbers > 0)
            lost = _distortion(encoders, symbols / _factor(shifts), held[1], distil).mean(1).tolist()
            taken = code_bits(symbols, numbers.expand_as(symbols)).sum(2).mean(1).tolist()
            for rate, own in enumerate(measured):
                own.append(Measured(float(shifts[rate]), lost[rate], taken[rate] / num_pixels))
        padded = [F.pad(own[0], (0, rank - own.shape[1])) for own in scales]
        return [Learnt(encoders.layer(rate, rank), padded[rate], measured[rate]) for rate in range(count)]


def _span(lmbda: Lmbda) -> float:
    """Return how far multipliers go to both sides for a range of lambdas; 0 for one."""
    return PER_OCTAVE / 4 * math.log2(lmbda[1] / lmbda[0]) if isinstance(lmbda, tuple) else 0.0


def _factor(shifts: Tensor) -> Tensor:
    """Return how many times finer the steps are."""
    return torch.exp2(shifts / PER_OCTAVE)


@torch.no_grad()
def with_first(unit: TransformUnit, coefficients: Tensor) -> TransformUnit:
    """Return a copy of a joint unit in whose steps the first of the coefficients (N, K, h, w) deviates by `FIRST`."""
    scaled = TransformUnit(**unit.config())
    scaled.load_state_dict(unit.state_dict())
    deviation = float(coefficients[:, 0].std())
    scaled.parts[0].transform.rescale(FIRST / deviation if deviation > 0 else 1.0)
    return scaled.eval()


@torch.no_grad()
def with_layer(
    unit: TransformUnit, learnt: Learnt, features: Tensor, ends: tuple[float, float] | None = None
) -> TransformUnit:
    """Return a joint unit with a nonlinear encoder, its way back fitted to features (N, C, H, W) of training images.

    Args:
        unit: in whose steps the encoder was learnt.
        learnt: the encoder.
        features: of training images.
        ends: of a range of lambdas that it was learnt for.
    """
    (config,) = unit.config()["parts"]
    bent = TransformUnit([{**config, "hidden": learnt.layer.width, "rounding": 0.5}]).eval()
    bent.load_state_dict(unit.state_dict(), strict=False)
    if ends is not None:
        bent = with_range(bent, find_range(learnt.measured, *ends))
    (part,) = bent.parts
    assert part.hidden is not None
    part.hidden.load_state_dict(learnt.layer.state_dict())
    y = torch.cat([part.encode(one) for one in features.split(BATCH)])
    if bent.range is None:
        part.scales.copy_(learnt.scales.view_as(part.scales))
        fit_decoder(part, features, y)
    else:
        fit_steps(bent, [features], [y], step=1.0, gains=True)
    return bent


def _distortion(encoders: Encoders, latents: Tensor, teacher: Tensor, distil: Distil) -> Tensor:
    """Return the distortion in percent of each rate and image, (L, N)."""
    outputs = encoders.read(latents)
    every = teacher.expand(len(outputs), *teacher.shape)
    return PERCENT * distil(outputs.flatten(0, 1), every.flatten(0, 1)).view(outputs.shape[:2])


def may_be_nonlinear(
    settings: TransformSettings,
    single: bool,
    loss: RateDistortionLoss,
    frozen: FrozenBatch,
    target: Target | None,
    ease: float,
) -> bool:
    """Decide whether nonlinear encoders are tried.

    Args:
        settings: of the unit.
        single: whether linear units are joint ones of one tensor's whole maps.
        loss: the distortion.
        frozen: what the frozen network made of the training images.
        target: to come to.
        ease: 1 where no restoring network will be trained.

    Raises:
        UsageError: they are wanted and cannot be had.
    """
    few_numbers = isinstance(frozen.teacher, Tensor) and frozen.teacher.dim() == 2
    possible = few_numbers and single and [*loss.weights] == ["kd"] and target is None and ease > 1
    if settings.hidden and not possible:
        raise UsageError(
            f"unit.hidden={settings.hidden}: such an encoder is learnt by loss.kd alone, of classifiers, "
            "before training with a restoring network; leave it out"
        )
    enough = bool(settings.hidden) or num_images(frozen.features) >= 2 * EVALUATED
    return possible and settings.hidden != 0 and enough
