"""Detectors of one stage that learn from few images: FCOS with a narrow pyramid and head."""

from __future__ import annotations

from torch import nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.fcos import FCOSHead

from bottlenecks.backbones.detectors import Detector, make_detector
from bottlenecks.backbones.small_body import WIDTHS, small_body
from bottlenecks.backbones.timm_features import TimmPyramid

CHANNELS = 64  # of the pyramid and the head


def small_fcos(num_classes: int = 10) -> Detector:
    """Build an FCOS with a narrow residual body, for images of about 128 pixels and no pretrained weights.

    Args:
        num_classes: number of object classes, without the background.
    """
    backbone = BackboneWithFPN(small_body(), {"layer2": "0", "layer3": "1"}, list(WIDTHS[1:]), CHANNELS)
    return _fcos(backbone, num_classes, num_convs=1)


def timm_fcos(num_classes: int = 90, architecture: str = "tf_efficientnet_lite0") -> Detector:
    """Build an FCOS over the features of a timm network.

    Args:
        num_classes: number of object classes, without the background.
        architecture: timm's name of the network.
    """
    return _fcos(TimmPyramid(architecture, CHANNELS), num_classes, num_convs=2)


def _fcos(backbone: nn.Module, num_classes: int, num_convs: int) -> Detector:
    """Put a head on three maps: an eighth, a sixteenth and a thirty-second of the image."""
    anchors = AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
    head = FCOSHead(CHANNELS, num_anchors=1, num_classes=num_classes + 1, num_convs=num_convs)
    return make_detector(FCOS(backbone, num_classes + 1, anchor_generator=anchors, head=head))
