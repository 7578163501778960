"""What a bundle costs a device and a server: python -m benchmarks.deploy dist/resnet50-layer3-digits IMAGE….

For each image, one thread, in turns: the device's head, unit encoder and coding; the server's decoding and tail; the
whole network on the device; and sending the image as JPEG at the network's input size, the network on the server.
With these, how long an answer takes at 0.25, 1 and 10 Mbit/s. Without images, digits' evaluation images. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from bottlenecks.deploy.bundle import DECODER, ENCODER, HEAD, TABLES, TAIL, UNIT, Bundle
from bottlenecks.deploy.device import Device
from bottlenecks.deploy.receiver import Receiver
from bottlenecks.images.reading import load_image

QUALITY = 90  # of the JPEG
UPLINKS_KBPS = (250, 1000, 10_000)


def digits(count: int) -> list[Image.Image]:
    """Return images of scikit-learn's digits."""
    from datamodules.digits import Digits

    images = Digits(name="digits", batch_size=1, num_workers=0).images("test")
    return [images[index] for index in range(min(count, len(images)))]


def input_image(bundle: Bundle, image: Image.Image) -> Image.Image:
    """Return what the network sees of an image, before normalisation."""
    look = bundle.preprocessing
    array = look.to_array(image) * np.array(look.std)[:, None, None] + np.array(look.mean)[:, None, None]
    return Image.fromarray((255 * array.transpose(1, 2, 0)).round().clip(0, 255).astype(np.uint8))


def to_jpeg(image: Image.Image) -> bytes:
    """Code at the default chroma subsampling; greyscale stays greyscale."""
    grey = image.convert("L")
    same = np.array_equal(np.asarray(grey.convert("RGB")), np.asarray(image))
    buffer = io.BytesIO()
    (grey if same else image).save(buffer, format="jpeg", quality=QUALITY, optimize=True)
    return buffer.getvalue()


