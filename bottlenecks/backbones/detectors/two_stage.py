"""Faster R-CNN: a first stage proposes regions, a second one classifies and refines them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import roi_align

from bottlenecks.backbones.detectors.base import Heads, Reading

GRID = (1, 2, 4)  # regions of the grid: their sides as parts of the image's
MAP = "features_"  # entries of the raw outputs that are the backbone's maps


class FasterRCNNHeads(Heads):
    """Raw outputs at places that the image's size alone decides.

    Those of the second stage depend on the proposals, so that two networks would be compared at different places.
    Here they are taken at a fixed grid of regions: the image, its halves and its quarters, each overlapping the next
    by half. `detections` and `losses` run torchvision's own second stage from the backbone's maps, which are
    among the raw outputs.
    """

    scores: ClassVar[Mapping[str, Reading]] = {"objectness": "sigmoid", "class_logits": "softmax"}
    regressions: ClassVar[tuple[str, ...]] = ("rpn_regression", "box_regression")

    @property
    def detections_per_image(self) -> int:
        """The most boxes that one image gets."""
        return self.model.roi_heads.detections_per_img

    @property
    def anchor_generator(self) -> Any:
        """Torchvision's generator of the boxes that proposals start from."""
        return self.model.rpn.anchor_generator

    def raw(self, features: dict[str, Tensor], height: int, width: int) -> dict[str, Tensor]:
        """Compute the first stage at all anchors, the second one at the grid, R regions.

        Returns:
            `objectness` (N, A, 1), `rpn_regression` (N, A, 4), `class_logits` (N, R, classes with background),
            `box_regression` (N, R, 4 times as many), and the maps.
        """
        count = next(iter(features.values())).shape[0]
        objectness, rpn_regression = concat_box_prediction_layers(*self.model.rpn.head(list(features.values())))
        class_logits, box_regression = self._at_grid(features, height, width)
        by_image = {
            "objectness": objectness,
            "rpn_regression": rpn_regression,
            "class_logits": class_logits,
            "box_regression": box_regression,
        }
        return {
            **{name: tensor.reshape(count, -1, tensor.shape[-1]) for name, tensor in by_image.items()},
            **{MAP + name: tensor for name, tensor in features.items()},
        }

    def detections(self, outputs: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Propose regions, classify and refine them, and suppress what overlaps."""
        with self._stages(training=False):
            detections, _ = self.model.roi_heads(_maps(outputs), self._proposals(outputs), self.image_sizes(outputs))
        return detections

    def losses(self, outputs: Mapping[str, Tensor], target: dict[str, Tensor], anchors: Tensor) -> dict[str, Tensor]:
        """Losses of both stages, at anchors and proposals drawn at random (torch's global generator)."""
        rpn = self.model.rpn
        labels, matched = rpn.assign_targets_to_anchors([anchors], [target])
        objectness, boxes = rpn.compute_loss(
            outputs["objectness"].flatten(0, 1),
            outputs["rpn_regression"].flatten(0, 1),
            labels,
            rpn.box_coder.encode(matched, [anchors]),
        )
        with self._stages(training=True):
            sizes = self.image_sizes(outputs)
            _, losses = self.model.roi_heads(_maps(outputs), self._proposals(outputs), sizes, [target])
        return {"loss_objectness": objectness, "loss_rpn_box_reg": boxes, **losses}

    def _proposals(self, outputs: Mapping[str, Tensor]) -> list[Tensor]:
        rpn, sizes = self.model.rpn, self.image_sizes(outputs)
        regression = outputs["rpn_regression"].detach().flatten(0, 1)
        proposals = rpn.box_coder.decode(regression, [self.anchors(outputs)] * len(sizes)).view(len(sizes), -1, 4)
        return rpn.filter_proposals(proposals, outputs["objectness"], sizes, self.anchors_per_level(outputs))[0]

    @contextmanager
    def _stages(self, training: bool) -> Iterator[None]:
        """Let both stages, but no layer in them, behave as in training or not, for images of any size."""
        stages = (self.model.rpn, self.model.roi_heads)
        before = [stage.training for stage in stages]
        self.model.roi_heads.box_roi_pool.scales = None  # it would keep those of the first image
        for stage in stages:
            stage.training = training
        try:
            yield
        finally:
            for stage, mode in zip(stages, before, strict=True):
                stage.training = mode

    def _at_grid(self, features: dict[str, Tensor], height: int, width: int) -> tuple[Tensor, Tensor]:
        """Run the second stage at the grid: logits and regressions, (N, R, ...)."""
        heads = self.model.roi_heads
        pooled = [self._pool(features, height, width, parts) for parts in GRID]
        count = pooled[0].shape[0]
        regions = torch.cat(pooled, 1).flatten(0, 1)
        logits, regression = heads.box_predictor(heads.box_head(regions))
        return logits.view(count, -1, logits.shape[-1]), regression.view(count, -1, regression.shape[-1])

    def _pool(self, features: dict[str, Tensor], height: int, width: int, parts: int) -> Tensor:
        """Pool the regions of one size from the map that torchvision would take them from, (N, regions, C, 7, 7)."""
        pool = self.model.roi_heads.box_roi_pool
        maps = [features[name] for name in features if name in pool.featmap_names]
        octaves = [-round(math.log2(one.shape[-2] / height)) for one in maps]
        size = math.sqrt(height * width) / parts
        level = math.floor(pool.canonical_level + math.log2(size / pool.canonical_scale) + 1e-6)
        chosen = maps[min(max(level, octaves[0]), octaves[-1]) - octaves[0]]
        boxes = chosen.new_tensor(list(_regions(height, width, parts)))
        scale = 2.0 ** -min(max(level, octaves[0]), octaves[-1])
        found = roi_align(chosen, [boxes] * len(chosen), pool.output_size, scale, pool.sampling_ratio)
        return found.view(chosen.shape[0], len(boxes), *found.shape[1:])


def _regions(height: int, width: int, parts: int) -> Iterator[tuple[float, float, float, float]]:
    """Boxes of one size that cover the image, each overlapping the next by half."""
    tall, wide = height / parts, width / parts
    for row in range(2 * parts - 1):
        for column in range(2 * parts - 1):
            top, left = row * tall / 2, column * wide / 2
            yield left, top, left + wide, top + tall


def _maps(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(MAP): tensor for name, tensor in outputs.items() if name.startswith(MAP)}
