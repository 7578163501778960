"""Detection networks that can be cut."""

from typing import Any

from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.ssd import SSD

from bottlenecks.backbones.detectors.base import Detector, Heads
from bottlenecks.backbones.detectors.one_stage import FCOSHeads, RetinaNetHeads, SSDHeads
from bottlenecks.backbones.detectors.two_stage import FasterRCNNHeads

FAMILIES: dict[type, type[Heads]] = {
    RetinaNet: RetinaNetHeads,
    FCOS: FCOSHeads,
    SSD: SSDHeads,
    FasterRCNN: FasterRCNNHeads,
}


def make_detector(model: Any) -> Detector:
    """Make a network that can be cut of a torchvision detector, which is used up.

    Args:
        model: a `RetinaNet`, `FCOS`, `SSD` or `FasterRCNN` of `torchvision.models.detection`.
    """
    return Detector(model, FAMILIES[type(model)](model))


__all__ = ["Detector", "Heads", "make_detector"]
