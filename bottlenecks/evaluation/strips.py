"""Predictions to look at: some images, what the unsplit network makes of them, and what is left at each rate."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from bottlenecks.baselines.codec import Codec
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.splitting.features import Features, split
from bottlenecks.tasks import Task

MOST_IMAGES, MOST_CODECS = 4, 6
LEAST_SIDE = 96  # pixels; smaller images are enlarged
TITLE = 14  # pixels of a line above


@torch.no_grad()
def draw_strips(
    codecs: Sequence[Codec],
    network: SplitNetwork,
    task: Task,
    images: Tensor,
    preprocessing: Preprocessing,
    class_names: Sequence[str],
) -> bytes:
    """Draw a row for each of the first images: input, unsplit network, then codecs from coarse to fine.

    Args:
        codecs: operating points; of many, some evenly chosen.
        network: the cut network, on the device of `images`.
        task: makes and draws predictions.
        images: the network's input, (N, 3, H, W).
        preprocessing: what made them of images.
        class_names: of the network's outputs, () where unknown.

    Returns:
        A PNG file.
    """
    images = images[:MOST_IMAGES]
    features, sizes = network.head(images), network.sizes(images)
    chosen = [codecs[index] for index in _evenly(len(codecs), MOST_CODECS)]
    sent: dict[str, Features] = {"features": features, "images": (images,)}
    columns = [("unsplit", [""] * len(images), network.finish(features, sizes))]
    for codec in chosen:
        streams = codec.compress(sent[codec.sends])
        decoded = codec.decompress(streams)
        output = network.finish(decoded, sizes) if codec.sends == "features" else network(*decoded)
        columns.append((f"{codec.name} {codec.setting}", [f"{len(stream)} B" for stream in streams], output))
    originals = [preprocessing.to_image(image.cpu().numpy()) for image in images]
    drawn = [[_framed(image, "input", "") for image in originals]]
    for title, notes, output in columns:
        one_by_one = [task.predict(one) for one in split(output, [1] * len(images))]
        drawn.append(
            [
                _framed(task.draw(image, prediction, class_names), title, note)
                for image, prediction, note in zip(originals, one_by_one, notes, strict=True)
            ]
        )
    return _png(np.concatenate([np.concatenate([np.asarray(one) for one in column]) for column in drawn], axis=1))


def _evenly(count: int, most: int) -> list[int]:
    """Choose at most so many of a number of places, the first and last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


def _framed(image: Image.Image, title: str, note: str) -> Image.Image:
    """Enlarge a small image, and put a line above it."""
    scale = max(1, -(-LEAST_SIDE // min(image.size)))
    large = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    framed = Image.new("RGB", (large.width + 2, large.height + 2 * TITLE), "white")
    framed.paste(large, (1, 2 * TITLE - 1))
    pen = ImageDraw.Draw(framed)
    pen.text((2, 0), title, fill="black")
    pen.text((2, TITLE - 2), note, fill="black")
    return framed


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
