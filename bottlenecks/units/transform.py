"""The default unit: a linear transform, one scale a coefficient, and a restoring network on the server."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from bottlenecks.coding.coder import SymbolTables
from bottlenecks.coding.escapes import BoolArray, Int32Array, IntArray
from bottlenecks.coding.framing import Decoded, Size
from bottlenecks.coding.rate_range import LEAST, MOST, RateRange
from bottlenecks.coding.scale_coder import ScaleCoder
from bottlenecks.coding.scale_framing import ScaleFraming
from bottlenecks.coding.scale_tables import ScaleTables
from bottlenecks.splitting.features import Features, like, tensors_of
from bottlenecks.units.base import MAX_SCALE, Bottleneck, LearningRates, ParameterGroup, UnitOutput
from bottlenecks.units.laplacian import (
    LARGEST,
    PARTS,
    RATIO,
    code_bits,
    laplacian_bits,
    tables_between,
)
from bottlenecks.units.transform_part import Multiplier, TransformPart, by_image

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

    def __init__(self, parts: Sequence[Mapping[str, Any]], range: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.range = None if range is None else RateRange.from_dict(range)
        self.tensors = nn.ModuleList(TransformPart(**part, ranged=range is not None) for part in parts)
        shapes = tuple(part.feature_shape for part in self.parts)
        self.feature_shape = shapes if len(shapes) > 1 else shapes[0]
        self._framing: ScaleFraming | None = None

    @property
    def parts(self) -> list[TransformPart]:
        """The transforms, one for each tensor that crosses."""
        return [*self.tensors]

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, JSON-able."""
        return {"parts": [part.config() for part in self.parts], "range": self.range and self.range.to_dict()}

    def encode(self, features: Features) -> Features:
        """Turn each tensor (N, C, H, W) into coefficients (N, K, h, w), in quantiser steps."""
        pairs = zip(self.parts, tensors_of(features), strict=True)
        return like(features, [part.encode(one) for part, one in pairs])

    def forward(self, features: Features, generator: Generator | None = None, multiplier: Multiplier = 0) -> UnitOutput:
        """Pass features through the bottleneck, at a multiplier, or each image at its own."""
        y_hat, rate_bits = self.quantise(self.encode(features), generator, multiplier)
        return UnitOutput(self.decode(y_hat, self.size_of(features), multiplier), rate_bits)

    def quantise(
        self, y: Features, generator: Generator | None = None, multiplier: Multiplier = 0
    ) -> tuple[Features, Tensor]:
        """Turn coefficients into quantised ones and bits (N,); in training mode with a gradient for both."""
        pairs = zip(self.parts, tensors_of(y), strict=True)
        found = [self._quantise(part, one, generator, multiplier) for part, one in pairs]
        bits = torch.stack([own.flatten(1).sum(1) for _, own in found]).sum(0)
        return like(y, [y_hat for y_hat, _ in found]), bits

    def _quantise(
        self, part: TransformPart, y: Tensor, generator: Generator | None, multiplier: Multiplier = 0
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(y.device.type, enabled=False):
            y = part.finer(y.to(torch.promote_types(y.dtype, part.scales.dtype)), multiplier)
            size = part.size_of(y)
            indices = part.indices(size, multiplier)
            alive = indices > 0
            symbols = part.round(y) * alive
            if not self.training:
                return part.dequantise(symbols, size, multiplier), code_bits(symbols, indices)
            scales = (part.scale_map(size) + by_image(multiplier)).clamp(PARTS, LARGEST)
            passed = self._passed(part, y, symbols, generator) * alive
            return part.dequantise(passed, size, multiplier), laplacian_bits(passed, scales) * alive

    @staticmethod
    def _passed(part: TransformPart, y: Tensor, symbols: Tensor, generator: Generator | None) -> Tensor:
        """Return what stands for symbols in training: noise for a nonlinear encoder, which rounding would hold fast."""
        if part.hidden is None:
            return y + (symbols - y).detach()
        return y + torch.rand(y.shape, generator=generator).to(y) - 0.5

    def decode(self, y_hat: Features, size: Any, multiplier: Multiplier = 0) -> Features:
        """Turn each latent into features (N, C, H, W)."""
        triples = zip(self.parts, tensors_of(y_hat), self._sizes(size), strict=True)
        return like(y_hat, [part.decode(one, own, multiplier) for part, one, own in triples])

    def size_of(self, features: Features) -> Any:
        """Return (H, W) of the features, of each tensor where there are several."""
        sizes = tuple((one.shape[-2], one.shape[-1]) for one in tensors_of(features))
        return sizes if len(sizes) > 1 else sizes[0]

    def start_from(self, features: Features) -> None:
        """Do nothing: `training.closed_form` begins this unit, with the tail at hand."""

    def bits_per_channel(self, features: Features) -> Tensor:
        """Return the bits that an image takes in each latent channel, (sum of K,), the mean over the images."""
        latents = zip(self.parts, tensors_of(self.encode(features)), strict=True)
        return torch.cat([self._quantise(part, y, None)[1].sum((2, 3)).mean(0) for part, y in latents])

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

    @property
    def num_tables(self) -> int:
        """One: all tensors share a family."""
        return 1

    def stored_state(self) -> dict[str, Tensor]:
        """Return the state that a file holds: in half precision what that holds exactly."""
        halves = {name: tensor.half() for name, tensor in self.state_dict().items()}
        return {
            name: halves[name] if torch.equal(halves[name].to(tensor), tensor) else tensor
            for name, tensor in self.state_dict().items()
        }

    def refresh(self) -> None:
        """Do nothing: tables follow the scales."""

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
        shapes = [part.own_size for part in self.parts]
        size = tuple(shapes) if len(shapes) > 1 else shapes[0]
        ranged, fingerprint = self.range is not None, self._fingerprint(own)
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

    def scale_arrays(self, size: Any) -> list[IntArray]:
        """Return the scale of each latent element for features of a size, one int16 array a tensor.

        Raises:
            ValueError: a transform cannot take that size.
        """
        maps = [part.scale_map(own) for part, own in zip(self.parts, self._sizes(size), strict=True)]
        return [own.detach().round().cpu().numpy().astype(np.int16) for own in maps]

    @property
    def framing(self) -> ScaleFraming:
        """What turns the symbols of all tensors into one frame and back.

        Raises:
            RuntimeError: the unit has no tables yet.
        """
        if self._framing is None:
            raise RuntimeError("the unit has no tables yet; call finalise() after training, or load a checkpoint")
        return self._framing

    @property
    def tables(self) -> tuple[SymbolTables]:
        """The part of the family that the scales name, alone in a tuple."""
        return (self.framing.coder.tables.tables,)

    def compress(self, features: Features, multiplier: int = 0) -> list[bytes]:
        """Code features into one byte string an image, header included, at a multiplier of the steps."""
        size = self.size_of(features)
        self.framing.check_size(size)
        return [self.framing.write(one, size, multiplier) for one in self.symbols(features, multiplier)]

    def estimated_bits(self, features: Features, multiplier: int = 0) -> Tensor:
        """Return the bits of each image (N,) by the tables."""
        return self.quantise(self.encode(features), None, multiplier)[1]

    def symbols(self, features: Features, multiplier: int = 0) -> Any:
        """Quantise features to the symbols that are coded, image by image: (K, h, w) int32, of several tensors a tuple.

        Raises:
            ValueError: the coefficients are not finite, or beyond what 32 bits hold.
        """
        parts, coded = self.parts, self._coded(self.size_of(features), multiplier)
        with torch.no_grad():
            coefficients = tensors_of(self.encode(features))
            pairs = zip(parts, coefficients, strict=True)
            arrays = [self._whole(part, y, multiplier) * own for (part, y), own in zip(pairs, coded, strict=True)]
        return zip(*arrays, strict=True) if len(arrays) > 1 else arrays[0]

    def _coded(self, size: Any, multiplier: int) -> Sequence[BoolArray]:
        """Return which elements of each latent (K, h, w) are coded."""
        if self._framing is not None:
            return self._framing.order(size, multiplier).coded
        pairs = zip(self.parts, self._sizes(size), strict=True)
        return [part.indices(own, multiplier).gt(0).cpu().numpy() for part, own in pairs]

    @staticmethod
    def _whole(part: TransformPart, y: Tensor, multiplier: int) -> Int32Array:
        y = part.finer(y.to(torch.promote_types(y.dtype, torch.float32)), multiplier)
        coefficients = y.cpu().numpy()
        values = np.abs(coefficients)  # numpy: a call of torch costs as much as all of a small latent
        values += part.rounding
        np.copysign(np.floor(values, out=values), coefficients, out=values)
        certain = np.vdot(values, values) < 2.0**62  # one pass says that every square is below it
        if not certain and not (-(2.0**31) <= values.min() and values.max() < 2.0**31):
            raise ValueError("the latent has elements that are not finite or too large to code; are the weights sound?")
        return values.astype(np.int32)

    def restore_frames(self, frames: Sequence[Decoded]) -> Features:
        """Turn what some frames of one size held back into features; each has a multiplier of its own."""
        return self.restore([one.symbols for one in frames], frames[0].size, [one.multiplier for one in frames])

    def restore(self, symbols: Sequence[Any], size: Any, multipliers: Sequence[int] = (0,)) -> Features:
        """Turn the symbols of some images back into features of this size.

        Args:
            symbols: of each image.
            size: of the features.
            multipliers: of each image, or one for all.
        """
        latents = [symbols] if len(self.parts) == 1 else zip(*symbols, strict=True)
        multiplier = torch.tensor(multipliers, device=self.parts[0].scales.device)
        with torch.no_grad():
            found = [
                part.reconstruct(torch.from_numpy(np.stack(own)).to(part.scales.device), one, multiplier)
                for part, own, one in zip(self.parts, latents, self._sizes(size), strict=True)
            ]
        return tuple(found) if len(found) > 1 else found[0]

    def _sizes(self, size: Any) -> tuple[Size, ...]:
        return size if len(self.parts) > 1 else (size,)
