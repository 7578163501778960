"""A detector gives what torchvision's own gives for the same weights and images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bottlenecks.backbones.detectors import Detector
from bottlenecks.errors import UsageError

SIZES = [(96, 96), (64, 128), (97, 70)]
Pair = tuple[Any, Detector]


def prepared(count: int, size: tuple[int, int]) -> Tensor:
    """Draw prepared images."""
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def as_targets(rows: Tensor) -> dict[str, Tensor]:
    """Write an image's rows as torchvision takes them."""
    rows = rows[rows[:, 0] >= 0]
    return {"boxes": rows[:, 1:], "labels": rows[:, 0].long() + 1}


def losses_of_torchvision(plain: Any, image: Tensor, target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Run the detector's forward as in training, with the layers in eval mode."""
    parts = [plain, *(getattr(plain, name) for name in ("rpn", "roi_heads") if hasattr(plain, name))]
    for part in parts:
        part.training = True
    try:
        return plain([image], [target])
    finally:
        for part in parts:
            part.training = False


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_raw_outputs_are_those_of_torchvisions_heads(pair: Pair, size: tuple[int, int]) -> None:
    plain, ours = pair
    images = prepared(2, size)
    outputs = ours(images)
    assert all(len(tensor) == 2 for tensor in outputs.values())
    divisor = plain.transform.size_divisible
    features = plain.backbone(F.pad(images, (0, -size[1] % divisor, 0, -size[0] % divisor)))
    if hasattr(plain, "rpn"):
        from torchvision.models.detection.rpn import concat_box_prediction_layers

        scores, boxes = concat_box_prediction_layers(*plain.rpn.head(list(features.values())))
        expected = {"objectness": scores, "rpn_regression": boxes, **at_grid(plain, features, size)}
        expected.update({f"features_{name}": tensor for name, tensor in features.items()})
    else:
        expected = plain.head(list(features.values()))
    assert set(outputs) - set(expected) == {"image_size", "level_sizes"}
    assert {*ours.scores, *ours.regressions} <= set(expected)
    for name, tensor in expected.items():
        assert torch.allclose(outputs[name].flatten(), tensor.flatten(), atol=1e-6, rtol=1e-5), name


def at_grid(plain: Any, features: dict[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """Let torchvision's second stage evaluate the image, its halves and its quarters."""
    height, width = size
    boxes = [
        (x * width / parts / 2, y * height / parts / 2, (x / 2 + 1) * width / parts, (y / 2 + 1) * height / parts)
        for parts in (1, 2, 4)
        for y in range(2 * parts - 1)
        for x in range(2 * parts - 1)
    ]
    heads = plain.roi_heads
    heads.box_roi_pool.scales = None
    regions = heads.box_roi_pool(features, [torch.tensor(boxes)] * 2, [size] * 2)
    logits, regression = heads.box_predictor(heads.box_head(regions))
    return {"class_logits": logits, "box_regression": regression}


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_boxes_are_those_of_torchvisions_forward(pair: Pair, size: tuple[int, int]) -> None:
    plain, ours = pair
    images = prepared(3, size)
    if hasattr(plain, "roi_heads"):
        plain.roi_heads.box_roi_pool.scales = None
    expected = plain(list(images))
    found = ours.predict(ours(images))
    limit = ours.heads.detections_per_image
    assert found["boxes"].shape == (3, limit, 4) and found["labels"].dtype == torch.int64
    for index, one in enumerate(expected):
        objects = one["labels"] > 0
        count = int(objects.sum())
        assert count > 5
        for name, offset in (("boxes", 0), ("scores", 0), ("labels", 1)):
            assert torch.allclose(found[name][index, :count] + offset, one[name][objects], atol=1e-4), name
        assert (found["labels"][index, count:] == -1).all() and not found["scores"][index, count:].any()
        assert (found["scores"][index].diff() <= 0).all()


@pytest.mark.parametrize("pair", ["small_retinanet", "small_fcos"], indirect=True)
@torch.no_grad()
def test_background_takes_no_place_of_an_object(pair: Pair) -> None:
    _, ours = pair
    outputs = ours(prepared(2, (64, 64)))
    loud = {**outputs, "cls_logits": outputs["cls_logits"].clone()}
    loud["cls_logits"][..., 0] = 9
    for name, tensor in ours.predict(loud).items():
        assert torch.equal(tensor, ours.predict(outputs)[name]), name


@torch.no_grad()
def test_outputs_of_several_batches_are_read_at_once(pair: Pair) -> None:
    _, ours = pair
    images = prepared(3, (64, 64))
    parts = [ours(images[:1]), ours(images[1:])]
    together = ours.predict({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    for name, tensor in together.items():
        torch.testing.assert_close(tensor, torch.cat([ours.predict(part)[name] for part in parts]))


@pytest.mark.parametrize("size", [(96, 96), (70, 97)])
def test_losses_are_those_of_torchvisions_training(pair: Pair, size: tuple[int, int], targets: Tensor) -> None:
    plain, ours = pair
    images = prepared(3, size)
    if hasattr(plain, "roi_heads"):
        plain.roi_heads.box_roi_pool.scales = None
    expected = []
    torch.manual_seed(3)  # of the places that a two-stage detector draws
    for image, rows in zip(images, targets, strict=True):
        expected.append(sum(losses_of_torchvision(plain, image, as_targets(rows)).values()))
    torch.manual_seed(3)
    at_once = (
        1 if hasattr(plain, "roi_heads") else 3
    )  # a batch rounds otherwise, and which places are drawn hangs on it
    batches = zip(images.split(at_once), targets.split(at_once), strict=True)
    loss = torch.cat([ours.loss(ours(some), rows) for some, rows in batches])
    assert loss.shape == (3,) and not ours.heads.training
    assert torch.allclose(loss, torch.stack(expected), rtol=1e-4)


def test_gradient_of_the_loss_reaches_the_first_layer(pair: Pair, targets: Tensor) -> None:
    _, ours = pair
    ours.zero_grad()
    ours.loss(ours(prepared(3, (96, 96))), targets).sum().backward()
    gradient = next(ours.backbone.parameters()).grad
    assert gradient is not None and gradient.isfinite().all() and gradient.any()


def test_a_box_without_area_is_refused(pair: Pair, targets: Tensor) -> None:
    _, ours = pair
    targets[2, 0] = torch.tensor([1, 20, 20, 20, 40])
    with pytest.raises(UsageError, match=r"targets=.*20\.0, 20\.0, 20\.0, 40\.0.*a box without area"):
        ours.loss(ours(prepared(3, (64, 64))), targets)


def test_own_names_and_torchvisions_lead_to_the_same_tensors(pair: Pair) -> None:
    plain, ours = pair
    assert set(ours.own_names(plain.state_dict())) == set(ours.state_dict()) == set(ours.own_names(ours.state_dict()))
    assert isinstance(ours.backbone, nn.Module) and not hasattr(ours.heads.model, "backbone")
