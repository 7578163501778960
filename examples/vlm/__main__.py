"""Send a language model the image it is asked about, as a few bytes: python -m examples.vlm.

A unit is put into the vision tower; what the server decodes are embeddings, which the language model takes in place of
an image. Nobody labels anything: the unit learns to keep the embeddings as they were.
"""

from __future__ import annotations

import io
import tempfile
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

import bottlenecks as bn
from examples.vlm import tiny
from examples.vlm.sides import ImageSide, say

TRAINING = 1400  # images; the others are for evaluation


class Result(NamedTuple):
    """What came out at one rate.

    Attributes:
        lmbda: of the rate.
        num_bytes: mean of an image, header included.
        same: share of the texts that are the same as from the embeddings themselves.
        right: share of the texts that name the right digit.
    """

    lmbda: float
    num_bytes: float
    same: float
    right: float


def answers(model: Any, embeddings: Tensor) -> list[str]:
    """Ask about images, given as embeddings (N, T, D)."""
    return [tiny.detokenize(ids) for ids in say(model, tiny.prompt(), embeddings, tiny.LONGEST)]


def share_right(texts: list[str], labels: Tensor) -> float:
    """Return in how many of the texts the right digit is named."""
    right = [tiny.DIGITS[label] in text.split() for text, label in zip(texts, labels.tolist(), strict=True)]
    return sum(right) / len(right)


def fit(model: Any, images: Tensor, folder: str, lmbdas: tuple[float, ...] = (0.01, 0.1, 1.0)) -> bn.BottleneckNetwork:
    """Put a unit behind the first layer of the vision tower, for each lambda."""
    network = bn.cut(ImageSide(model), "vision_tower.encoder.layers.0", images[:2], task="embedding")
    bn.fit(network, images, lmbdas=lmbdas, settings={"training.epochs": 0}).save(folder)
    return bn.load(folder, network=network)


def evaluate(model: Any, net: bn.BottleneckNetwork, images: Tensor, labels: Tensor) -> list[Result]:
    """Ask about images that came as bytes, at each rate."""
    with torch.no_grad():
        expected, results = answers(model, net.network(images)), []
    for lmbda in net.ladder:
        net.lmbda = lmbda
        streams = net.encode(images)  # on the device
        texts = answers(model, net.decode(streams))  # on the server
        same = sum(text == other for text, other in zip(texts, expected, strict=True)) / len(texts)
        results.append(Result(lmbda, sum(map(len, streams)) / len(streams), same, share_right(texts, labels)))
    return results


def jpeg_bytes(images: Tensor, quality: int = 5) -> float:
    """Return the mean size of the images as JPEG."""
    sizes = []
    for pixels in ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy():
        Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=quality)
        sizes.append(file.tell())
    return sum(sizes) / len(sizes)


def main() -> None:
    """Train the model and its units, and show what it says."""
    images, labels = tiny.digits()
    test, targets = images[TRAINING:], labels[TRAINING:]
    print("Training the language model: half a minute")
    model = tiny.train(images[:TRAINING], labels[:TRAINING])
    with tempfile.TemporaryDirectory() as folder:
        net = fit(model, images[:TRAINING], folder)
    with torch.no_grad():
        texts = answers(model, net.network(test))
    print(f"From the embeddings themselves: {share_right(texts, targets):.1%} right, such as: {texts[0]}")
    print(f"JPEG, quality 5: {jpeg_bytes(test):.0f} bytes an image")
    for one in evaluate(model, net, test, targets):
        sent = f"lambda={one.lmbda:g}: {one.num_bytes:.0f} bytes an image"
        print(f"{sent}, {one.same:.1%} of the texts are the same, {one.right:.1%} right")


if __name__ == "__main__":
    main()
