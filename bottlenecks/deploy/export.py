"""Write the bundle that devices and servers run from; the only part of this room that needs torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bottlenecks.console.terminal import progress
from bottlenecks.deploy.answers import ANSWERS
from bottlenecks.deploy.bundle import (
    DECODER,
    ENCODER,
    HEAD,
    HEAD_FILES,
    MANIFEST,
    TABLES,
    TAIL,
    UNIT,
    Bundle,
    BundleError,
)
from bottlenecks.deploy.bundled_rate import BundledRate, RatePoint
from bottlenecks.deploy.device import NO_SYMBOL
from bottlenecks.deploy.int8 import take_pixels
from bottlenecks.deploy.manifest import Manifest
from bottlenecks.deploy.onnx_form import to_onnx
from bottlenecks.deploy.requirements import DEVICE, SERVER
from bottlenecks.deploy.runtimes import OPENVINO, to_openvino
from bottlenecks.deploy.tables import framing_to_json
from bottlenecks.errors import UsageError
from bottlenecks.evaluation.curve import Curve
from bottlenecks.files import digest_of, files_in, replacing
from bottlenecks.images.given import read_preprocessing
from bottlenecks.rates.ladder import Ladder
from bottlenecks.rates.rate import Rate, save_rate
from bottlenecks.splitting.cut import MIXED, SplitNetwork
from bottlenecks.splitting.mixing import is_mixed, random_images
from bottlenecks.tasks import Task
from bottlenecks.units import Bottleneck
from bottlenecks.units.part import Part

MADE_WITH = ("bottlenecks", "torch", "torchvision", "onnx", "onnxscript", "constriction")
BATCH = 5  # of the examples that graphs are traced with, which no other side has; any other number works


class Side(nn.Module):
    """What one side of a unit runs, for each tensor that crosses.

    Of a unit of any rate, the last input is the images' multipliers (N,) int64.

    Args:
        unit: whose parts run.
        run: takes a part, its input, and the multipliers where there are any.
    """

    def __init__(self, unit: Bottleneck, run: Callable[..., Tensor]) -> None:
        super().__init__()
        self.units, self.run = nn.ModuleList(unit.parts), run

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run each part."""
        arrays, multipliers = inputs[: len(self.units)], inputs[len(self.units) :]
        return tuple(self.run(part, one, *multipliers) for part, one in zip(self.units, arrays, strict=True))


def encode(part: Part, features: Tensor, *multipliers: Tensor) -> Tensor:
    """Turn features (N, C, H, W) into symbols (N, K, h, w) int32.

    What is not finite, or too large to code, becomes a symbol that none is.
    """
    steps = part.steps(features, *multipliers)
    return torch.where(steps.abs() < -NO_SYMBOL, steps, float(NO_SYMBOL)).to(torch.int32)


def decode(part: Part, symbols: Tensor, *multipliers: Tensor) -> Tensor:
    """Turn symbols (N, K, h, w) int32 into features (N, C, H, W) of the unit's own size."""
    return part.reconstruct(symbols, part.own_size, *multipliers)


class Tail(nn.Module):
    """Features (N, C, H, W), of each tensor that crosses, to what answers are made of.

    Args:
        network: cut.
        task: does its last steps.
        example: features of one image.
    """

    def __init__(self, network: SplitNetwork, task: Task, example: Sequence[Tensor]) -> None:
        super().__init__()
        self.tail = network.tail
        self.last_steps = task.last_steps(network.tail(*example))

    def forward(self, *features: Tensor) -> Any:
        """Run the tail and the task's last steps."""
        return self.last_steps(self.tail(*features))


