"""Features of timm's networks, as torchvision's heads for detection and segmentation take them."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from types import ModuleType

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from bottlenecks.errors import UsageError


class TimmFeatures(nn.Module):
    """The maps of a timm network at some depths, by name.

    Args:
        architecture: timm's name of the network.
        depths: name of a map -> how often its sides are half the image's: 3 for an eighth.
        output_stride: the deepest maps become no smaller than this part of the image.

    Attributes:
        body: the network without what classifies, its tensors named as in timm.
        channels: of each map.
    """

    def __init__(self, architecture: str, depths: dict[str, int], output_stride: int = 32) -> None:
        super().__init__()
        indices = tuple(depth - 1 for depth in depths.values())
        self.body = import_timm().create_model(
            architecture, features_only=True, out_indices=indices, output_stride=output_stride
        )
        self.names = tuple(depths)
        self.channels: list[int] = self.body.feature_info.channels()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the maps of images (N, 3, H, W), (N, C, h, w) each."""
        return OrderedDict(zip(self.names, self.body(images), strict=True))


class TimmPyramid(TimmFeatures):
    """A feature pyramid over a timm network: an eighth, a sixteenth and a thirty-second of the image.

    Args:
        architecture: timm's name of the network.
        out_channels: of each map.
    """

    def __init__(self, architecture: str, out_channels: int) -> None:
        super().__init__(architecture, {"0": 3, "1": 4, "2": 5})
        self.fpn = FeaturePyramidNetwork(self.channels, out_channels)
        self.out_channels = out_channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the maps of images (N, 3, H, W), (N, out_channels, h, w) each."""
        return self.fpn(super().forward(images))


def import_timm() -> ModuleType:
    """Import timm, which is optional."""
    try:
        return importlib.import_module("timm")
    except ImportError:
        raise UsageError("model.library=timm: timm is not installed; pip install 'bottlenecks[timm]'") from None
