"""What every bottleneck unit is: features to symbols to bytes, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn

from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.coding.coder import Coder, Int32Array, SymbolTables
from bottlenecks.coding.framing import Decoded, Framing, FramingBase, Size
from bottlenecks.coding.rate_range import RateRange
from bottlenecks.errors import UsageError
from bottlenecks.splitting.features import Features

MAX_SCALE = 16  # a receiver takes features of at most this many times the height and width it was made for


class UnitOutput(NamedTuple):
    """What a unit makes of features.

    Attributes:
        features_hat: reconstruction, (N, C, H, W), or one such a tensor that crosses.
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
    """What sits at a cut, as training, evaluation and files see it: a unit, or several that work as one.

    Features are one tensor (N, C, H, W), whose size is (H, W); or a tuple of several, with a tuple of sizes.

    Attributes:
        feature_shape: (C, H, W) of the features at the cut, or one such a tensor.
        range: of a unit of any rate; None for a unit of one rate.
    """

    feature_shape: tuple[Any, ...]
    range: RateRange | None = None

    @property
    @abstractmethod
    def parts(self) -> Sequence[Any]:
        """The units, one for each tensor that crosses."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return what builds it again, JSON-able."""

    @abstractmethod
    def encode(self, features: Any) -> Features:
        """Turn features into a latent."""

    @abstractmethod
    def quantise(self, y: Any, generator: Generator | None = None) -> tuple[Features, Tensor]:
        """Turn a latent into `y_hat` (noisy in training mode, rounded in eval mode) and bits (N,)."""

    @abstractmethod
    def decode(self, y_hat: Any, size: Any) -> Features:
        """Turn `y_hat` into features of this size."""

    @abstractmethod
    def size_of(self, features: Any) -> Any:
        """Return the size of features."""

    @abstractmethod
    def start_from(self, features: Any) -> None:
        """Begin from a sample of the features instead of from noise, where the unit knows how."""

    @abstractmethod
    def bits_per_channel(self, features: Any) -> Tensor:
        """Estimate the bits that an image takes in each latent channel, (K,), the mean over the images."""

    def parameter_groups(self, plan: LearningRates) -> list[ParameterGroup]:
        """Divide what is trained into groups of one learning rate, at its peak; entropy models have their own."""
        named = [(name, value) for name, value in self.named_parameters() if value.requires_grad]
        entropy = [value for name, value in named if "entropy." in name]
        others = [value for name, value in named if "entropy." not in name]
        return [ParameterGroup(others, plan.network), ParameterGroup(entropy, plan.entropy)]

    @property
    def num_tables(self) -> int:
        """How many `tables` there are: one for each tensor."""
        return len(self.parts)

    def stored_state(self) -> dict[str, Tensor]:
        """Return the state that a file holds."""
        return self.state_dict()

    @abstractmethod
    def refresh(self) -> None:
        """Bring what is derived from the parameters up to date; called before anything is evaluated."""

    @abstractmethod
    def finalise(self, tables: Sequence[SymbolTables] | None = None) -> None:
        """Make it ready for bytes, in eval mode, with given tables, one a tensor, or those of its entropy model.

        Raises:
            ValueError: the tables do not fit the latent.
        """

    @property
    @abstractmethod
    def framing(self) -> FramingBase[Any]:
        """What turns symbols into bytes and back.

        Raises:
            RuntimeError: there are no tables yet.
        """

    @property
    @abstractmethod
    def tables(self) -> tuple[SymbolTables, ...]:
        """The tables that it codes with, one a tensor.

        Raises:
            RuntimeError: there are none yet.
        """

    @abstractmethod
    def symbols(self, features: Any) -> Any:
        """Quantise features to the symbols that are coded, image by image.

        Raises:
            ValueError: the latent is not finite, or beyond what 32 bits hold.
        """

    @abstractmethod
    def restore(self, symbols: Sequence[Any], size: Any) -> Features:
        """Turn the symbols of some images back into features of this size."""

    def forward(self, features: Features, generator: Generator | None = None, multiplier: Any = 0) -> UnitOutput:
        """Pass features through the bottleneck.

        Args:
            features: what the head gives.
            generator: source of the quantisation noise in training mode, on the CPU.
            multiplier: of the steps of a unit of any rate, for all images or one (N,) for each.

        Returns:
            Reconstruction and estimated bits.
        """
        self._refuse(multiplier)
        y_hat, rate_bits = self.quantise(self.encode(features), generator)
        return UnitOutput(self.decode(y_hat, self.size_of(features)), rate_bits)

    def compress(self, features: Features, multiplier: int = 0) -> list[bytes]:
        """Code features into one byte string an image, header included.

        Maps of another height and width than the unit was made for are coded too; their size then travels along.

        Args:
            features: what the head gives.
            multiplier: of the steps of a unit of any rate.

        Raises:
            ValueError: the maps have more positions than a receiver takes, or cannot be coded.
        """
        self._refuse(multiplier)
        size = self.size_of(features)
        self.framing.check_size(size)
        return [self.framing.write(one, size) for one in self.symbols(features)]

    def decompress(self, streams: Sequence[bytes]) -> Features:
        """Decode byte strings of features of one size.

        Raises:
            BitstreamError: a stream is damaged, of another unit, or claims more than the limits allow.
        """
        decoded = [self.framing.read(stream) for stream in streams]
        sizes = {one.size for one in decoded}
        if len(sizes) != 1:
            raise BitstreamError(f"one batch must have one size; these have {sorted(sizes)}")
        return self.restore_frames(decoded)

    def restore_frames(self, frames: Sequence[Decoded]) -> Features:
        """Turn what some frames of one size held back into features."""
        return self.restore([one.symbols for one in frames], frames[0].size)

    def estimated_bits(self, features: Features, multiplier: int = 0) -> Tensor:
        """Estimate the bits of each image (N,), without header."""
        self._refuse(multiplier)
        return self.quantise(self.encode(features))[1]

    @staticmethod
    def _refuse(multiplier: Any) -> None:
        if not isinstance(multiplier, int) or multiplier:
            raise ValueError(f"multiplier must be 0 for a unit of one rate, got {multiplier}")


