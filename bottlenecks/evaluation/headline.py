"""What a comparison comes to, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from bottlenecks.evaluation.summary import LOSSES, Figure, Merit


def headline(merits: Sequence[Merit], anchor: str) -> str | None:
    """Say how many bytes the anchor takes within a point of the whole network, and what share of others' that is.

    Args:
        merits: of all codecs.
        anchor: label of the one that the sentence is about.

    Returns:
        The sentence; None where the anchor is never within a point, or there are no labels.
    """
    found = {merit.label: merit.bytes_at_loss[0] for merit in merits if merit.bytes_at_loss}
    own = found.pop(anchor, None)
    if own is None or own.value is None:
        return None
    others = "".join(f"; {label} {_against(own.value, figure)}" for label, figure in found.items())
    return f"{anchor} is within {100 * LOSSES[0]:g} point of the whole network for {_amount(own)} an image{others}"


def _against(own: float, other: Figure) -> str:
    if other.value is None:
        return "never gets there"
    times = other.value / own
    return f"takes {_amount(other)}, {times:,.0f} times as many" if times >= 2 else f"takes {_amount(other)}"


def _amount(figure: Figure) -> str:
    return f"{'at most ' if figure.note else ''}{figure.value:,.1f} bytes"
