"""The default unit: a linear transform, one scale a coefficient, and a restoring network on the server."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bottlenecks.coding.coder import SymbolTables
from bottlenecks.coding.escapes import BoolArray, IntArray
from bottlenecks.coding.framing import Symbols
from bottlenecks.coding.rate_range import LEAST, MOST, RateRange
from bottlenecks.coding.scale_coder import ScaleCoder
from bottlenecks.coding.scale_framing import ScaleFraming
from bottlenecks.coding.scale_tables import ScaleTables
from bottlenecks.shapes import Sizes, sizes_of
from bottlenecks.splitting.features import Features
from bottlenecks.units.base import MAX_SCALE, Bottleneck, LearningRates, ParameterGroup
from bottlenecks.units.laplacian import LARGEST, PARTS, RATIO, tables_between
from bottlenecks.units.transform_part import TransformPart

HALF = 2.0**-10, 65504.0  # magnitudes of weights that half precision holds well, together with all smaller ones
OFFSETS = ("bias", "mean")  # ends of the names of what is added, and may be large beside what varies


def fits_half(name: str, tensor: Tensor) -> bool:
    """Decide whether a tensor of a unit's state loses nothing of weight when half precision holds it."""
    most = float(tensor.abs().amax())
    return not name.endswith(OFFSETS) and (most == 0 or HALF[0] <= most <= HALF[1])


class TransformUnit(Bottleneck):
    """Transform coding in the tail's own metric, of one or several tensors.

        features -> linear transform -> y -> round -> symbols -> coder -> bytes
        features_hat <- [ReLU <-] restoring network <- linear transform <- symbols <- coder <- bytes

    The encoder is linear and cheap. `training.closed_form` begins it as the Karhunen-Loève transform of features that
    are whitened by the tail's sensitivity, so that one step for all coefficients divides the bits as the distortion
    asks for. Each coefficient has a scale, which names its table in one family (the mechanism of CompressAI's
    `GaussianConditional`, after Ballé et al., "Variational image compression with a scale hyperprior", ICLR 2018, with
    Laplacians and without a hyperprior). The restoring network runs on the server and begins as nothing.

    In training both rate and reconstruction are taken of symbols that are really rounded, with the gradient passed
    straight through: at the low rates of features uniform noise would outweigh most coefficients. A nonlinear encoder
    makes few large ones instead, and learns with noise. In eval mode bits are those of the integer tables.

    A unit of any rate has a `range`: a multiplier of its steps chooses the rate, for all images or for each. Since it
    moves all scales alike, tables come from the same family; since it moves how much of a coefficient its symbols
    hold, those of each table have a gain.

    Args:
        parts: arguments of `TransformPart`, for each tensor that crosses.
        range: of a unit of any rate, as `RateRange.to_dict` gives it; None for a unit of one rate.
    """

    _framing: ScaleFraming | None = None

    def __init__(self, parts: Sequence[Mapping[str, Any]], range: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.range = None if range is None else RateRange.from_dict(range)
        self.tensors = nn.ModuleList(TransformPart(**part, ranged=range is not None) for part in parts)

    @property
    def parts(self) -> list[TransformPart]:
        """The transforms, one for each tensor that crosses."""
        return [*self.tensors]

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, JSON-able."""
        return {"parts": [part.config() for part in self.parts], "range": self.range and self.range.to_dict()}

    def parameter_groups(self, plan: LearningRates) -> list[ParameterGroup]:
        """Let weights learn in proportion to their size, steps and scales by shares, restoring networks as usual."""
        groups = []
        for part in self.parts:
            for weight in part.transform.linear_parameters():
                size = float(weight.detach().abs().mean())
                groups.append(ParameterGroup([weight], plan.linear * (size or 1 / weight[0].numel() ** 0.5)))
            groups.append(ParameterGroup(part.transform.logarithms(), plan.linear))
            groups.append(ParameterGroup([part.scales], plan.linear * PARTS / math.log(RATIO)))
            if part.hidden is not None:
                groups.append(ParameterGroup([*part.hidden.parameters()], plan.network))
            if part.gains is not None:
                groups.append(ParameterGroup([part.gains], plan.linear))
            if part.restorer is not None:
                groups.append(ParameterGroup([*part.restorer.parameters()], plan.network, plan.weight_decay))
        return [group for group in groups if group.params]

    def stored_state(self) -> dict[str, Tensor]:
        """Return the state that a file holds: in half precision what that holds exactly."""
        halves = {name: tensor.half() for name, tensor in self.state_dict().items()}
        return {
            name: halves[name] if torch.equal(halves[name].to(tensor), tensor) else tensor
            for name, tensor in self.state_dict().items()
        }

    @torch.no_grad()
    def finalise(self, tables: Sequence[SymbolTables] | None = None) -> None:
        """Make the unit ready for bytes, in eval mode: whole scales, weights in single precision as half holds them.

        Raises:
            ValueError: the tables are not those of the scales.
        """
        least, most = (0, LARGEST) if self.range is None else (-MOST, LARGEST - LEAST)
        for part in self.parts:
            part.scales.copy_(part.scales.round().clamp(least, most))
        self.float()
        for name, tensor in self.state_dict().items():
            if fits_half(name, tensor):
                tensor.copy_(tensor.half())
        own = self._tables()
        if tables is not None:
            (given,) = tables
            own = ScaleTables(given, own.first)
            if own.last != self._tables().last:
                raise ValueError(f"tables {own.first} to {own.last}, the scales name those to {self._tables().last}")
        size, fingerprint = sizes_of(self.feature_shape), self._fingerprint(own)
        ranged = self.range is not None
        self._framing = ScaleFraming(ScaleCoder(own), size, self.scale_arrays, fingerprint, MAX_SCALE, ranged)
        self.eval()

    def _tables(self) -> ScaleTables:
        ends = (0, 0) if self.range is None else (self.range.lowest, self.range.highest)
        lowest, highest = (torch.cat([part.numbers(end).flatten() for part in self.parts]) for end in ends)
        used = highest > 0
        if not used.any():
            return tables_between(1, 1)
        return tables_between(max(1, int(lowest[used].min())), int(highest.max()))

    def _fingerprint(self, tables: ScaleTables) -> bytes:
        digest = hashlib.sha256(json.dumps(self.config(), sort_keys=True).encode() + tables.digest)
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.digest()[:2]

    def scale_arrays(self, size: Sizes) -> list[IntArray]:
        """Return the scale of each latent element for features of a size, one int16 array a tensor.

        Raises:
            ValueError: a transform cannot take that size.
        """
        maps = [part.scale_map(own) for part, own in zip(self.parts, size, strict=True)]
        return [own.detach().round().cpu().numpy().astype(np.int16) for own in maps]

    def symbols(self, features: Features, multiplier: int = 0) -> Symbols:
        """Quantise features to the symbols that are coded, (N, K, h, w) of each tensor, 0 where nothing is.

        Raises:
            ValueError: the coefficients are not finite, or beyond what 32 bits hold.
        """
        coded = self._coded(self.size_of(features), multiplier)
        return tuple(one * own for one, own in zip(super().symbols(features, multiplier), coded, strict=True))

    def _coded(self, size: Sizes, multiplier: int) -> Sequence[BoolArray]:
        """Return which elements of each latent (K, h, w) are coded."""
        if self._framing is not None:
            return self._framing.order(size, multiplier).coded
        pairs = zip(self.parts, size, strict=True)
        return [part.indices(own, multiplier).gt(0).cpu().numpy() for part, own in pairs]
