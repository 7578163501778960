"""The lower convex hull of rate and distortion, whose slopes are lambdas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class Operating(Protocol):
    """A point in the plane of rate and distortion."""

    @property
    def bpp(self) -> float:
        """Bits per pixel of the input image."""

    @property
    def distortion(self) -> float:
        """In percent."""


P = TypeVar("P", bound=Operating)


def lower_hull(points: Iterable[P]) -> list[P]:
    """Return the points that are best for some lambda, from coarse to fine.

    Args:
        points: from coarse to fine.
    """
    hull: list[P] = []
    for point in points:
        if hull and point.distortion >= hull[-1].distortion:
            continue
        while len(hull) > 1 and price(hull[-2], hull[-1]) >= price(hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def price(coarse: Operating, fine: Operating) -> float:
    """Return the lambda at which both are equally good."""
    return (fine.bpp - coarse.bpp) / (coarse.distortion - fine.distortion)
