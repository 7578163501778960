"""Bundles of segmentation and detection networks answer with what the network itself predicts."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import batched_nms

from bottlenecks.backbones.architecture import build_network
from bottlenecks.backbones.backbone import freeze
from bottlenecks.deploy.answers import ANSWERS, mask, suppress
from bottlenecks.deploy.bundle import Bundle
from bottlenecks.deploy.device import Device
from bottlenecks.deploy.export import export_bundle
from bottlenecks.deploy.receiver import Receiver
from bottlenecks.evaluation.curve import Curve
from bottlenecks.rates.info import RateInfo
from bottlenecks.rates.ladder import Ladder
from bottlenecks.rates.rate import Rate
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.splitting.cut import SplitNetwork, cut
from bottlenecks.tasks import Task, make_task
from bottlenecks.training.calibration import calibrate
from bottlenecks.training.ladder import build_units
from bottlenecks.units import Bottleneck
from tests.deploy.units import transform_unit

PREPROCESSING = {"resize": [64, 96], "crop": None, "mean": [0.5] * 3, "std": [0.25] * 3}
IMAGE = (3, 64, 96)
SEGMENTER, DETECTOR = "tests.networks.TinySegmenter", "bottlenecks.backbones.detectors.small.small_fcos"


def describe(network: SplitNetwork, unit: Bottleneck, architecture: str) -> RateInfo:
    return RateInfo(
        model="m", backbone={}, backbone_fingerprint="f", preprocessing=PREPROCESSING, class_names=["a", "b", "c"],
        split=network.split, image_shape=list(IMAGE), unit_name=architecture, data="d", training={},
        feature_shape=network.feature_shape, training_hash="h",
        unit={"architecture": architecture, "config": unit.config()},
        lmbda=0.01 if unit.range is None else [unit.range.low, unit.range.high],
    )  # fmt: skip


def build_unit(kind: str, network: SplitNetwork) -> Bottleneck:
    """Build a unit that is ready for bytes."""
    shapes = [tensor.shape for tensor in network.crossing]
    if kind != "factorized":
        return transform_unit(shapes, ["separable", "joint"][: len(shapes)], kind == "any rate")
    batches = [(torch.randn(8, *IMAGE, generator=torch.Generator().manual_seed(0)), torch.zeros(8))]
    features = calibrate(network.head, batches, torch.device("cpu"))
    (unit,) = build_units([0.01], {"architecture": kind, "latent_channels": 6}, network, features, 0).values()
    unit.eval().refresh()
    unit.finalise()
    return unit


def make(factory: str, task: str, split: str, kind: str, folder: Path) -> tuple[Bundle, SplitNetwork, Bottleneck, Task]:
    """Export a network with random weights and one untrained unit."""
    torch.manual_seed(1)
    backbone = freeze(build_network(BackboneSpec("m", library="custom", factory={"_target_": factory}), 3))
    if task == "detection":
        backbone.heads.model.score_thresh = 0.0
    network = cut(backbone, split, torch.zeros(1, *IMAGE), several=True)
    unit = build_unit(kind, network)
    points = [
        {"codec": "unit", "lambda": lmbda, "payload_bytes": 1e3 * lmbda, "score": 0.5, "agreement": 0.5}
        for lmbda in (0.003, 0.01, 0.03)
    ]
    curve = Curve("m", split, "d", 1, [3, 64, 96], {}, "score", 0.5, points)
    made = make_task(task, backbone)
    rate = Rate(unit, describe(network, unit, "factorized" if kind == "factorized" else "transform"))
    ladder = Ladder({0.01: rate}) if unit.range is None else Ladder({}, [rate])
    export_bundle(folder, network, ladder, curve, made)
    return Bundle(folder), network, unit, made


def scene(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (80, 100, 3), np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "kind"),
    [("body", "transform"), ("top", "factorized"), ("top", "any rate")],
    ids=["one tensor", "several, factorized", "several, any rate"],
)
def test_masks_are_the_networks(split: str, kind: str, tmp_path: Path) -> None:
    bundle, network, unit, _ = make(SEGMENTER, "segmentation", split, kind, tmp_path / "bundle")
    device, receiver = Device(bundle, 1), Receiver(bundle, 1)
    image = torch.from_numpy(bundle.preprocessing.to_array(scene()))[None]
    stream = device.encode(device.features(scene()), 0.01)
    expected = network.finish(unit.decompress([stream]))["out"].argmax(1)[0].numpy()
    (numbers,) = receiver.infer([receiver.read(stream)])
    answer = ANSWERS["segmentation"]((numbers[0],), ["a", "b", "c"])
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask"]))))
    assert mask.shape == (64, 96) and (mask == expected).mean() > 0.999
    assert sum(one["share"] for one in answer["shares"]) == pytest.approx(1)
    assert stream == unit.compress(network.head(image), *bundle.rate_of(0.01).multipliers(0.01))[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "kind"),
    [("layer2", "factorized"), ("layer3", "transform"), ("layer3", "any rate")],
    ids=["one tensor, factorized", "several", "several, any rate"],
)
def test_boxes_are_the_networks(split: str, kind: str, tmp_path: Path) -> None:
    bundle, network, unit, task = make(DETECTOR, "detection", f"backbone.body.{split}", kind, tmp_path / "bundle")
    device, receiver = Device(bundle, 1), Receiver(bundle, 1)
    lmbdas = (0.01, 0.02) if kind == "any rate" else (0.01, 0.01)
    streams = [device.encode(device.features(scene(seed)), lmbda) for seed, lmbda in enumerate(lmbdas)]
    expected = task.predict(network.finish(unit.decompress(streams)))
    outputs = receiver.infer([receiver.read(stream) for stream in streams])
    for index, output in enumerate(zip(*outputs, strict=True)):
        found = ANSWERS["detection"](output, [])["objects"]
        count = int((expected["labels"][index] >= 0).sum())
        assert len(found) == count > 10
        scores = expected["scores"][index, :count].numpy()
        assert np.allclose([one["score"] for one in found], scores, atol=1e-4)
        sure = np.append(-np.diff(scores) > 1e-4, True) & np.append(True, -np.diff(scores) > 1e-4)
        boxes = np.array([one["box"] for one in found])
        assert np.allclose(boxes[sure], expected["boxes"][index, :count].numpy()[sure], atol=1e-2)


@pytest.mark.parametrize(("num_classes", "bits"), [(200, 8), (256, 8), (257, 16), (300, 16)])
def test_a_mask_holds_class_numbers_of_any_size(num_classes: int, bits: int) -> None:
    numbers = np.random.default_rng(0).integers(0, num_classes, (12, 16)).astype(np.int32)
    answer = mask((numbers,), [f"class {number}" for number in range(num_classes)])
    with Image.open(io.BytesIO(base64.b64decode(answer["mask"]))) as image:
        assert np.array_equal(np.asarray(image), numbers)
        assert np.asarray(image).dtype.itemsize == bits // 8
    assert {share["class"] for share in answer["shares"]} == set(numbers.ravel().tolist())


def test_doubles_are_suppressed_as_torchvision_does() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = 60 * torch.rand(200, 2, generator=generator)
    boxes = torch.cat([corners, corners + 5 + 30 * torch.rand(200, 2, generator=generator)], 1)
    scores, labels = torch.rand(200, generator=generator), torch.randint(0, 3, (200,), generator=generator)
    expected = batched_nms(boxes, scores, labels, 0.4)
    kept = suppress(boxes.numpy(), scores.numpy(), labels.numpy(), 0.4)
    assert kept == expected.tolist() and len(kept) < 200
    answer = ANSWERS["detection"]((boxes.numpy(), scores.numpy(), labels.numpy(), np.array([0.4, 7.0])), ["a", "b"])
    assert [one["label"] for one in answer["objects"]] == [["a", "b", "2"][labels[index]] for index in kept[:7]]
