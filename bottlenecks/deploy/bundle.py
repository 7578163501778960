"""A bundle: the folder that a device and a server run from, and every check on what is read from it.

    manifest.json                what the bundle is, its rates, and a SHA-256 of every other file
    head.onnx                    pictures (N, 3, H, W) float32 -> features (N, C, H', W') float32
    lambda=0.01/encoder.onnx     features -> symbols (N, K, h, w) int32
    lambda=0.01/tables.json      integer probability tables, see docs/bitstream.md
    lambda=0.01/decoder.onnx     symbols -> features
    lambda=0.01/unit.safetensors the rate checkpoint
    tail.onnx                    features -> the network's output

A device needs head, encoders and tables; a server decoders, tables and tail. The head is nearly all of what a device
holds and is the same for every rate, so it is there once: another rate costs a device its encoder alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from bottlenecks.bitstream import VERSION
from bottlenecks.coder import Coder, SymbolTables
from bottlenecks.errors import UsageError, reason
from bottlenecks.framing import Framing, Size
from bottlenecks.preprocessing import Preprocessing

FORMAT_VERSION = 1
MANIFEST, HEAD, TAIL = "manifest.json", "head.onnx", "tail.onnx"
ENCODER, DECODER, TABLES, UNIT = "encoder.onnx", "decoder.onnx", "tables.json", "unit.safetensors"


class BundleError(UsageError):
    """A bundle that is missing, damaged, or of another version."""


@dataclass(frozen=True)
class BundledRate:
    """What a manifest says of a rate.

    Attributes:
        lmbda: the `lambda` of the loss; a larger one is finer.
        fingerprint: of its tables, hexadecimal, as frames carry it.
        latent_shape: (K, h, w).
        payload_bytes: mean on the wire per picture, header included, as `evaluate.py` measured it.
        score: the metric, 0..1, measured with it; None where nothing was labelled.
        agreement: share of pictures on which the split network decides as the unsplit one.
    """

    lmbda: float
    fingerprint: str
    latent_shape: tuple[int, ...]
    payload_bytes: float
    score: float | None
    agreement: float

    @property
    def folder(self) -> str:
        """Name the rate's folder inside the bundle."""
        return f"lambda={self.lmbda!r}"


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself; JSON-able.

    Attributes:
        model: name of the network.
        split: the split point.
        data: what the rates were trained on.
        task: what the network does.
        backbone_fingerprint: of the network's tensors.
        preprocessing: picture to input, as `Preprocessing.to_dict`.
        image_shape: (3, H, W) of the network's input.
        feature_shape: (C, H, W) at the cut.
        class_names: of the network's outputs, [] where unknown.
        metric: what `score` and `unsplit` are.
        unsplit: the unsplit network's.
        rates: from coarse to fine.
        made_with: versions of what wrote the bundle.
        files: SHA-256 of every other file, by path.
        bitstream_version: of the frames.
        format_version: of this manifest.
    """

    model: str
    split: str
    data: str
    task: str
    backbone_fingerprint: str
    preprocessing: Mapping[str, Any]
    image_shape: tuple[int, ...]
    feature_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    metric: str
    unsplit: float | None
    rates: tuple[BundledRate, ...]
    made_with: Mapping[str, str]
    files: Mapping[str, str]
    bitstream_version: int = VERSION
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Write as JSON; the same content gives the same text."""
        content = asdict(self)
        for rate in content["rates"]:
            rate["lambda"] = rate.pop("lmbda")
        return json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is something else; the message says what.
        """
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("no object")
        for name, own in (("format_version", FORMAT_VERSION), ("bitstream_version", VERSION)):
            if content.get(name) != own:
                raise ValueError(f"{name} {content.get(name)}, this program reads {own}")
        known = {field.name for field in fields(cls)}
        if set(content) != known:
            raise ValueError(f"missing or unknown keys: {', '.join(sorted(set(content) ^ known))}")
        for rate in content["rates"]:
            rate["lmbda"] = rate.pop("lambda")
            rate["latent_shape"] = _shape(rate, "latent_shape")
        if not content["rates"]:
            raise ValueError("no rates")
        content["rates"] = tuple(BundledRate(**rate) for rate in content["rates"])
        content["class_names"] = tuple(content["class_names"])
        for name in ("image_shape", "feature_shape"):
            content[name] = _shape(content, name)
        return cls(**content)


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
            self.manifest = Manifest.from_json(path.read_text(encoding="utf-8"))
            self.preprocessing = Preprocessing.from_dict(self.manifest.preprocessing)
        except FileNotFoundError:
            raise BundleError(f"{path}: no such file; make a bundle with export.py") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(f"{path}: no readable manifest ({reason(error)}); export anew") from None
        self.rates = {rate.lmbda: rate for rate in sorted(self.manifest.rates, key=lambda rate: rate.lmbda)}

    def read(self, name: str) -> bytes:
        """Read a file and check that it is the one that was exported.

        Raises:
            BundleError: it is missing or changed.
        """
        try:
            content = (self.folder / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{self.folder / name}: {error.strerror}; copy it again, or export anew") from None
        if hashlib.sha256(content).hexdigest() != self.manifest.files.get(name):
            raise BundleError(f"{self.folder / name}: not the file that was exported; copy it again, or export anew")
        return content

    def graph(self, name: str, threads: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
        """Load a graph of one input and one output; threads may share it.

        Args:
            name: of the file.
            threads: that ONNX Runtime uses; None for one a core.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        try:
            session = ort.InferenceSession(self.read(name), options, providers=ort.get_available_providers())
        except BundleError:
            raise
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise BundleError(f"{self.folder / name}: ONNX Runtime cannot load it ({reason(error)})") from None
        (argument,) = (node.name for node in session.get_inputs())
        return lambda values: session.run(None, {argument: values})[0]

    def framing(self, rate: BundledRate) -> Framing:
        """Load what turns a rate's symbols into bytes and back.

        Raises:
            BundleError: its tables are damaged.
        """
        name = f"{rate.folder}/{TABLES}"
        try:
            tables = tables_from_json(self.read(name).decode())
        except BundleError:
            raise
        except (ValueError, TypeError, KeyError) as error:
            raise BundleError(f"{self.folder / name}: no readable tables ({reason(error)}); export anew") from None
        if tables.fingerprint.hex() != rate.fingerprint or tables.num_channels != rate.latent_shape[0]:
            raise BundleError(f"{self.folder / name}: not the tables of {rate.folder}; export anew")
        height, width = self.manifest.feature_shape[1:]

        def latent_size(size: Size) -> Size:
            return rate.latent_shape[1], rate.latent_shape[2]

        return Framing(Coder(tables), (height, width), latent_size)


def tables_to_json(tables: SymbolTables) -> str:
    """Write tables as JSON: `offsets`, and `counts` of each channel without padding."""
    rows = zip(tables.frequencies, tables.lengths, strict=True)
    counts = [row[:length].tolist() for row, length in rows]
    return json.dumps({"offsets": tables.offsets.tolist(), "counts": counts}) + "\n"


def tables_from_json(text: str) -> SymbolTables:
    """Read what `tables_to_json` wrote.

    Raises:
        ValueError, TypeError, KeyError: it is something else.
    """
    content = json.loads(text)
    counts, offsets = content["counts"], np.array(content["offsets"])
    lengths = np.array([len(row) for row in counts])
    frequencies = np.zeros((len(counts), max(lengths, default=0)), dtype=np.int64)
    for padded, row in zip(frequencies, counts, strict=True):
        padded[: len(row)] = row
    return SymbolTables(frequencies, lengths, offsets)


def _shape(content: Mapping[str, Any], name: str) -> tuple[int, ...]:
    shape = tuple(content[name])
    if len(shape) != 3 or not all(type(side) is int and 0 < side < 2**16 for side in shape):
        raise ValueError(f"{name} {shape}")
    return shape
