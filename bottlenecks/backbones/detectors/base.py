"""A detector that can be cut: torchvision's backbone as it is, and everything after it as one node of the graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList

from bottlenecks.backbones.detectors.foreign import own_name
from bottlenecks.errors import UsageError

Reading = Literal["sigmoid", "softmax"]
CANDIDATES = 1000  # boxes of an image that are left for a bundle's suppression


class Heads(nn.Module, ABC):
    """What a detector does with the features of its backbone. A graph takes it for one node.

    Attributes:
        scores: entries of the raw outputs that are class scores (logits), and how they are to be read.
        regressions: entries that say where boxes lie.
        model: torchvision's detector without its backbone.
        divisor: torchvision pads images, below and at the right, to multiples of it.
    """

    scores: ClassVar[Mapping[str, Reading]]
    regressions: ClassVar[tuple[str, ...]]
    is_leaf: ClassVar[bool] = True  # of graphs

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.divisor: int = model.transform.size_divisible

    def forward(self, features: dict[str, Tensor], height: int, width: int) -> dict[str, Tensor]:
        """Compute the raw outputs.

        Args:
            features: the backbone's maps by name, (N, C, h, w) each, the finest first.
            height: of the images, in pixels, before padding.
            width: likewise.

        Returns:
            What `raw` gives, `image_size` (N, 2) and `level_sizes` (N, levels, 2), height first.
        """
        maps = list(features.values())
        return {
            **self.raw(features, height, width),
            "image_size": _for_each((height, width), maps[0]),
            "level_sizes": _for_each([tuple(one.shape[-2:]) for one in maps], maps[0]),
        }

    @abstractmethod
    def raw(self, features: dict[str, Tensor], height: int, width: int) -> dict[str, Tensor]:
        """Compute scores, regressions and what else `detections` and `losses` need, (N, ...) each."""

    @abstractmethod
    def detections(self, outputs: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Turn raw outputs into what torchvision's detector gives: boxes, scores and labels of each image."""

    @abstractmethod
    def losses(self, outputs: Mapping[str, Tensor], target: dict[str, Tensor], anchors: Tensor) -> dict[str, Tensor]:
        """Compute torchvision's training losses of one image.

        Args:
            outputs: its raw outputs, (1, ...) each.
            target: its `boxes` (M, 4) in pixels and `labels` (M,), counted from 1.
            anchors: what `anchors` gives, (A, 4).
        """

    def candidates(self, outputs: Mapping[str, Tensor], anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Decode every place's box (N, A, 4) and its scores (N, A, object classes), 0..1, nothing suppressed.

        Raises:
            UsageError: what the detector finds depends on what it proposes.
        """
        raise UsageError(
            f"model={type(self.model).__name__}: two stages have no ONNX form here; take a one-stage model"
        )

    @property
    def threshold(self) -> float:
        """Score above which a box is given."""
        return float(self.model.score_thresh)

    @property
    def overlap(self) -> float:
        """Intersection over union above which the less sure of two boxes is suppressed."""
        return float(self.model.nms_thresh)

    @property
    @abstractmethod
    def detections_per_image(self) -> int:
        """The most boxes that one image gets."""

    @property
    @abstractmethod
    def anchor_generator(self) -> Any:
        """Torchvision's generator of the boxes that regressions start from."""

    def anchors(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Lay out the boxes that regressions start from, (A, 4): the same for all images of one size."""
        height, width = (size + -size % self.divisor for size in _image_size(outputs))
        reference = outputs[self.regressions[0]]
        maps = [reference.new_empty(0, 0, *size) for size in outputs["level_sizes"][0].tolist()]
        image = ImageList(reference.new_empty(0, 0, height, width), [(height, width)])
        return self.anchor_generator(image, maps)[0]

    def anchors_per_level(self, outputs: Mapping[str, Tensor]) -> list[int]:
        """Count the anchors of each level."""
        sizes, counts = outputs["level_sizes"][0].tolist(), self.anchor_generator.num_anchors_per_location()
        return [height * width * count for (height, width), count in zip(sizes, counts, strict=True)]

    def image_sizes(self, outputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
        """Height and width of each image, as torchvision takes them."""
        return [_image_size(outputs)] * len(outputs["image_size"])


class Detector(nn.Module):
    """A detection network: images (N, 3, H, W) to raw outputs, before anything is suppressed.

        images -> backbone (traced, can be cut) -> heads (one node) -> raw outputs | predict -> boxes, or loss

    Images come prepared; torchvision's own resizing and normalisation are not used. Its padding is part of the
    network.

    Args:
        model: torchvision's detector; its backbone is taken out of it.
        heads: made of the same detector.

    Attributes:
        backbone: image to features by name.
        heads: features to raw outputs.
    """

    def __init__(self, model: Any, heads: Heads) -> None:
        super().__init__()
        self.backbone = model.backbone
        del model.backbone
        self.heads = heads

    @property
    def scores(self) -> Mapping[str, Reading]:
        """Entries of the raw outputs that are class scores (logits), and how they are to be read."""
        return self.heads.scores

    @property
    def regressions(self) -> tuple[str, ...]:
        """Entries of the raw outputs that say where boxes lie."""
        return self.heads.regressions

    @property
    def transform(self) -> Any:
        """Torchvision's preparation of images, which tells size, mean and standard deviation."""
        return self.heads.model.transform

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the raw outputs, (N, ...) each, of images (N, 3, H, W) of any size."""
        height, width = images.shape[-2], images.shape[-1]
        if self.heads.divisor > 1:
            images = F.pad(images, (0, -width % self.heads.divisor, 0, -height % self.heads.divisor))
        features = self.backbone(images)
        return self.heads(dict(features) if isinstance(features, dict) else {"0": features}, height, width)

    @torch.no_grad()
    def predict(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn raw outputs into boxes as torchvision's detector does, with its thresholds and suppression.

        Args:
            outputs: of one batch, or of several of one image size, concatenated.

        Returns:
            `boxes` (N, D, 4) as x1, y1, x2, y2 in pixels of the input, `scores` (N, D), falling, and `labels` (N, D),
            counted from 0 without the background; with score 0 and label -1 where an image has fewer boxes.
        """
        most = self.heads.detections_per_image
        padded = [_pad(_objects(one), most) for one in self.heads.detections(_precise(outputs))]
        return {name: torch.stack([one[name] for one in padded]) for name in ("boxes", "scores", "labels")}

    def last_steps(self, example: Mapping[str, Tensor]) -> Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]:
        """Return `predict` up to the suppression of doubles, for images of one size, as `torch.export` takes it.

        Args:
            example: raw outputs for such an image.

        Returns:
            From raw outputs to boxes (N, K, 4), scores (N, K), falling and 0 where below the detector's threshold,
            labels (N, K) int64, counted from 0, and (N, 2): the overlap above which a box is suppressed, and the
            most boxes that are given.

        Raises:
            UsageError: the detector has two stages.
        """
        anchors, heads = self.heads.anchors(example), self.heads
        height, width = _image_size(example)
        num_objects = heads.candidates(example, anchors)[1][0].numel()
        most = min(CANDIDATES, num_objects)
        limits = torch.tensor([width, height, width, height], dtype=torch.float32)
        rules = torch.tensor([heads.overlap, float(heads.detections_per_image)])

        def steps(outputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
            boxes, scores = heads.candidates(outputs, anchors)
            num_classes = scores.shape[2]
            sure = torch.where(scores > heads.threshold, scores, 0.0).flatten(1)
            top, places = sure.topk(most, 1)
            chosen = boxes.clamp_min(0).minimum(limits).gather(1, (places // num_classes)[..., None].expand(-1, -1, 4))
            return chosen, top, places % num_classes, rules.expand(top.shape[0], 2)

        return steps

    def loss(self, outputs: Mapping[str, Tensor], targets: Tensor) -> Tensor:
        """Compute the loss that torchvision trains its detector with, of each image alone.

        Args:
            outputs: raw outputs.
            targets: (N, M, 5), rows of class counted from 0, x1, y1, x2, y2 in pixels; class -1 in rows that fill up.

        Returns:
            The sum of the detector's losses, (N,).

        Raises:
            UsageError: a box has no area.
        """
        outputs = _precise(outputs)
        anchors, losses = self.heads.anchors(outputs), []
        for index, target in enumerate(_read_targets(targets)):
            image = {name: tensor[index : index + 1] for name, tensor in outputs.items()}
            losses.append(torch.stack(list(self.heads.losses(image, target, anchors).values())).sum())
        return torch.stack(losses)

    def own_names(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Name the tensors of a plain torchvision detector as this one does; own names stay."""
        expected = self.state_dict()
        return {own_name(name, expected): tensor for name, tensor in state.items()}


def _for_each(values: Any, images: Tensor) -> Tensor:
    """Repeat numbers for each image, (N, ...)."""
    tensor = torch.tensor(values, device=images.device)
    return tensor.expand(images.shape[0], *tensor.shape)  # len() would fix the number where this is exported


def _image_size(outputs: Mapping[str, Tensor]) -> tuple[int, int]:
    height, width = outputs["image_size"][0].tolist()
    return height, width


def _precise(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in outputs.items()}


def _objects(detections: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out what is called background, and count labels from 0."""
    kept = detections["labels"] > 0
    return {name: tensor[kept] - int(name == "labels") for name, tensor in detections.items()}


def _pad(detections: Mapping[str, Tensor], length: int) -> dict[str, Tensor]:
    missing = length - len(detections["scores"])
    return {
        "boxes": F.pad(detections["boxes"], (0, 0, 0, missing)),
        "scores": F.pad(detections["scores"], (0, missing)),
        "labels": F.pad(detections["labels"], (0, missing), value=-1),
    }


def _read_targets(targets: Tensor) -> Iterator[dict[str, Tensor]]:
    """Write targets (N, M, 5) as torchvision takes them: labels from 1, no rows that fill up."""
    for rows in targets:
        rows = rows[rows[:, 0] >= 0]
        if (rows[:, 3:] <= rows[:, 1:3]).any():
            raise UsageError(f"targets={rows.tolist()}: a box without area; expected x1 < x2 and y1 < y2 in every row")
        yield {"boxes": rows[:, 1:], "labels": rows[:, 0].long() + 1}
