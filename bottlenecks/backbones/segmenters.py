"""Segmentation networks besides torchvision's."""

from __future__ import annotations

from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation import LRASPP

from bottlenecks.backbones.small_body import WIDTHS, small_body
from bottlenecks.backbones.timm_features import TimmFeatures


def small_lraspp(num_classes: int = 11) -> LRASPP:
    """Build a lite R-ASPP head on a narrow residual body, for images of about 128 pixels and no pretrained weights.

    Args:
        num_classes: number of classes, with the background.
    """
    features = IntermediateLayerGetter(small_body(), {"layer1": "low", "layer3": "high"})
    return LRASPP(features, WIDTHS[0], WIDTHS[-1], num_classes)


def timm_lraspp(num_classes: int = 21, architecture: str = "tf_efficientnet_lite0") -> LRASPP:
    """Build a lite R-ASPP head over the features of a timm network, dilated to a sixteenth of the image.

    Args:
        num_classes: number of classes, with the background.
        architecture: timm's name of the network.
    """
    features = TimmFeatures(architecture, {"low": 3, "high": 5}, output_stride=16)
    return LRASPP(features, *features.channels, num_classes=num_classes)
