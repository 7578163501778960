"""Write the bundle that devices and servers run from; the only part of this room that needs torch."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from bottlenecks.checkpoint import Ladder, Rate, save_rate
from bottlenecks.deploy.bundle import (
    DECODER,
    ENCODER,
    HEAD,
    MANIFEST,
    TABLES,
    TAIL,
    UNIT,
    BundledRate,
    Manifest,
    tables_to_json,
)
from bottlenecks.deploy.requirements import DEVICE, SERVER
from bottlenecks.errors import UsageError
from bottlenecks.evaluation.curve import Curve
from bottlenecks.preprocessing import Preprocessing
from bottlenecks.split import SplitNetwork
from bottlenecks.terminal import progress
from bottlenecks.units import BottleneckUnit

OPSET = 18
MADE_WITH = ("bottlenecks", "torch", "torchvision", "onnx", "onnxscript", "constriction")
BATCH = 2  # of the examples that graphs are traced with; any other number works


class Encoder(nn.Module):
    """Features (N, C, H, W) to symbols (N, K, h, w) int32."""

    def __init__(self, unit: BottleneckUnit) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, features: Tensor) -> Tensor:
        """Encode and round."""
        return self.unit.steps(features).to(torch.int32)


class Decoder(nn.Module):
    """Symbols (N, K, h, w) int32 to features (N, C, H, W) of the unit's own size."""

    def __init__(self, unit: BottleneckUnit) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, symbols: Tensor) -> Tensor:
        """Decode."""
        return self.unit.reconstruct(symbols, self.unit.feature_shape[1:])


def export_bundle(folder: Path, network: SplitNetwork, ladder: Ladder, curve: Curve, task: str) -> Manifest:
    """Write a bundle; `folder` is at any moment absent, the old bundle or the new one.

    The same inputs give the same bytes.

    Args:
        folder: of the bundle.
        network: cut, on the CPU, in eval mode.
        ladder: of the cut.
        curve: has a point for every rate.
        task: what the network does.

    Raises:
        UsageError: the folder holds something else, what is to be exported has no ONNX form, or its preprocessing
            needs torch.
    """
    info = ladder.info
    _refuse_other_folder(folder)
    if not Preprocessing.from_dict(info.preprocessing).antialias:
        raise UsageError("preprocessing.antialias=false: devices resize with Pillow, which smooths; train with true")
    images, features = torch.zeros(BATCH, *info.image_shape), torch.zeros(BATCH, *info.feature_shape)
    with _all_or_nothing(folder) as temporary:
        graphs: list[tuple[str, nn.Module, Tensor]] = [(HEAD, network.head, images), (TAIL, network.tail, features)]
        rates = []
        for rate in ladder.values():
            bundled = describe(rate, curve)
            (temporary / bundled.folder).mkdir()
            symbols = torch.zeros(BATCH, *bundled.latent_shape, dtype=torch.int32)
            graphs.append((f"{bundled.folder}/{ENCODER}", Encoder(rate.unit), features))
            graphs.append((f"{bundled.folder}/{DECODER}", Decoder(rate.unit), symbols))
            (temporary / bundled.folder / TABLES).write_text(tables_to_json(rate.unit.coder.tables))
            save_rate(temporary / bundled.folder / UNIT, rate)
            rates.append(bundled)
        for name, module, example in progress(graphs, "Exporting"):
            (temporary / name).write_bytes(to_onnx(module, example, name))
        (temporary / "requirements-device.txt").write_text(DEVICE)
        (temporary / "requirements-server.txt").write_text(SERVER)
        manifest = Manifest(
            model=info.model,
            split=info.split,
            data=info.data,
            task=task,
            backbone_fingerprint=info.backbone_fingerprint,
            preprocessing=info.preprocessing,
            image_shape=tuple(info.image_shape),
            feature_shape=tuple(info.feature_shape),
            class_names=tuple(info.class_names),
            metric=curve.metric,
            unsplit=curve.unsplit,
            rates=tuple(rates),
            made_with={name: version(name) for name in MADE_WITH},
            files=_checksums(temporary),
        )
        (temporary / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def describe(rate: Rate, curve: Curve) -> BundledRate:
    """Gather what a manifest says of a rate.

    Raises:
        UsageError: the curve has no point for it.
    """
    lmbda, unit = rate.info.lmbda, rate.unit
    point = next((p for p in curve.points if p["codec"] == "unit" and p["lambda"] == lmbda), None)
    if point is None:
        raise UsageError(f"lambda={lmbda!r}: the curve has no point for it; run evaluate.py first")
    return BundledRate(
        lmbda=lmbda,
        fingerprint=unit.coder.tables.fingerprint.hex(),
        latent_shape=(unit.coder.tables.num_channels, *unit.latent_size(unit.feature_shape[1:])),
        payload_bytes=point["payload_bytes"],
        score=point[curve.metric],
        agreement=point["agreement"],
    )


@torch.no_grad()
def to_onnx(module: nn.Module, example: Tensor, name: str) -> bytes:
    """Write a module of one tensor as ONNX, any number of rows at once; the same module gives the same bytes.

    Raises:
        UsageError: the exporter cannot.
    """
    for talkative in ("onnxscript", "onnx_ir"):  # each pass of theirs is a line
        logging.getLogger(talkative).setLevel(logging.WARNING)
    try:
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            opset_version=OPSET,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise UsageError(f"{name}: torch cannot write this part of the network as ONNX ({error})") from None
    assert program is not None
    proto = program.model_proto
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        part.ClearField("metadata_props")  # where the exporter notes this machine's paths
        part.ClearField("doc_string")
    proto.ClearField("metadata_props")
    return proto.SerializeToString(deterministic=True)


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `folder` when all has gone well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    temporary.mkdir()
    try:
        yield temporary
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
    finally:
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _refuse_other_folder(folder: Path) -> None:
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"out={folder}: holds something else than a bundle; give another folder, or move it away")


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
