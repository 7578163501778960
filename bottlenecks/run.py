"""Images to bytes to predictions, without a server: python -m bottlenecks.run FOLDER --lambda 0.01 IMAGE…."""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from bottlenecks.bitstream import BitstreamError
from bottlenecks.cli import run
from bottlenecks.errors import UsageError, printable, reason
from bottlenecks.images import allow_megapixels, load_image
from bottlenecks.network import BottleneckNetwork
from bottlenecks.terminal import show
from bottlenecks.weights import write_atomically

SUFFIX = ".bneck"


def read_stream(network: BottleneckNetwork, path: Path, budget_bytes: int | None) -> bytes:
    """Turn a picture into bytes, within a budget where there is one, or read the bytes that `--out` kept earlier.

    Raises:
        UsageError: there is no such file, it is no picture, or does not fit at any rate.
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
        raise UsageError(f"{path}: not a readable picture ({error})") from None
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


def send(
    network: BottleneckNetwork,
    paths: Sequence[Path],
    out: Path | None,
    drawings: Path | None,
    budget_bytes: int | None = None,
) -> Table:
    """Send each picture through the bottleneck.

    Args:
        network: at its current rate.
        paths: pictures, or bytes kept earlier.
        out: folder that keeps each picture's bytes.
        drawings: folder that keeps each picture with its prediction drawn on it.
        budget_bytes: that each picture may take, at the finest rate that fits; None for the current rate.
    """
    stems = [path.stem for path in paths if path.suffix != SUFFIX]
    for option, folder in (("--out", out), ("--draw", drawings)):
        if folder is not None and len(set(stems)) < len(stems):
            raise UsageError(f"{option}={folder}: some pictures have the same name and would overwrite each other")
    table = Table()
    for name, justify in (("picture", "left"), ("lambda", "right"), ("bytes", "right"), ("prediction", "left")):
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
            seen = network.preprocessing.to_picture(network.preprocessing.transform()(load_image(path)).numpy())
            buffer = io.BytesIO()
            network.task.draw(seen, prediction, network.class_names).save(buffer, format="PNG")
            write_atomically(drawings / f"{path.stem}.png", buffer.getvalue())
    return table


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bottlenecks.run", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the rates, such as checkpoints/resnet50/layer3/digits")
    parser.add_argument("pictures", type=Path, nargs="+", help=f"pictures, or {SUFFIX} files that --out kept")
    parser.add_argument("--lambda", dest="lmbda", type=float, help="rate to code at; the finest where none is given")
    parser.add_argument("--budget-bytes", type=int, help="code each picture at the finest rate that fits into so many")
    parser.add_argument("--unit", help="whose rates, where several lie there; the default unit's where not given")
    parser.add_argument("--out", type=Path, help="folder that keeps each picture's bytes")
    parser.add_argument("--draw", type=Path, help="folder that keeps each picture with its prediction drawn on it")
    parser.add_argument("--max-megapixels", type=float, help="of the largest image that is opened, where above 179")
    parser.add_argument("--weights", type=Path, help="of the backbone, where they have moved since training")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    options = parse(arguments)
    allow_megapixels("--max-megapixels", options.max_megapixels)
    network = BottleneckNetwork.load(options.folder, options.weights, options.unit)
    if options.lmbda is not None and options.budget_bytes is not None:
        raise UsageError(f"--lambda={options.lmbda}: a fixed rate; give it, or --budget-bytes, not both")
    if options.lmbda is not None:
        network.lmbda = options.lmbda
    show(send(network, options.pictures, options.out, options.draw, options.budget_bytes))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    run(main)