class BottleneckUnit(Bottleneck):
    """A small encoder/decoder for one tensor at the cut.

        features -> encode -> y -> quantise -> symbols -> coder -> bytes
        features_hat <- decode <- y_hat <- symbols <- coder <- bytes

    An architecture gives `encode`, `quantise` and `decode`, the grid's origin and the tables; bytes are made here.

    Args:
        feature_shape: (C, H, W) of the features at the cut.
    """

    def __init__(self, feature_shape: Sequence[int]) -> None:
        super().__init__()
        if len(feature_shape) != 3:
            raise UsageError(
                f"split: the features there have shape {tuple(feature_shape)}; units take (C, H, W) maps so far"
            )
        self.feature_shape = tuple(int(size) for size in feature_shape)
        self._framing: Framing | None = None
        self._grid: np.ndarray | None = None  # the medians of a finished unit

    @abstractmethod
    def encode(self, features: Tensor) -> Tensor:
        """Turn features (N, C, H, W) into a latent (N, K, h, w)."""

    @abstractmethod
    def quantise(self, y: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Turn a latent into `y_hat` (noisy in training mode, rounded in eval mode) and bits (N,)."""

    @abstractmethod
    def decode(self, y_hat: Tensor, size: Size) -> Tensor:
        """Turn `y_hat` into features (N, C, H, W), where `size` is (H, W)."""

    @abstractmethod
    def latent_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Return the latent's (h, w) for features of (H, W)."""

    def start_from(self, features: Tensor) -> None:
        """Begin from a sample of the features (N, C, H, W) instead of from noise, where the unit knows how."""

    @property
    def parts(self) -> tuple[BottleneckUnit]:
        """This unit alone."""
        return (self,)

    @property
    @abstractmethod
    def medians(self) -> Tensor:
        """Origin of the quantiser's grid, (K, 1, 1)."""

    @abstractmethod
    def build_tables(self) -> SymbolTables:
        """Derive the integer tables from the trained entropy model."""

    def size_of(self, features: Tensor) -> Size:
        """Return (H, W)."""
        height, width = features.shape[-2:]
        return height, width

    @property
    def framing(self) -> Framing:
        """What turns this unit's symbols into bytes and back.

        Raises:
            RuntimeError: the unit has no tables yet.
        """
        if self._framing is None:
            raise RuntimeError("the unit has no tables yet; call finalise() after training, or load a checkpoint")
        return self._framing

    @property
    def coder(self) -> Coder:
        """The coder over this unit's tables."""
        return self.framing.coder

    @property
    def tables(self) -> tuple[SymbolTables]:
        """The tables, alone in a tuple."""
        return (self.coder.tables,)

    def finalise(self, tables: Sequence[SymbolTables] | None = None) -> None:
        """Make the unit ready for bytes, in eval mode, with the given tables or with those of its entropy model.

        Raises:
            ValueError: the tables have another number of channels than the latent.
        """
        (own,) = [self.build_tables()] if tables is None else tables
        if own.num_channels != len(self.medians):
            raise ValueError(f"tables of {own.num_channels} channels, the latent has {len(self.medians)}")
        height, width = self.feature_shape[1:]
        self._framing = Framing(Coder(own), (height, width), self.latent_size, MAX_SCALE)
        self._grid = self.medians.cpu().numpy().copy()
        self.eval()

    def steps(self, features: Tensor) -> Tensor:
        """Place features (N, C, H, W) on the quantiser's grid: whole numbers (N, K, h, w), still floating-point."""
        medians = self.medians
        return (self.encode(features).to(medians) - medians).round()

    def symbols(self, features: Tensor) -> Int32Array:
        """Quantise features (N, C, H, W) to the symbols that are coded, (N, K, h, w).

        Raises:
            ValueError: the latent is not finite, or beyond what 32 bits hold.
        """
        with torch.no_grad():
            y = self.encode(features)
        y = y if y.dtype == torch.float64 else y.float()
        grid = self.medians.cpu().numpy() if self._grid is None else self._grid
        steps = y.cpu().numpy() - grid  # numpy: a call of torch costs as much as all of a small latent
        np.rint(steps, out=steps)
        certain = np.vdot(steps, steps) < 2.0**62  # one pass says that every square is below it
        if not certain and not (-(2**31) <= steps.min() and steps.max() < 2**31):
            raise ValueError("the latent has elements that are not finite or too large to code; are the weights sound?")
        return steps.astype(np.int32)

    @torch.no_grad()
    def reconstruct(self, symbols: Tensor, size: Size) -> Tensor:
        """Turn symbols (N, K, h, w) back into features (N, C, H, W), where `size` is (H, W)."""
        medians = self.medians
        return self.decode(symbols.to(medians) + medians, size)

    def restore(self, symbols: Sequence[Int32Array], size: Size) -> Tensor:
        """Turn the latents (K, h, w) of some images back into features (N, C, H, W), where `size` is (H, W)."""
        assert self._grid is not None, "a unit with a framing has a grid"
        y_hat = np.stack(symbols).astype(self._grid.dtype)
        y_hat += self._grid
        with torch.no_grad():
            return self.decode(torch.from_numpy(y_hat).to(next(self.parameters()).device), size)