def export_bundle(
    folder: Path,
    network: SplitNetwork,
    ladder: Ladder,
    curve: Curve,
    task: Task,
    int8_head: bytes | None = None,
    pixels: str = "float",
    openvino: bool = False,
) -> Manifest:
    """Write a bundle; `folder` is at any moment absent, the old bundle or the new one.

    The same inputs give the same bytes.

    Args:
        folder: of the bundle.
        network: cut, on the CPU, in eval mode.
        ladder: of the cut.
        curve: has a point for every rate.
        task: what the network does.
        int8_head: the head in 8 bits, which ladder and curve are for, in the place of the network's own.
        pixels: what the head takes, `float` or `uint8`; see `Manifest`.
        openvino: write the head in OpenVINO's form, too.

    Raises:
        UsageError: the folder holds something else, what is to be exported has no ONNX form, or its preprocessing
            needs torch.
    """
    info = ladder.info
    preprocessing = read_preprocessing(info.preprocessing)
    if not preprocessing.antialias:
        raise UsageError("preprocessing.antialias=false: devices resize with Pillow, which smooths; train with true")
    if task.name not in ANSWERS:
        raise UsageError(
            f"model.task={task.name}: no bundle answers for it yet; add it to bottlenecks/deploy/answers.py"
        )
    features = [torch.zeros(BATCH, *tensor.shape) for tensor in network.crossing]
    tail = Tail(network, task, [one[:1] for one in features])
    with new_bundle(folder) as temporary:
        graphs: list[tuple[str, nn.Module, list[Tensor]]] = [
            (TAIL, tail, features),
        ]
        rates = []
        for rate in ladder.files:
            unit, bundled = rate.unit, describe(rate, curve)
            (temporary / bundled.folder).mkdir()
            symbols = [torch.zeros(BATCH, *shape, dtype=torch.int32) for shape in bundled.latent_shape]
            multipliers = [] if unit.range is None else [torch.zeros(BATCH, dtype=torch.int64)]
            graphs.append((f"{bundled.folder}/{ENCODER}", Side(unit, encode), [*features, *multipliers]))
            graphs.append((f"{bundled.folder}/{DECODER}", Side(unit, decode), [*symbols, *multipliers]))
            (temporary / bundled.folder / TABLES).write_text(framing_to_json(unit.framing))
            save_rate(temporary / bundled.folder / UNIT, rate)
            rates.append(bundled)
        for name, module, example in progress(graphs, "Exporting"):
            (temporary / name).write_bytes(to_onnx(module, example, name))
        head = int8_head or head_of(network, info.image_shape)
        if pixels == "uint8":
            head = take_pixels(head, preprocessing.mean, preprocessing.std)
        (temporary / HEAD).write_bytes(head)
        if openvino:
            for name, content in zip(HEAD_FILES[OPENVINO], to_openvino(head), strict=True):
                (temporary / name).write_bytes(content)
        (temporary / "requirements-device.txt").write_text(DEVICE)
        (temporary / "requirements-server.txt").write_text(SERVER)
        manifest = Manifest(
            model=info.model,
            split=info.split,
            data=info.data,
            task=task.name,
            backbone_fingerprint=info.backbone_fingerprint,
            preprocessing=info.preprocessing,
            image_shape=tuple(info.image_shape),
            feature_shape=network.feature_shape,
            class_names=tuple(info.class_names),
            metric=curve.metric,
            unsplit=curve.unsplit,
            rates=tuple(rates),
            made_with={name: version(name) for name in MADE_WITH},
            files=_checksums(temporary),
            head="int8" if int8_head else "float",
            pixels=pixels,
        )
        (temporary / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        refuse_mixing(Bundle(temporary))
    return manifest


def head_of(network: SplitNetwork, image_shape: Sequence[int]) -> bytes:
    """Write the head as ONNX."""
    return to_onnx(network.head, [torch.zeros(BATCH, *image_shape)], HEAD)


def refuse_mixing(bundle: Bundle) -> None:
    """Refuse graphs that mix the images of a batch: each of a server's answers would depend on who else asks.

    Raises:
        UsageError: one does, or it draws at random.
    """
    manifest = bundle.manifest
    head = bundle.head()
    tail = bundle.graph(TAIL, manifest.feature_shape)
    images = random_images(manifest.input_shape)
    if manifest.pixels == "uint8":
        images = images.mul(64).add(128).clamp(0, 255).to(torch.uint8)
    features = [torch.from_numpy(one) for one in head((images.numpy(),))]
    for name, graph, inputs in ((HEAD, head, [images]), (TAIL, tail, features)):
        if is_mixed(lambda *batch, graph=graph: graph(tuple(one.numpy() for one in batch)), *inputs):
            raise UsageError(f"model={manifest.model}: {name}: {MIXED}")


def describe(rate: Rate, curve: Curve) -> BundledRate:
    """Gather what a manifest says of a rate, or of a unit of any rate.

    Raises:
        UsageError: the curve has no point for it, or none for an end of its range.
    """
    own, framing = rate.unit.range, rate.unit.framing
    points = {
        point["lambda"]: RatePoint(
            point["lambda"],
            point["payload_bytes"],
            point[curve.metric],
            point["agreement"],
            point.get("other_symbols"),
        )
        for point in curve.points
        if point["codec"] == "unit"
    }
    for lmbda in (rate.lmbda,) if own is None else (own.low, own.high):
        if lmbda not in points:
            raise UsageError(f"lambda={lmbda!r}: the curve has no point for it; run evaluate.py first")
    between = [] if own is None else [lmbda for lmbda in sorted(points) if own.low <= lmbda <= own.high]
    finest = points[rate.lmbda]
    return BundledRate(
        lmbda=rate.lmbda,
        fingerprint=framing.fingerprint.hex(),
        latent_shape=framing.latent_shapes,
        payload_bytes=finest.payload_bytes,
        score=finest.score,
        agreement=finest.agreement,
        other_symbols=finest.other_symbols,
        range=own,
        curve=tuple(points[lmbda] for lmbda in between),
    )


def new_bundle(folder: Path) -> AbstractContextManager[Path]:
    """Give a temporary folder that takes the place of a bundle, or of nothing, when all has gone well."""
    return replacing(folder, f"out={folder}", "a bundle", _held)


def _held(folder: Path) -> set[str]:
    try:
        return {MANIFEST, *Bundle(folder).manifest.files}
    except BundleError:
        return set()


def _checksums(folder: Path) -> dict[str, str]:
    return {name: digest_of(folder / name) for name in files_in(folder)}
