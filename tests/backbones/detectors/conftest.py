"""A plain torchvision detector beside ours with the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from bottlenecks.backbones.architecture import build_network
from bottlenecks.backbones.detectors import Detector
from bottlenecks.backbones.weights import load_exactly
from bottlenecks.settings.model import BackboneSpec

CLASSES = 5
SLOW = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn", "fcos_resnet50_fpn")
]
NAMES = ["fasterrcnn_mobilenet_v3_large_fpn", "ssdlite320_mobilenet_v3_large", "small_retinanet", "small_fcos"]


def make(name: str) -> Any:
    """Build torchvision's own detector with random weights that let the signal through."""
    torch.manual_seed(0)
    if name.startswith("small"):
        model = small(name)
    else:
        model = models.get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES + 1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    with torch.no_grad():
        model.backbone.train()(torch.randn(2, 3, 96, 96))
        for path, parameter in model.named_parameters():
            if not path.startswith("backbone") and parameter.dim() > 1:
                parameter.mul_(0.3)  # scores below 1, boxes of all sizes
        if isinstance(model, models.detection.RetinaNet | models.detection.FCOS):
            bias = model.head.classification_head.cls_logits.bias
            bias[:: CLASSES + 1] = -200  # training leaves the background without a score
    return model.eval()


def small(name: str) -> Any:
    """Build a family on a small body of torchvision's parts."""
    from torchvision.models import detection, resnet18
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    body = BackboneWithFPN(resnet18(), {"layer2": "0", "layer3": "1"}, [128, 256], 32)
    if name == "small_fcos":
        anchors = AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
        return detection.FCOS(body, CLASSES + 1, anchor_generator=anchors)
    anchors = AnchorGenerator(((16, 24), (32, 48), (64, 96)), ((0.5, 1.0, 2.0),) * 3)
    return detection.RetinaNet(body, CLASSES + 1, anchor_generator=anchors)


def neutral(model: Any) -> Any:
    """Let a torchvision detector take prepared images as they are, and keep even the worst boxes."""
    model.transform.image_mean, model.transform.image_std = [0.0] * 3, [1.0] * 3
    model.transform.resize = lambda image, target: (image, target)
    keep_all(model)
    return model


def keep_all(model: Any) -> None:
    """Set a torchvision detector's threshold of the score to 0."""
    (model if hasattr(model, "score_thresh") else model.roi_heads).score_thresh = 0.0


@pytest.fixture(scope="module", params=[*NAMES, *SLOW])
def pair(request: pytest.FixtureRequest) -> tuple[Any, Detector]:
    """Torchvision's detector, and ours with its weights; both keep all boxes."""
    from bottlenecks.backbones.detectors import make_detector

    plain = make(request.param)
    if request.param.startswith("small"):
        ours = make_detector(small(request.param))
    else:
        ours = build_network(BackboneSpec(request.param, task="detection"), CLASSES)
    load_exactly(ours, plain.state_dict(), "torchvision")
    keep_all(ours.heads.model)
    return neutral(plain), ours.eval()


@pytest.fixture
def targets() -> Tensor:
    """Three objects, none, one."""
    return torch.tensor(
        [
            [[1, 10, 12, 40, 50], [4, 30, 5, 64, 33], [0, 0, 40, 60, 69]],
            [[-1, 0, 0, 0, 0]] * 3,
            [[2, 20, 20, 52, 49.5], *[[-1, 0, 0, 0, 0]] * 2],
        ]
    )
