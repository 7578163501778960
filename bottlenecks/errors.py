"""The error that a user can mend."""

import difflib
from collections.abc import Sequence


class UsageError(ValueError):
    """Something the user gave cannot be used.

    The message is one line that names the argument, its value, what was expected and the way out; entry points
    print it without a traceback.
    """


def closest(name: str, candidates: Sequence[str], most: int = 5) -> str:
    """Name the candidates that look most like `name`, or the first ones where none does."""
    return ", ".join(difflib.get_close_matches(name, candidates, n=most, cutoff=0.4) or list(candidates)[:most])
