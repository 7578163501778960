"""A bundle: the folder that a device and a server run from, and every check on what is read from it.

    manifest.json                what the bundle is, its rates, and a SHA-256 of every other file
    head.onnx                    images (N, 3, H, W) float32, or pixels (N, H, W, 3) uint8 where the manifest says so
                                 -> features (N, C, H', W') float32
    head.xml, head.bin           the same for OpenVINO, where export.py was asked for it
    lambda=0.01/encoder.onnx     features -> symbols (N, K, h, w) int32
    lambda=0.01/tables.json      integer probability tables, see docs/bitstream.md
    lambda=0.01/decoder.onnx     symbols -> features
    lambda=0.01/unit.safetensors the rate checkpoint
    tail.onnx                    features -> what `bottlenecks.deploy.answers` makes an answer of

Where several tensors cross the cut, graphs take and give one array for each. A unit of any rate has the folder
`lambda=0.003..0.03`; its graphs take the multipliers of the steps (N,) int64 beside the images.
A device needs head, encoders and tables; a server decoders, tables and tail. The head is nearly all of what a device
holds and is the same for every rate, so it is there once: another rate costs a device its encoder alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
from PIL import Image

from bottlenecks.coding.framing import FramingBase
from bottlenecks.coding.session import RateName
from bottlenecks.deploy.bundled_rate import BundledRate
from bottlenecks.deploy.manifest import Manifest
from bottlenecks.deploy.runtimes import ONNX, OPENVINO, Graph, Loaded, load_onnx, load_openvino
from bottlenecks.deploy.tables import framing_from_json
from bottlenecks.errors import UsageError, reason
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.images.reading import check_regular
from bottlenecks.shapes import Shape

MAX_THREADS = 1024
MANIFEST, HEAD, TAIL = "manifest.json", "head.onnx", "tail.onnx"
HEAD_FILES = {ONNX: (HEAD,), OPENVINO: ("head.xml", "head.bin")}  # by what runs them: the graph, and its weights
LOADERS: dict[str, Callable[..., Loaded]] = {ONNX: load_onnx, OPENVINO: load_openvino}
ENCODER, DECODER, TABLES, UNIT = "encoder.onnx", "decoder.onnx", "tables.json", "unit.safetensors"


class BundleError(UsageError):
    """A bundle that is missing, damaged, or of another version."""


class Bundle:
    """An exported ladder on disk.

    Args:
        folder: that `export.py` wrote, such as `dist/resnet50-layer3-digits`.

    Raises:
        BundleError: it is no bundle, damaged, or of another version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / MANIFEST
        try:
            check_regular(path)
            self.manifest = Manifest.from_json(path.read_text(encoding="utf-8"))
            self.preprocessing = Preprocessing.from_dict(self.manifest.preprocessing)
            if self.preprocessing.input_shape != tuple(self.manifest.image_shape):
                raise ValueError(f"preprocessing gives {self.preprocessing.input_shape}, not image_shape")
        except FileNotFoundError:
            raise BundleError(f"{path}: no such file; make a bundle with export.py") from None
        except Exception as error:  # whatever a damaged file leads to
            raise BundleError(f"{path}: no readable manifest ({reason(error)}); export anew") from None
        self.rates = self.manifest.rates

    def input_of(self, image: Image.Image) -> npt.NDArray[Any]:
        """Turn an image into what the head takes, of one image.

        Raises:
            UsageError: the image is of a kind that cannot be prepared.
        """
        make = self.preprocessing.to_pixels if self.manifest.pixels == "uint8" else self.preprocessing.to_array
        return make(image)[None]

    def rate_of(self, lmbda: float) -> BundledRate:
        """Find what sends images at a lambda: a rate of its own, or else a unit of any rate.

        Raises:
            BundleError: there is nothing; the message lists what there is.
        """
        for rate in sorted(self.rates, key=lambda rate: rate.range is not None):
            if rate.takes(lmbda):
                return rate
        there = ", ".join(str(rate.range or rate.lmbda) for rate in self.rates)
        raise BundleError(f"lambda={lmbda!r}: no such rate in {self.folder}; there are {there}")

    def rate_names(self, lmbdas: Iterable[float]) -> tuple[RateName, ...]:
        """Return what frames at some lambdas say of their unit, each once.

        Raises:
            BundleError: images cannot be sent at one of them.
        """
        found = ((self.rate_of(lmbda), lmbda) for lmbda in lmbdas)
        names = (RateName(bytes.fromhex(rate.fingerprint), *rate.multipliers(lmbda)) for rate, lmbda in found)
        return tuple(dict.fromkeys(names))

    def mean_bytes(self) -> dict[float, float]:
        """Return the mean bytes of an image at every rate that there is, by lambda, header included."""
        return {
            lmbda: mean
            for rate in sorted(self.rates, key=lambda rate: rate.range is None)
            for lmbda, mean in rate.mean_bytes().items()
        }

    def read(self, name: str) -> bytes:
        """Read a file and check that it is the one that was exported.

        Raises:
            BundleError: it is missing or changed.
        """
        try:
            check_regular(self.folder / name)
            content = (self.folder / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{self.folder / name}: {error.strerror}; copy it again, or export anew") from None
        if hashlib.sha256(content).hexdigest() != self.manifest.files.get(name):
            raise BundleError(f"{self.folder / name}: not the file that was exported; copy it again, or export anew")
        return content

    @property
    def runtimes(self) -> list[str]:
        """What there is a head for."""
        return [runtime for runtime, names in HEAD_FILES.items() if self.manifest.files.keys() >= {*names}]

    def num_bytes(self, *names: str, rate: BundledRate | None = None) -> int:
        """Count the bytes of files, of a rate's where it is given."""
        folder = self.folder if rate is None else self.folder / rate.folder
        return sum((folder / name).stat().st_size for name in names)

    def head(self, threads: int | None = None, runtime: str = ONNX) -> Graph:
        """Load the head; threads may share it.

        Args:
            threads: that it uses; None for one a core.
            runtime: what runs it.

        Raises:
            BundleError: there is none for it; or as `graph`.
        """
        if runtime not in self.runtimes:
            raise BundleError(f"{self.folder}: has no head for {runtime}; export it anew with {runtime}=true")
        takes, gives = [self.manifest.input_shape], self.manifest.feature_shape
        return self._load(HEAD_FILES[runtime], LOADERS[runtime], takes, threads, gives)

    def graph(
        self, name: str, takes: Sequence[Shape], threads: int | None = None, gives: Sequence[Shape] | None = None
    ) -> Graph:
        """Load a graph of arrays into ONNX Runtime; threads may share it.

        Args:
            name: of the file.
            takes: shapes of one image's inputs; () of a number.
            threads: that it uses; None for one a core.
            gives: the same of one image's outputs, where it matters.

        Raises:
            BundleError: it is missing, changed, no graph, or one of other shapes.
        """
        return self._load((name,), load_onnx, takes, threads, gives)

    def _load(
        self,
        names: Sequence[str],
        load: Callable[..., Loaded],
        takes: Sequence[Shape],
        threads: int | None,
        gives: Sequence[Shape] | None,
    ) -> Graph:
        contents, path = [self.read(name) for name in names], self.folder / names[0]
        try:
            loaded = load(*contents, threads=threads)
        except UsageError:
            raise
        except Exception as error:  # those of runtimes share no base class
            raise BundleError(f"{path}: cannot be loaded ({reason(error)})") from None
        if loaded.takes != [*takes] or (gives is not None and loaded.gives != [*gives]):
            expected, found = ", ".join(map(str, takes)), loaded.takes + loaded.gives
            raise BundleError(f"{path}: is for {found}, not for {expected}; export anew")
        return loaded.run

    def framing(self, rate: BundledRate) -> FramingBase:
        """Load what turns a rate's symbols into bytes and back.

        Raises:
            BundleError: its tables are damaged.
        """
        name, fingerprint = f"{rate.folder}/{TABLES}", bytes.fromhex(rate.fingerprint)
        latents, features, text = rate.latent_shape, self.manifest.feature_shape, self.read(name)
        try:
            framing = framing_from_json(text.decode(), features, latents, fingerprint, rate.range is not None)
        except Exception as error:  # whatever a damaged file leads to
            raise BundleError(f"{self.folder / name}: no readable tables ({reason(error)}); export anew") from None
        stated = (fingerprint, latents, rate.range is not None)
        if (framing.fingerprint, framing.latent_shapes, framing.limits.ranged) != stated:
            raise BundleError(f"{self.folder / name}: not the tables of {rate.folder}; export anew")
        return framing
