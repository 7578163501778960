"""Pictures to bytes to labels, without a server: python -m bottlenecks.run FOLDER --lambda 0.01 PICTURE…."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from rich.table import Table

from bottlenecks.bitstream import BitstreamError
from bottlenecks.cli import run
from bottlenecks.errors import UsageError
from bottlenecks.network import BottleneckNetwork
from bottlenecks.terminal import show
from bottlenecks.weights import write_atomically

SUFFIX = ".bneck"


def read_stream(network: BottleneckNetwork, path: Path) -> bytes:
    """Turn a picture into bytes, or read the bytes that `--out` kept earlier.

    Raises:
        UsageError: there is no such file, or it is no picture.
    """
    try:
        if path.suffix == SUFFIX:
            return path.read_bytes()
        with Image.open(path) as picture:
            image = network.preprocessing.transform()(picture)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path}: not a readable picture ({error})") from None
    return network.encode(image[None])[0]


def label(network: BottleneckNetwork, stream: bytes, path: Path) -> tuple[str, float]:
    """Decode bytes and classify what comes out: the most probable class and its probability."""
    try:
        probabilities = network.decode([stream])[0].softmax(0)
    except BitstreamError as error:
        raise UsageError(f"{path}: {error}") from None
    index = int(probabilities.argmax())
    names = network.class_names
    return names[index] if index < len(names) else str(index), float(probabilities[index])


def classify(network: BottleneckNetwork, paths: Sequence[Path], out: Path | None) -> Table:
    """Send each picture through the bottleneck, keeping its bytes where `out` names a folder."""
    stems = [path.stem for path in paths if path.suffix != SUFFIX]
    if out is not None and len(set(stems)) < len(stems):
        raise UsageError(f"--out={out}: some pictures have the same name and would overwrite each other; rename them")
    table = Table()
    for name, justify in (("picture", "left"), ("lambda", "right"), ("bytes", "right"), ("label", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("probability", justify="right")
    for path in paths:
        stream = read_stream(network, path)
        name, probability = label(network, stream, path)
        lmbda = network.rate_of(stream).info.lmbda
        table.add_row(str(path), repr(lmbda), str(len(stream)), name, f"{probability:.1%}")
        if out is not None and path.suffix != SUFFIX:
            write_atomically(out / f"{path.stem}{SUFFIX}", stream)
    return table


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bottlenecks.run", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the rates, such as checkpoints/resnet50/layer3/digits")
    parser.add_argument("pictures", type=Path, nargs="+", help=f"pictures, or {SUFFIX} files that --out kept")
    parser.add_argument("--lambda", dest="lmbda", type=float, help="rate to code at; the finest where not given")
    parser.add_argument("--out", type=Path, help="folder that keeps each picture's bytes")
    parser.add_argument("--weights", type=Path, help="of the backbone, where they have moved since training")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    options = parse(arguments)
    network = BottleneckNetwork.load(options.folder, options.weights)
    if options.lmbda is not None:
        network.lmbda = options.lmbda
    show(classify(network, options.pictures, options.out))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    run(main)