def measure(bundle: Bundle, images: list[Image.Image], lmbda: float) -> dict[str, float]:
    """Return medians over the images: milliseconds of each step, and bytes."""
    device, receiver = Device(bundle, 1), Receiver(bundle, 1)
    head = bundle.graph(HEAD, [bundle.manifest.input_shape], 1)
    tail = bundle.graph(TAIL, bundle.manifest.feature_shape, 1)
    inputs = [input_image(bundle, image) for image in images]
    times: dict[str, list[float]] = {}
    sizes: dict[str, list[int]] = {"unit_bytes": [], "jpeg_bytes": []}

    def take(name: str, function: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = function()
        times.setdefault(name, []).append(1e3 * (time.perf_counter() - start))
        return result

    for index, (image, seen) in enumerate(zip([images[0], *images], [inputs[0], *inputs], strict=True)):
        features = take("head_ms", lambda image=image: device.features(image))
        symbols = take("encoder_ms", lambda features=features: device.symbols(features, lmbda))
        stream = device.encode(features, lmbda)
        take("coding_ms", lambda symbols=symbols: device.write(tuple(one[0] for one in symbols), lmbda))
        received = take("decoding_ms", lambda stream=stream: receiver.read(stream))
        take("tail_ms", lambda received=received: receiver.infer([received]))
        take("network_ms", lambda image=image: tail(head((bundle.input_of(image),))))
        jpeg = take("jpeg_ms", lambda seen=seen: to_jpeg(seen))
        take(
            "jpeg_server_ms",
            lambda jpeg=jpeg: tail(head((bundle.input_of(Image.open(io.BytesIO(jpeg))),))),
        )
        sizes["unit_bytes"].append(len(stream))
        sizes["jpeg_bytes"].append(len(jpeg))
        if index == 0:  # warms up
            times, sizes = {}, {name: [] for name in sizes}
    return {name: statistics.median(values) for name, values in [*times.items(), *sizes.items()]}


def compare(bundle: Bundle, files: list[Image.Image], checkpoints: Path) -> dict[str, int]:
    """Count the symbols, and the images' classes, that ONNX Runtime and PyTorch see otherwise, over all rates."""
    import torch

    from bottlenecks.network import BottleneckNetwork

    device, receiver, network = Device(bundle), Receiver(bundle), BottleneckNetwork.load(checkpoints)
    transform = network.preprocessing.transform()
    inputs = torch.stack([transform(image) for image in files])
    features = tuple(map(np.concatenate, zip(*map(device.features, files), strict=True)))
    counts = dict.fromkeys(("symbols", "other_symbols", "answers", "other_answers"), 0)
    with torch.no_grad():
        theirs = network.network.head(inputs)
    for lmbda, rate in network.ladder.items():
        symbols = device.symbols(features, lmbda)
        counts["symbols"] += sum(one.size for one in symbols)
        expected = rate.unit.symbols(theirs, *bundle.rate_of(lmbda).multipliers(lmbda))
        pairs = zip(symbols, expected, strict=True)
        counts["other_symbols"] += sum(int((own != other).sum()) for own, other in pairs)
        latents = zip(*symbols, strict=True)
        (outputs,) = receiver.infer([receiver.read(device.write(latent, lmbda)) for latent in latents])
        network.lmbda = lmbda
        answers = network.decode(network.encode(inputs)).argmax(1).numpy()
        counts["answers"] += len(outputs)
        counts["other_answers"] += int((outputs.argmax(1) != answers).sum())
    return counts


def answers(figures: dict[str, float]) -> dict[str, dict[str, float]]:
    """Return the milliseconds from an image to its answer, without the network's own delay, for each uplink."""
    device = figures["head_ms"] + figures["encoder_ms"] + figures["coding_ms"]
    server = figures["decoding_ms"] + figures["tail_ms"]
    rows = {"unit": {}, "JPEG": {}, "all on the device": {}}
    for uplink in UPLINKS_KBPS:
        name = f"{uplink / 1000:g} Mbit/s"
        rows["unit"][name] = device + 8 * figures["unit_bytes"] / uplink + server
        jpeg_way = 8 * figures["jpeg_bytes"] / uplink
        rows["JPEG"][name] = figures["jpeg_ms"] + jpeg_way + figures["jpeg_server_ms"]
        rows["all on the device"][name] = figures["network_ms"]
    return rows


def bundle_bytes(bundle: Bundle, lmbda: float) -> dict[str, int]:
    """Count the bytes of the files that a device and a server need for a rate, and of what all rates share."""
    rate = bundle.rate_of(lmbda)
    return {
        "head_bytes": bundle.num_bytes(HEAD),
        "tail_bytes": bundle.num_bytes(TAIL),
        "device_rate_bytes": bundle.num_bytes(ENCODER, TABLES, rate=rate),
        "server_rate_bytes": bundle.num_bytes(DECODER, TABLES, rate=rate),
        "checkpoint_bytes": bundle.num_bytes(UNIT, rate=rate),
    }


def main() -> None:
    """Measure a bundle, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deploy", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, nargs="*")
    parser.add_argument("--lambda", dest="lmbda", type=float, help="default: the finest")
    parser.add_argument("--count", type=int, default=100, help="images at most; default: %(default)s")
    parser.add_argument("--against", type=Path, help="rates in PyTorch, whose symbols are compared with the bundle's")
    options = parser.parse_args()
    bundle = Bundle(options.bundle)
    images = [load_image(path) for path in options.images[: options.count]] or digits(options.count)
    lmbda = options.lmbda or max(bundle.mean_bytes())
    figures = measure(bundle, images, lmbda)
    rows = answers(figures)
    table = Table(title="Milliseconds from the image to the answer")
    table.add_column("")
    for name in next(iter(rows.values())):
        table.add_column(name, justify="right")
    for name, row in rows.items():
        table.add_row(name, *(f"{value:.2f}" for value in row.values()))
    Console(width=100).print(table)
    if options.against is not None:
        print(json.dumps(compare(bundle, images, options.against)))
    print(json.dumps(bundle_bytes(bundle, lmbda)))
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
