"""Detectors of one stage: scores and boxes at every place of the features, nothing after them but suppression."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from bottlenecks.backbones.detectors.base import Heads, Reading


class OneStageHeads(Heads):
    """Heads whose raw outputs are all that boxes are made of."""

    scores: ClassVar[Mapping[str, Reading]] = {"cls_logits": "sigmoid"}
    regressions: ClassVar[tuple[str, ...]] = ("bbox_regression",)

    def raw(self, features: dict[str, Tensor], height: int, width: int) -> dict[str, Tensor]:
        """Compute logits (N, A, classes with background) and regressions (N, A, 4)."""
        return self.model.head(list(features.values()))

    @property
    def detections_per_image(self) -> int:
        """The most boxes that one image gets."""
        return self.model.detections_per_img

    @property
    def anchor_generator(self) -> Any:
        """Torchvision's generator of the boxes that regressions start from."""
        return self.model.anchor_generator

    def head_outputs(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take what torchvision's head gave out of the raw outputs."""
        return {name: outputs[name] for name in (*self.scores, *self.regressions)}


class RetinaNetHeads(OneStageHeads):
    """RetinaNet: independent scores for all classes, anchors of several sizes a place."""

    def detections(self, outputs: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Keep the best of each level, then suppress what overlaps.

        Torchvision would count boxes of the background among the most that an image gets; here they take no place.
        """
        objects = F.pad(outputs["cls_logits"][..., 1:], (1, 0), value=-math.inf)
        outputs = {**outputs, "cls_logits": objects}
        counts, sizes = self.anchors_per_level(outputs), self.image_sizes(outputs)
        levels = {name: list(tensor.split(counts, 1)) for name, tensor in self.head_outputs(outputs).items()}
        anchors = list(self.anchors(outputs).split(counts))
        return self.model.postprocess_detections(levels, [anchors] * len(sizes), sizes)

    def losses(self, outputs: Mapping[str, Tensor], target: dict[str, Tensor], anchors: Tensor) -> dict[str, Tensor]:
        """Focal loss of the scores and L1 loss of the boxes."""
        return self.model.compute_loss([target], self.head_outputs(outputs), [anchors])

    def candidates(self, outputs: Mapping[str, Tensor], anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Decode boxes, and take the scores of the classes."""
        regression, scores = outputs["bbox_regression"], outputs["cls_logits"].sigmoid()
        repeated = anchors.repeat(regression.shape[0], 1)
        boxes = self.model.box_coder.decode_single(regression.flatten(0, 1), repeated)
        return boxes.view(regression.shape[0], -1, 4), scores[..., 1:]


class FCOSHeads(RetinaNetHeads):
    """FCOS: scores, the distances to a box's four sides, and how central a place is in it."""

    scores: ClassVar[Mapping[str, Reading]] = {"cls_logits": "sigmoid", "bbox_ctrness": "sigmoid"}

    def losses(self, outputs: Mapping[str, Tensor], target: dict[str, Tensor], anchors: Tensor) -> dict[str, Tensor]:
        """Focal loss of the scores, GIoU loss of the boxes, cross-entropy of the centre-ness."""
        counts = self.anchors_per_level(outputs)
        return self.model.compute_loss([target], self.head_outputs(outputs), [anchors], counts)

    def candidates(self, outputs: Mapping[str, Tensor], anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Decode boxes, and take the geometric mean of class score and centre-ness."""
        scores = (outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid()).sqrt()
        return self.model.box_coder.decode(outputs["bbox_regression"], anchors), scores[..., 1:]


class SSDHeads(OneStageHeads):
    """SSD: one distribution over classes and background for every default box."""

    scores: ClassVar[Mapping[str, Reading]] = {"cls_logits": "softmax"}

    def detections(self, outputs: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Keep the best of each class, then suppress what overlaps."""
        sizes = self.image_sizes(outputs)
        anchors = [self.anchors(outputs)] * len(sizes)
        return self.model.postprocess_detections(self.head_outputs(outputs), anchors, sizes)

    def losses(self, outputs: Mapping[str, Tensor], target: dict[str, Tensor], anchors: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the boxes that match and of the worst others, smooth L1 loss of those that match."""
        matches = [self._match(target["boxes"], anchors)]
        return self.model.compute_loss([target], self.head_outputs(outputs), [anchors], matches)

    def _match(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        if not len(boxes):
            return boxes.new_full((len(anchors),), -1).long()
        return self.model.proposal_matcher(box_iou(boxes, anchors))

    def candidates(self, outputs: Mapping[str, Tensor], anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Decode boxes, and take the probabilities of the classes."""
        regression = outputs["bbox_regression"]
        boxes = self.model.box_coder.decode_single(regression.flatten(0, 1), anchors.repeat(regression.shape[0], 1))
        return boxes.view(regression.shape[0], -1, 4), outputs["cls_logits"].softmax(2)[..., 1:]
