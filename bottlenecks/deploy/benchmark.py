"""Forms of the device's side beside each other: python -m bottlenecks.deploy.benchmark BUNDLE… IMAGE….

For each bundle, and each form of its head: what a device holds for all rates, milliseconds of an image, one thread, all
in turns; bytes and accuracy. Against the first: which share of the symbols differs, and of which images the answer is
the same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bottlenecks.coding.framing import Symbols
from bottlenecks.deploy.answers import ANSWERS
from bottlenecks.deploy.bundle import ENCODER, HEAD_FILES, MANIFEST, TABLES, Bundle
from bottlenecks.deploy.bundled_rate import RatePoint
from bottlenecks.deploy.client import open_image
from bottlenecks.deploy.device import Device
from bottlenecks.deploy.receiver import Receiver
from bottlenecks.errors import UsageError, check_number, printable, run

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
COLUMNS = (
    "bundle", "head", "runtime", "takes", "MB", "ms", "bytes", "stated", "here", "other symbols", "same answers"
)  # fmt: skip


@dataclass
class Form:
    """A bundle's device side that is measured.

    Attributes:
        bundle: on disk.
        runtime: what runs the head.
        lmbda: at which images are sent.
        milliseconds: of each image, from it to its bytes.
        num_bytes: of each image.
        right: whether the answer was the image's class, of images whose folder is named after one.
        other: symbols that are not the first form's, of how many; none where its encoder is another one.
        same: whether the answer was the first form's, of each image.
    """

    bundle: Bundle
    runtime: str
    lmbda: float
    milliseconds: list[float] = field(default_factory=list)
    num_bytes: list[int] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    other: list[tuple[int, int]] = field(default_factory=list)
    same: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.device, self.receiver = Device(self.bundle, 1, self.runtime), Receiver(self.bundle, 1)

    @property
    def encoder(self) -> str:
        """The digest of what turns features into symbols: symbols of two encoders have nothing in common."""
        return self.bundle.manifest.files[f"{self.bundle.rate_of(self.lmbda).folder}/{ENCODER}"]

    def send(self, image: Image.Image) -> tuple[Symbols, Any]:
        """Code an image, and answer; return its symbols and the answer."""
        start = time.perf_counter()
        features = self.device.features(image)
        symbols = tuple(one[0] for one in self.device.symbols(features, self.lmbda))
        stream = self.device.write(symbols, self.lmbda)
        self.milliseconds.append(1e3 * (time.perf_counter() - start))
        self.num_bytes.append(len(stream))
        outputs = self.receiver.infer([self.receiver.read(stream)])
        manifest = self.bundle.manifest
        return symbols, ANSWERS[manifest.task](tuple(one[0] for one in outputs), manifest.class_names)

    def row(self) -> list[str]:
        """Return what the table says."""
        manifest, point = self.bundle.manifest, measured(self.bundle, self.lmbda)
        held = [self.bundle.num_bytes(*HEAD_FILES[self.runtime])]
        held += [self.bundle.num_bytes(ENCODER, TABLES, rate=rate) for rate in self.bundle.rates]
        name, score = ("agreement", point.agreement) if point.score is None else (manifest.metric, point.score)
        others, symbols = (sum(one) for one in zip(*self.other, strict=True)) if self.other else (0, 0)
        return [
            printable(str(self.bundle.folder)),
            manifest.head,
            self.runtime,
            manifest.pixels,
            f"{sum(held) / 1e6:.2f}",
            f"{statistics.median(self.milliseconds):.2f}",
            f"{statistics.mean(self.num_bytes):.2f}",
            f"{name} {score:.1%} at {point.payload_bytes:.2f} bytes",
            f"{np.mean(self.right):.1%}" if self.right else "",
            f"{others / symbols:.2%}" if symbols else "",
            f"{np.mean(self.same):.1%}" if self.same else "",
        ]


def measured(bundle: Bundle, lmbda: float) -> RatePoint:
    """Return what the manifest says of a rate; of one between those that were measured, of the nearest."""
    rate = bundle.rate_of(lmbda)
    points = rate.curve or (RatePoint(rate.lmbda, rate.payload_bytes, rate.score, rate.agreement),)
    return min(points, key=lambda point: abs(np.log(point.lmbda / lmbda)))


def measure(forms: Sequence[Form], paths: Sequence[Path]) -> None:
    """Send images through all forms in turns; the first image once more, before, to warm up."""
    for index, path in enumerate([paths[0], *paths]):
        image, first = open_image(path), None
        for form in forms:
            symbols, answer = form.send(image)
            names = form.bundle.manifest.class_names
            if index and path.parent.name in names and "classes" in answer:
                form.right.append(answer["classes"][0]["label"] == path.parent.name)
            if first is None:
                first = symbols, answer
            elif index and form.encoder == forms[0].encoder:
                pairs = zip(symbols, first[0], strict=True)
                form.other.append((sum(int((a != b).sum()) for a, b in pairs), sum(one.size for one in symbols)))
            if index and form is not forms[0]:
                form.same.append(_decided(answer) == _decided(first[1]))
        if not index:
            for form in forms:
                form.milliseconds.clear()
                form.num_bytes.clear()


def _decided(answer: dict[str, Any]) -> Any:
    """Return what counts of an answer: the most probable class; masks, boxes and vectors as they are."""
    return answer["classes"][0]["class"] if "classes" in answer else answer


def table(forms: Sequence[Form]) -> Iterator[str]:
    """Return the lines of a table, as Markdown has it."""
    rows = [list(COLUMNS), *(form.row() for form in forms)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"


def is_image(path: Path) -> bool:
    """Return whether a file is to be an image, by its name."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def images_in(paths: Sequence[Path]) -> list[Path]:
    """Return the files named, and those of the folders named: a folder a class, each in its turn.

    Raises:
        UsageError: there is none.
    """
    found: list[Path] = []
    for path in paths:
        files = sorted(one for one in path.rglob("*") if is_image(one)) if path.is_dir() else [path]
        classes = [list(own) for _, own in groupby(files, key=lambda one: one.parent)]
        found += [one for row in zip_longest(*classes) for one in row if one is not None]
    if not found:
        raise UsageError("IMAGE: none is named; give files, or folders of images")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure bundles from the command line.

    Raises:
        UsageError: something cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m bottlenecks.deploy.benchmark", description=__doc__)
    parser.add_argument(
        "paths", metavar="BUNDLE… IMAGE…", type=Path, nargs="+", help="bundles; images, or their folders"
    )
    parser.add_argument("--lambda", dest="lmbda", type=float, help="default: the finest of the first bundle")
    parser.add_argument("--count", type=int, default=200, help="images at most; default: %(default)s")
    options = parser.parse_args(arguments)
    check_number("--count", options.count, 1, whole=True)
    bundles = [Bundle(path) for path in options.paths if (path / MANIFEST).exists()]
    if not bundles:
        raise UsageError(f"{options.paths[0]}: no bundle; make one with export.py")
    paths = images_in([path for path in options.paths if not (path / MANIFEST).exists()])[: options.count]
    lmbda = max(bundles[0].mean_bytes()) if options.lmbda is None else options.lmbda
    forms = [Form(bundle, runtime, lmbda) for bundle in bundles for runtime in bundle.runtimes]
    measure(forms, paths)
    print(f"{len(paths)} images at lambda={lmbda!r}")
    print("\n".join(table(forms)))


if __name__ == "__main__":
    run(main)
