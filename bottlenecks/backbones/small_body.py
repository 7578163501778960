"""A narrow residual body of torchvision's blocks, for networks that learn small images from scratch in minutes."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn
from torchvision.models.resnet import BasicBlock
from torchvision.ops.misc import Conv2dNormActivation

WIDTHS = (32, 64, 128)  # channels of layer1, layer2 and layer3: a quarter, an eighth and a sixteenth of the image


def small_body() -> nn.Sequential:
    """Build it: images (N, 3, H, W) to (N, 128, H/16, W/16)."""
    first, second, third = WIDTHS
    return nn.Sequential(
        OrderedDict(
            stem=Conv2dNormActivation(3, first, stride=2),
            layer1=_block(first, first),
            layer2=_block(first, second),
            layer3=_block(second, third),
        )
    )


def _block(inputs: int, outputs: int) -> BasicBlock:
    shortcut = Conv2dNormActivation(inputs, outputs, kernel_size=1, stride=2, activation_layer=None)
    return BasicBlock(inputs, outputs, stride=2, downsample=shortcut)
