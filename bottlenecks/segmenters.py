"""Segmentation networks besides torchvision's."""

from __future__ import annotations

from torchvision.models.segmentation import LRASPP

from bottlenecks.timm_features import TimmFeatures


def timm_lraspp(num_classes: int = 21, architecture: str = "tf_efficientnet_lite0") -> LRASPP:
    """Build a lite R-ASPP head over the features of a timm network, dilated to a sixteenth of the picture.

    Args:
        num_classes: number of classes, with the background.
        architecture: timm's name of the network.
    """
    features = TimmFeatures(architecture, {"low": 3, "high": 5}, output_stride=16)
    return LRASPP(features, *features.channels, num_classes=num_classes)
