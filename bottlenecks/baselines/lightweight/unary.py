"""Indices to bytes and back: truncated unary with adaptive arithmetic coding, or one table made beforehand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from constriction import stream

from bottlenecks.baselines.lightweight.quantiser import MAX_LEVELS
from bottlenecks.coding.coder import TOTAL, seal, to_words

IntArray = npt.NDArray[np.integer[Any]]
Int32Array = npt.NDArray[np.int32]

FIRST_BLOCK, LAST_BLOCK = 16, 1024  # elements
MAX_COUNT = 2**14  # bins of a context, above which they are halved


class IndexCoder(ABC):
    """Codes indices of a quantiser with constriction's range coder; nothing changes after construction.

    Args:
        num_levels: N; indices are 0 to N - 1.

    Attributes:
        table: frequencies that both sides agree on beforehand; empty where they adapt.

    Raises:
        ValueError: N is out of range.
    """

    table: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def __init__(self, num_levels: int) -> None:
        if not 2 <= num_levels <= MAX_LEVELS:
            raise ValueError(f"num_levels must lie in 2..{MAX_LEVELS}, got {num_levels}")
        self.num_levels = num_levels

    def encode(self, indices: IntArray) -> bytes:
        """Code indices in as few bytes as still decode.

        Args:
            indices: in any integer dtype, of shape (count,).

        Returns:
            The payload; empty where the zeros that a decoder appends say it all.

        Raises:
            ValueError: the dtype, the shape or an index does not fit.
        """
        if indices.dtype.kind not in "iu" or indices.ndim != 1:
            raise ValueError(f"indices must be integers in 1-D, got {indices.dtype} in {indices.ndim}-D")
        if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < self.num_levels:
            raise ValueError(f"indices must lie in 0..{self.num_levels - 1}, got {indices.min()}..{indices.max()}")
        encoder = stream.queue.RangeEncoder()
        self._encode(encoder, indices.astype(np.int32))
        return seal(encoder)

    def decode(self, payload: bytes, count: int) -> Int32Array:
        """Decode a payload.

        Args:
            payload: what `encode` returned.
            count: how many indices.

        Returns:
            Indices of shape (count,).

        Raises:
            ValueError: no indices have this payload, as far as a range decoder can tell.
        """
        if count < 0:
            raise ValueError(f"count must be 0 or more, got {count}")
        try:
            return self._decode(stream.queue.RangeDecoder(to_words(payload)), count)
        except AssertionError as error:  # constriction's word for data that no encoder writes
            raise ValueError("the payload is not valid for these indices") from error

    @abstractmethod
    def _encode(self, encoder: stream.queue.RangeEncoder, indices: Int32Array) -> None: ...

    @abstractmethod
    def _decode(self, decoder: stream.queue.RangeDecoder, count: int) -> Int32Array: ...


class AdaptiveUnary(IndexCoder):
    """Truncated unary bins, an adaptive binary context for each position (arXiv 2105.06002).

    Index i is i ones and a zero; the zero is left out after N - 1 ones. Position k has one context: its numbers of
    zeros and ones so far, by which a one has the probability (ones + 1/2) / (zeros + ones + 1) of Krichevsky and
    Trofimov. By the chain rule, ideal adaptation costs the entropy of the indices.

    The papers' arithmetic coder, like HEVC's, adapts after every bin. Here contexts adapt after every block, so that
    the bins of a block which are in one position are coded by one call: first those of position 0 of all its elements,
    then those of position 1 of the elements above 0, and so on. Blocks grow from 16 elements to 1024 with what has
    been seen, so that small tensors lose little. Counts are integers and end in one correctly rounded division: both
    sides have the same probabilities on any machine.
    """

    def _encode(self, encoder: stream.queue.RangeEncoder, indices: Int32Array) -> None:
        contexts = _Contexts(self.num_levels - 1)
        for start, stop in _blocks(len(indices)):
            left = indices[start:stop]
            for position in range(self.num_levels - 1):
                model, above = contexts.model(position), left > position
                encoder.encode(above.astype(np.int32), model)
                num_bins, left = len(left), left[above]
                contexts.update(position, num_bins, len(left))
                if not len(left):
                    break

    def _decode(self, decoder: stream.queue.RangeDecoder, count: int) -> Int32Array:
        contexts = _Contexts(self.num_levels - 1)
        indices = np.zeros(count, dtype=np.int32)
        for start, stop in _blocks(count):
            left = np.arange(start, stop)
            for position in range(self.num_levels - 1):
                bins: Int32Array = decoder.decode(contexts.model(position), len(left))
                num_bins, left = len(left), left[bins > 0]
                contexts.update(position, num_bins, len(left))
                if not len(left):
                    break
                indices[left] = position + 1
        return indices


class StaticTable(IndexCoder):
    """One table of probabilities for all elements, made beforehand and so not sent.

    Args:
        counts: how often each index occurred in calibration data, of shape (N,).

    Raises:
        ValueError: N is out of range, or counts are no integers of 0 or more, one of them above 0.
    """

    def __init__(self, counts: IntArray) -> None:
        super().__init__(len(counts))
        if counts.dtype.kind not in "iu" or counts.ndim != 1 or counts.min() < 0 or counts.max() == 0:
            raise ValueError(f"counts must be integers of 0 or more in 1-D, one of them above 0, got {counts}")
        self.table = 1 + counts.astype(np.int64) * (TOTAL - len(counts)) // int(counts.sum())
        self.table[counts.argmax()] += TOTAL - self.table.sum()

    def _encode(self, encoder: stream.queue.RangeEncoder, indices: Int32Array) -> None:
        encoder.encode(indices, self._model())

    def _decode(self, decoder: stream.queue.RangeDecoder, count: int) -> Int32Array:
        return decoder.decode(self._model(), count)

    def _model(self) -> stream.model.Categorical:
        return stream.model.Categorical(self.table / TOTAL, perfect=False)  # per call: it can not be pickled


class _Contexts:
    """Zeros and ones so far, one context a bin position."""

    def __init__(self, num_positions: int) -> None:
        self.counts = [(0, 0)] * num_positions

    def model(self, position: int) -> stream.model.Bernoulli:
        zeros, ones = self.counts[position]
        return stream.model.Bernoulli((2 * ones + 1) / (2 * (zeros + ones) + 2), perfect=False)

    def update(self, position: int, num_bins: int, num_ones: int) -> None:
        zeros, ones = self.counts[position]
        zeros, ones = zeros + num_bins - num_ones, ones + num_ones
        while zeros + ones > MAX_COUNT:
            zeros, ones = zeros // 2, ones // 2
        self.counts[position] = zeros, ones


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    """Start and end of each block: 16, 16, 32, 64, ... elements."""
    start = 0
    while start < count:
        stop = min(count, start + min(max(start, FIRST_BLOCK), LAST_BLOCK))
        yield start, stop
        start = stop
