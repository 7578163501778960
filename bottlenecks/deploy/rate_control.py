"""Which rate for the next image: the finest that fits a budget of bytes, or a deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from bottlenecks.errors import UsageError

MEMORY = 0.8  # what the past weighs against the last image
MOST_TRIED = 16  # rates, before an image is given up


class Coded(NamedTuple):
    """An image's bytes and the rate they are of."""

    lmbda: float
    stream: bytes


class BudgetError(UsageError):
    """No rate fits."""


class RateControl:
    """Finds the finest rate that fits, beginning where the curve and the last images say.

    The curve gives the mean bytes of each rate; how much more or less the last images took is remembered, so that of a
    few rates mostly two encoders run an image: the one that fits, and the next finer, which does not. From where it
    begins, strides double until a rate fits and a finer one does not; then the interval between them is halved.

    Args:
        mean_bytes: of each lambda, as measured.
    """

    def __init__(self, mean_bytes: Mapping[float, float]) -> None:
        self.mean_bytes = {lmbda: mean_bytes[lmbda] for lmbda in sorted(mean_bytes)}
        self.scale = 1.0  # bytes that the last images took, relative to the curve

    def code(self, encode: Callable[[float], bytes], budget_bytes: float) -> Coded:
        """Code an image at the finest rate whose actual bytes fit.

        Where neighbouring rates are so close that a finer one takes fewer bytes, it may be passed over.

        Args:
            encode: gives the image's bytes at a lambda.
            budget_bytes: header included.

        Raises:
            BudgetError: no rate fits; the message says what the smallest takes.
        """
        lmbdas, tried = list(self.mean_bytes), dict[int, Coded]()

        def fits(place: int) -> bool:
            if place not in tried:
                tried[place] = Coded(lmbdas[place], encode(lmbdas[place]))
            return len(tried[place].stream) <= budget_bytes

        means = self.mean_bytes.values()
        first = max((place for place, mean in enumerate(means) if mean * self.scale <= budget_bytes), default=0)
        place = _last_that(fits, first, len(lmbdas))
        if place is None:  # a finer rate that takes less?
            place = next(filter(fits, range(first, len(lmbdas), -(-len(lmbdas) // MOST_TRIED))), None)
        if place is None:
            smallest = min(tried.values(), key=lambda coded: (len(coded.stream), coded.lmbda))
            raise BudgetError(
                f"budget of {int(budget_bytes)} bytes: no rate fits; lambda={smallest.lmbda!r} takes the fewest bytes "
                f"for this image, {len(smallest.stream)}; give it more, or train a coarser rate"
            )
        best = tried[place]
        self.scale = MEMORY * self.scale + (1 - MEMORY) * len(best.stream) / self.mean_bytes[best.lmbda]
        return best


def _last_that(fits: Callable[[int], bool], first: int, count: int) -> int | None:
    """Find the last place that fits, where all places before it do; None where none does."""
    inside, outside = -1, count
    place, stride = first, 1
    while outside - inside > 1:
        if fits(place):
            inside = place
        else:
            outside = place
        if inside < 0:
            place = max(outside - stride, 0)
        elif outside == count:
            place = min(inside + stride, count - 1)
        else:
            place = (inside + outside) // 2
        stride *= 2
    return inside if inside >= 0 else None


class Deadline:
    """Turns a deadline into a budget of bytes, from the uplink and from what the last answers took.

    Args:
        deadline_ms: from the image to the answer.
        uplink_kbps: thousands of bits that the uplink takes in a second.
        overhead_ms: of an answer, beside its bytes' way up, until answers tell: what a request without work takes.
    """

    def __init__(self, deadline_ms: float, uplink_kbps: float, overhead_ms: float = 0.0) -> None:
        self.deadline_ms, self.uplink_kbps, self.overhead_ms = deadline_ms, uplink_kbps, overhead_ms

    def budget_bytes(self, spent_ms: float) -> float:
        """Return how many bytes can still be sent, when so much time has gone since the image.

        Where none can, what slow answers taught is forgotten bit by bit, so that one of them does not end all sending.

        Raises:
            BudgetError: none; the message says where the time goes.
        """
        left = self.deadline_ms - spent_ms - self.overhead_ms
        if left <= 0:
            message = (
                f"deadline of {self.deadline_ms:g} ms: the device took {spent_ms:.1f} ms and an answer takes "
                f"{self.overhead_ms:.1f} ms beside its bytes; allow more time"
            )
            self.overhead_ms *= MEMORY
            raise BudgetError(message)
        return left * self.uplink_kbps / 8

    def observe(self, num_bytes: int, round_trip_ms: float) -> None:
        """Learn from an answer."""
        overhead = max(0.0, round_trip_ms - self.transfer_ms(num_bytes))
        self.overhead_ms = MEMORY * self.overhead_ms + (1 - MEMORY) * overhead if self.overhead_ms else overhead

    def transfer_ms(self, num_bytes: int) -> float:
        """Return how long bytes are under way."""
        return 8 * num_bytes / self.uplink_kbps
