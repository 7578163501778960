"""Send images through a bottleneck, without a server."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.errors import UsageError, printable, reason
from bottlenecks.files import SUFFIX, write_atomically
from bottlenecks.images.reading import load_image
from bottlenecks.network import BottleneckNetwork


def read_stream(network: BottleneckNetwork, path: Path, budget_bytes: int | None) -> bytes:
    """Turn an image into bytes, within a budget where there is one, or read the bytes that `--out` kept earlier.

    Raises:
        UsageError: there is no such file, it is no image, or does not fit at any rate.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    try:
        if path.suffix == SUFFIX:
            return path.read_bytes()
        image = network.preprocessing.transform()(load_image(path))
    except OSError as error:
        raise UsageError(f"{path}: {reason(error)}") from None
    except UsageError as error:
        raise UsageError(f"{path}: not a readable image ({error})") from None
    if budget_bytes is None:
        return network.encode(image[None])[0]
    try:
        return network.encode_within(image[None], budget_bytes)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def predict(network: BottleneckNetwork, stream: bytes, path: Path) -> Any:
    """Decode bytes and predict."""
    try:
        return network.task.predict(network.decode([stream]))
    except BitstreamError as error:
        raise UsageError(f"{path}: {error}") from None


@torch.no_grad()
def send(
    network: BottleneckNetwork,
    paths: Sequence[Path],
    out: Path | None,
    drawings: Path | None,
    budget_bytes: int | None = None,
) -> Table:
    """Send each image through the bottleneck.

    Args:
        network: at its current rate.
        paths: images, or bytes kept earlier.
        out: folder that keeps each image's bytes.
        drawings: folder that keeps each image with its prediction drawn on it.
        budget_bytes: that each image may take, at the finest rate that fits; None for the current rate.
    """
    table = Table()
    for name, justify in (("image", "left"), ("lambda", "right"), ("bytes", "right"), ("prediction", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for path in paths:
        stream = read_stream(network, path, budget_bytes)
        prediction = predict(network, stream, path)
        lmbda = network.rate_of(stream).lmbda
        text = network.task.describe(prediction, network.class_names)
        table.add_row(printable(str(path)), repr(lmbda), str(len(stream)), text)
        if out is not None and path.suffix != SUFFIX:
            write_atomically(out / f"{path.stem}{SUFFIX}", stream)
        if drawings is not None and path.suffix != SUFFIX:
            seen = network.preprocessing.to_image(network.preprocessing.transform()(load_image(path)).numpy())
            buffer = io.BytesIO()
            network.task.draw(seen, prediction, network.class_names).save(buffer, format="PNG")
            write_atomically(drawings / f"{path.stem}.png", buffer.getvalue())
    return table
