"""A language model is asked about images that came as a few bytes: examples/vlm, run as it stands."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import bottlenecks as bn

pytest.importorskip("transformers")
from examples.vlm import tiny, vllm_inputs
from examples.vlm.__main__ import TRAINING, answers, evaluate, fit, jpeg_bytes, share_right
from examples.vlm.sides import ImageSide, NextToken

TESTED = slice(TRAINING, TRAINING + 200)


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    return tiny.digits()


@pytest.fixture(scope="module")
def model(digits: tuple[Tensor, Tensor]) -> Any:
    images, labels = digits
    return tiny.train(images[:TRAINING], labels[:TRAINING], epochs=9)


@pytest.fixture(scope="module")
def embeddings(model: Any, digits: tuple[Tensor, Tensor]) -> Tensor:
    with torch.no_grad():
        return ImageSide(model)(digits[0][TESTED])


def test_the_image_side_gives_what_the_model_itself_inserts(model: Any, digits: tuple[Tensor, Tensor]) -> None:
    images, asked = digits[0][TRAINING : TRAINING + 3], tiny.prompt()
    with torch.no_grad():
        own = model(input_ids=asked.expand(3, -1), pixel_values=images).logits[:, -1]
        assert torch.allclose(NextToken(model, asked)(images), own, atol=1e-5)


def test_the_text_depends_on_the_image(model: Any, embeddings: Tensor, digits: tuple[Tensor, Tensor]) -> None:
    labels, texts = digits[1][TESTED], answers(model, embeddings)
    asked = [(labels == digit).nonzero().flatten() for digit in range(10)]
    told = [share_right([texts[place] for place in some], labels[some]) for some in asked]
    assert sum(share > 0.5 for share in told) >= 8
    shuffled = answers(model, embeddings.roll(1, 0))
    assert sum(text == other for text, other in zip(shuffled, texts, strict=True)) < len(texts) / 2


def test_texts_from_a_few_bytes(model: Any, digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    images, labels = digits
    net = fit(model, images[:400], str(tmp_path), lmbdas=(0.01, 1.0))
    coarse, fine = evaluate(model, net, images[TESTED], labels[TESTED])
    assert coarse.num_bytes < fine.num_bytes < jpeg_bytes(images[TESTED])
    assert coarse.same < fine.same and fine.same >= 0.95


@pytest.mark.slow
def test_a_unit_for_the_next_token(model: Any, digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    prompt = tiny.prompt(f"{tiny.QUESTION} it is a written")
    network = bn.cut(NextToken(model, prompt), "image_side.vision_tower.encoder.layers.0", digits[0][:2])
    bn.fit(network, digits[0][:400], lmbdas=0.1, settings={"training.epochs": 0}).save(tmp_path)
    net, test = bn.load(tmp_path, network=network), digits[0][TESTED]
    decoded = net.decode(net.encode(test)).argmax(1)
    assert (decoded == network.network(test).argmax(1)).float().mean() >= 0.9


def test_embeddings_for_vllm(embeddings: Tensor) -> None:
    asked = vllm_inputs.offline("<image> what digit is this ?", embeddings[:1])
    assert asked["multi_modal_data"]["image"].shape == (1, tiny.NUM_TOKENS, 48)
    _, image = vllm_inputs.online("what digit is this ?", embeddings[0])[0]["content"]
    decoded = torch.load(io.BytesIO(base64.b64decode(image["image_embeds"])), weights_only=True)
    assert torch.equal(decoded, embeddings[0])
