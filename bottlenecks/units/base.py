"""What every bottleneck unit is: features to symbols to bytes, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Generator, Tensor, nn

from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.coding.coder import SymbolTables
from bottlenecks.coding.framing import Decoded, FramingBase
from bottlenecks.coding.rate_range import RateRange
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
