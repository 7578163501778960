"""What every bottleneck unit is: features to symbols to bytes, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn

from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.coding.coder import SymbolTables
from bottlenecks.coding.framing import FramingBase, Symbols
from bottlenecks.coding.rate_range import RateRange
from bottlenecks.shapes import Shapes, Sizes, flat, sizes_of
from bottlenecks.splitting.features import Features
from bottlenecks.units.part import Multiplier, Part

MAX_SCALE = 16  # a receiver takes features of at most this many times the height and width it was made for


class UnitOutput(NamedTuple):
    """What a unit makes of features.

    Attributes:
        features_hat: reconstruction, (N, C, H, W) of each tensor that crosses.
        rate_bits: estimated bits of each image, (N,).
    """

    features_hat: Features
    rate_bits: Tensor


class LearningRates(NamedTuple):
    """Learning rates at their peak.

    Attributes:
        network: of convolutions.
        entropy: of entropy models.
        linear: of a linear transform, relative to its weights' mean magnitude.
        weight_decay: of a restoring network.
    """

    network: float
    entropy: float
    linear: float
    weight_decay: float


class ParameterGroup(NamedTuple):
    """Parameters that learn at one rate.

    Attributes:
        params: the parameters.
        lr: at its peak.
        weight_decay: that is not part of the gradient.
    """

    params: list[nn.Parameter]
    lr: float
    weight_decay: float = 0.0


class Bottleneck(nn.Module, ABC):
    """What sits at a cut, as training, evaluation and files see it: a part for each tensor that crosses.

        features -> encode -> y -> quantise -> symbols -> framing -> bytes
        features_hat <- decode <- y_hat <- symbols <- framing <- bytes

    Features are a tuple of tensors (N, C, H, W), whose size is a tuple of (H, W).

    Attributes:
        range: of a unit of any rate; None for a unit of one rate.
    """

    range: RateRange | None = None
    _framing: FramingBase | None = None

    @property
    @abstractmethod
    def parts(self) -> Sequence[Part]:
        """What codes each of the tensors that cross."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return what builds it again, JSON-able."""

    @property
    def feature_shape(self) -> Shapes:
        """(C, H, W) of each tensor at the cut."""
        return tuple(part.feature_shape for part in self.parts)

    def encode(self, features: Features) -> Features:
        """Turn each tensor (N, C, H, W) into a latent (N, K, h, w)."""
        return tuple(part.encode(one) for part, one in zip(self.parts, features, strict=True))

    def quantise(
        self, y: Features, generator: Generator | None = None, multiplier: Multiplier = 0
    ) -> tuple[Features, Tensor]:
        """Turn latents into `y_hat` (noisy in training mode, rounded in eval mode) and the sum of their bits (N,)."""
        found = [part.quantise(one, generator, multiplier) for part, one in zip(self.parts, y, strict=True)]
        return tuple(y_hat for y_hat, _ in found), torch.stack([bits for _, bits in found]).sum(0)

    def decode(self, y_hat: Features, size: Sizes, multiplier: Multiplier = 0) -> Features:
        """Turn each `y_hat` into features (N, C, H, W) of this size."""
        triples = zip(self.parts, y_hat, size, strict=True)
        return tuple(part.decode(one, own, multiplier) for part, one, own in triples)

    @staticmethod
    def size_of(features: Features) -> Sizes:
        """Return (H, W) of each tensor."""
        return sizes_of([one.shape for one in features])

    def start_from(self, features: Features) -> None:
        """Begin from a sample of the features instead of from noise, where the unit knows how."""
        for part, one in zip(self.parts, features, strict=True):
            part.start_from(one)

    def bits_per_channel(self, features: Features) -> Tensor:
        """Estimate the bits that an image takes in each latent channel, (sum of K,), the mean over the images."""
        return torch.cat([part.bits_per_channel(one) for part, one in zip(self.parts, features, strict=True)])

    def parameter_groups(self, plan: LearningRates) -> list[ParameterGroup]:
        """Divide what is trained into groups of one learning rate, at its peak; entropy models have their own."""
        named = [(name, value) for name, value in self.named_parameters() if value.requires_grad]
        entropy = [value for name, value in named if "entropy." in name]
        others = [value for name, value in named if "entropy." not in name]
        return [ParameterGroup(others, plan.network), ParameterGroup(entropy, plan.entropy)]

    def stored_state(self) -> dict[str, Tensor]:
        """Return the state that a file holds."""
        return self.state_dict()

    def refresh(self) -> None:
        """Bring what is derived from the parameters up to date; called before anything is evaluated."""
        for part in self.parts:
            part.refresh()

    @abstractmethod
    def finalise(self, tables: Sequence[SymbolTables] | None = None) -> None:
        """Make it ready for bytes, in eval mode, with given tables, one a tensor, or those of its entropy model.

        Raises:
            ValueError: the tables do not fit the latent.
        """

    @property
    def framing(self) -> FramingBase:
        """What turns the symbols of all tensors into one frame and back.

        Raises:
            RuntimeError: there are no tables yet.
        """
        if self._framing is None:
            raise RuntimeError("the unit has no tables yet; call finalise() after training, or load a checkpoint")
        return self._framing

    @property
    def tables(self) -> tuple[SymbolTables, ...]:
        """The tables that it codes with: one for each tensor, or one family for all.

        Raises:
            RuntimeError: there are none yet.
        """
        return self.framing.tables

    @torch.no_grad()
    def symbols(self, features: Features, multiplier: int = 0) -> Symbols:
        """Quantise features to the symbols that are coded, (N, K, h, w) of each tensor.

        Raises:
            ValueError: the latent is not finite, or beyond what 32 bits hold.
        """
        return tuple(part.symbols(one, multiplier) for part, one in zip(self.parts, features, strict=True))

    @torch.no_grad()
    def restore(self, symbols: Symbols, size: Sizes, multipliers: Sequence[int] = (0,)) -> Features:
        """Turn symbols back into features.

        Args:
            symbols: (N, K, h, w) of each tensor.
            size: (H, W) of the features, of each tensor.
            multipliers: of each image, or one for all.
        """
        device = next(self.parameters()).device
        multiplier, triples = torch.tensor(multipliers, device=device), zip(self.parts, symbols, size, strict=True)
        return tuple(part.reconstruct(torch.from_numpy(one).to(device), own, multiplier) for part, one, own in triples)

    def forward(self, features: Features, generator: Generator | None = None, multiplier: Multiplier = 0) -> UnitOutput:
        """Pass features through the bottleneck.

        Args:
            features: what the head gives.
            generator: source of the quantisation noise in training mode, on the CPU.
            multiplier: of the steps of a unit of any rate, for all images or one (N,) for each.

        Returns:
            Reconstruction and estimated bits.
        """
        self._check(multiplier)
        y_hat, rate_bits = self.quantise(self.encode(features), generator, multiplier)
        return UnitOutput(self.decode(y_hat, self.size_of(features), multiplier), rate_bits)

    def compress(self, features: Features, multiplier: int = 0, cuttable: bool = False) -> list[bytes]:
        """Code features into one byte string an image, header included.

        Maps of another height and width than the unit was made for are coded too; their size then travels along.

        Args:
            features: what the head gives.
            multiplier: of the steps of a unit of any rate.
            cuttable: let receivers take the beginning of a byte string for all of it.

        Raises:
            ValueError: the maps have more positions than a receiver takes, or cannot be coded, or not cut.
        """
        self._check(multiplier)
        size = self.size_of(features)
        self.framing.check_size(size)
        images = zip(*self.symbols(features, multiplier), strict=True)
        return [self.framing.write(one, size, multiplier, cuttable=cuttable) for one in images]

    def decompress(self, streams: Sequence[bytes]) -> Features:
        """Decode byte strings of features of one size.

        Raises:
            BitstreamError: a stream is damaged, of another unit, or claims more than the limits allow.
        """
        frames = [self.framing.read(stream) for stream in streams]
        sizes = {frame.size for frame in frames}
        if len(sizes) != 1:
            raise BitstreamError(f"one batch must have one size; these have {sorted(map(flat, sizes))}")
        symbols = tuple(np.stack(own) for own in zip(*(frame.symbols for frame in frames), strict=True))
        return self.restore(symbols, sizes.pop(), [frame.multiplier for frame in frames])

    def estimated_bits(self, features: Features, multiplier: int = 0) -> Tensor:
        """Estimate the bits of each image (N,), without header."""
        self._check(multiplier)
        return self.quantise(self.encode(features), None, multiplier)[1]

    def _check(self, multiplier: Multiplier) -> None:
        if self.range is None and (not isinstance(multiplier, int) or multiplier):
            raise ValueError(f"multiplier must be 0 for a unit of one rate, got {multiplier}")
