"""A bundle of an embedding network answers with what the network itself gives, vectors and tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import bottlenecks as bn
from bottlenecks.deploy.answers import ANSWERS
from bottlenecks.deploy.bundle import Bundle
from bottlenecks.deploy.device import Device
from bottlenecks.deploy.receiver import Receiver
from bottlenecks.deploy.replies import Answer
from tests.deploy.test_dense import scene
from tests.tasks.test_embedding import Embedder

IMAGES = torch.randn(48, 3, 32, 32, generator=torch.Generator().manual_seed(0))
FAST = {"training.epochs": 0, "training.fit_images": 32, "unit.structure": "separable", "unit.block": 4}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "shape"),
    [("both", (12,)), ("tokens", (16, 12))],
    ids=["both", "tokens"],
)
def test_answers_are_the_networks_embeddings(form: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    preprocessing = bn.Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3)
    cut = bn.cut(Embedder(form), "body", IMAGES[:2], task="embedding", preprocessing=preprocessing)
    net = bn.BottleneckNetwork(cut.network, bn.fit(cut, IMAGES, lmbdas=0.3, settings=FAST), cut.backbone.network)
    curve = bn.evaluate(net, (IMAGES[:12], torch.arange(12) % 2), settings={"timed_images": 1})
    assert curve.metric == "cosine" and curve.points[0]["knn_accuracy"] is not None
    bundle = Bundle(bn.export(net, tmp_path / "bundle", curve))
    assert bundle.manifest.task == "embedding" and not bundle.manifest.class_names
    device, receiver = Device(bundle, 1), Receiver(bundle, 1)
    stream = device.encode(device.features(scene()), 0.3)
    (output,) = zip(*receiver.infer([receiver.read(stream)]), strict=True)
    expected = net.decode([stream])
    expected = (expected["pooler_output"] if form == "both" else expected)[0].numpy()
    answer = Answer.of(json.loads(json.dumps(ANSWERS["embedding"](output, []))))
    values = np.array(answer.fields["embedding"])
    assert values.shape == shape and np.allclose(values, expected, atol=1e-4)
    assert answer.text.startswith(f"embedding of {' x '.join(map(str, shape))} values, length ")


@pytest.mark.parametrize("values", [[], [float("nan")], ["a"], [[1], [1, 2]], 1, [[[[1]]]]])
def test_foreign_answers_are_refused(values: object) -> None:
    with pytest.raises(ValueError, match="answered"):
        Answer.of({"embedding": values})
