"""Files of tokens, of which a server takes any and a device sends the first."""

from __future__ import annotations

from pathlib import Path

from bottlenecks.errors import UsageError
from bottlenecks.images.reading import check_regular

LEAST_TOKEN = 16  # characters


def read_tokens(path: Path) -> tuple[str, ...]:
    """Read tokens from a file, one a line; lines that begin with # do not count.

    Raises:
        UsageError: it cannot be read, has none, or one that is short or would not travel in a header.
    """
    try:
        check_regular(path)
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file={path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    tokens = tuple(line for line in lines if line and not line.startswith("#"))
    if not tokens:
        raise UsageError(f"--token-file={path}: no token in it; write one a line, such as `openssl rand -hex 32` gives")
    for token in tokens:
        if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
            raise UsageError(
                f"--token-file={path}: expected tokens of {LEAST_TOKEN} or more letters, digits and signs without "
                "spaces, one a line, such as `openssl rand -hex 32` gives"
            )
    return tokens
