"""A network with a bottleneck in it: head, a ladder of units, tail; the rate changes, the network stays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bottlenecks.backbones.backbone import load_backbone
from bottlenecks.coding.bitstream import BitstreamError, disclose, enclose, peek_fingerprint, peek_multiplier
from bottlenecks.errors import UsageError
from bottlenecks.images.given import read_preprocessing
from bottlenecks.images.tensors import check_batch, check_finite
from bottlenecks.rates.ladder import Ladder
from bottlenecks.rates.manifest import is_shared
from bottlenecks.rates.rate import Rate
from bottlenecks.settings.model import BackboneSpec, is_file, with_weights
from bottlenecks.settings.shared import as_shared
from bottlenecks.shapes import flat
from bottlenecks.splitting.cut import SplitNetwork, cut
from bottlenecks.splitting.features import cat
from bottlenecks.tasks import make_task
from bottlenecks.units.base import MAX_SCALE
from bottlenecks.values import check_kind, plain_value

BYTES = (bytes, bytearray, memoryview)
GIVEN_BY_ENCODE = "give what encode gave, as [stream]"


class BottleneckNetwork:
    """A frozen network, cut, with the rates that were trained for the cut.

        images -> head -> unit of the current lambda -> bytes | bytes -> the unit they name -> tail -> output

    Choosing another rate is one assignment: `network.lmbda = 0.03`, any number in the range of a unit of any rate. It
    takes effect from the next image on, copies
    nothing, and other threads may encode meanwhile. Every byte string says which rate it is, so what `decode` takes
    can be of any mix of rates.

    Args:
        network: the cut network.
        ladder: the rates.
        backbone: the network before it was cut, which some tasks need to make predictions of its output.
    """

    __slots__ = ("__weakref__", "_most", "_rate", "class_names", "ladder", "network", "preprocessing", "task")

    def __init__(self, network: SplitNetwork, ladder: Ladder, backbone: nn.Module | None = None) -> None:
        self.network, self.ladder = network, ladder
        self.preprocessing = read_preprocessing(ladder.info.preprocessing)
        self.class_names = ladder.info.class_names
        spec = BackboneSpec.read(ladder.info.backbone, "the rates")
        self.task = make_task(spec.task, backbone, spec.task_settings)
        self._rate: Rate = ladder[max(ladder)]
        self._most = MAX_SCALE * max([1, *tree_leaves(network.usual_sizes)])  # the largest size that is taken

    @classmethod
    def load(cls, folder: str | Path, weights: str | Path | None = None, unit: str | None = None) -> BottleneckNetwork:
        """Load a folder of rates and the backbone they were trained around.

        Of a folder that `bottlenecks push` wrote every file is held against its manifest first, and its network is
        built from names that libraries and this project know, never from a path to code.

        Args:
            folder: such as `checkpoints/resnet50/layer3/digits`.
            weights: of the backbone, where they do not lie where they did in training.
            unit: whose rates; None for the default unit's where it has any, else for those that lie there.

        Raises:
            CheckpointError: there are no rates, or they are for other weights.
            UsageError: the backbone cannot be had, or files of a shared ladder are not those that were pushed.
        """
        ladder = Ladder.load(folder, unit)
        info = ladder.info
        spec = BackboneSpec.read(info.backbone, str(folder))
        shared = any(is_shared(rate.folder) for rate in ladder.files)
        if shared:
            spec = as_shared(spec)
        if weights is not None:
            spec = with_weights(spec, weights)
        elif shared and is_file(spec.weights):
            raise UsageError(
                f"weights: {folder} is for {info.model} {info.backbone_fingerprint} with weights of a file, "
                f"{spec.weights}, which is not shared; give it as weights=FILE, --weights FILE on the command line"
            )
        elif is_file(spec.weights):
            spec = with_weights(spec, Path(ladder[min(ladder)].folder, spec.weights).resolve())
        backbone = load_backbone(spec, len(info.class_names) or None, read_preprocessing(info.preprocessing))
        network = cut(backbone.network, info.split, torch.zeros(1, *info.image_shape), several=True)
        ladder.check_network(network, backbone.fingerprint, backbone.source)
        return cls(network, ladder, backbone.network)

    @property
    def lmbda(self) -> float:
        """The rate that `encode` uses."""
        return self._rate.lmbda

    @lmbda.setter
    def lmbda(self, value: float) -> None:
        self._rate = self.ladder[value]

    @torch.no_grad()
    def encode(self, images: Tensor, cuttable: bool = False) -> list[bytes]:
        """Do the device's part: images (N, 3, H, W) to one byte string each, at the current rate.

        Args:
            images: of the network's input.
            cuttable: let `decode` take the beginning of a byte string for all of it, as far as it goes; what is worth
                most comes first. Nothing tells then whether the payload was damaged on its way.

        Raises:
            UsageError: these are no images as the network takes them.
            ValueError: byte strings of this unit cannot be cut.
        """
        self._check(images)
        side = self.network.side_information(images)
        return [enclose(frame, side) for frame in self._rate.compress(self.network.head(images), cuttable)]

    @torch.no_grad()
    def encode_within(self, image: Tensor, budget_bytes: int) -> bytes:
        """Code an image (1, 3, H, W) at the finest rate whose actual bytes fit, whatever the current one is.

        Args:
            image: of the network's input.
            budget_bytes: header included.

        Raises:
            UsageError: no rate fits, or this is not one image as the network takes it.
        """
        self._check(image, "image")
        if len(image) != 1:
            raise UsageError(f"image: there are {len(image)}, expected one; give them one by one, as images[:1]")
        budget_bytes = plain_value(budget_bytes)
        check_kind("budget_bytes", budget_bytes, (int, float), "say how many bytes the image may take")
        side, features = self.network.side_information(image), self.network.head(image)
        room = budget_bytes - len(enclose(b"", side))
        tried = [rate.compress_within(features, room) for rate in self.ladder.files]
        fitting = [one for one in tried if len(one[1]) <= room]
        if not fitting:
            smallest, frame = min(tried, key=lambda one: len(one[1]))
            raise UsageError(
                f"a budget of {budget_bytes} bytes: no rate fits; lambda={smallest.lmbda!r} takes the fewest bytes for "
                f"this image, {len(enclose(frame, side))}; give it more, or train a coarser rate"
            )
        return enclose(max(fitting, key=lambda one: one[0].lmbda)[1], side)

    @torch.no_grad()
    def decode(self, streams: Iterable[bytes | bytearray | memoryview]) -> Any:
        """Do the server's part: byte strings of any rates, of images of one size, to the network's output.

        What users want of it is `network.task.predict(output)`.

        Raises:
            BitstreamError: a stream is damaged, of none of these rates, or of another size than the others.
            UsageError: there is none, or they are no byte strings.
        """
        if isinstance(streams, BYTES):
            raise UsageError("streams: expected several byte strings, got one; give it as [stream]")
        check_kind("streams", streams, Iterable, GIVEN_BY_ENCODE)
        streams = list(streams)
        for index, stream in enumerate(streams):
            check_kind(f"streams[{index}]", stream, BYTES, GIVEN_BY_ENCODE)
        if not streams:
            raise UsageError("streams: there are none; give one byte string or more")
        opened = [disclose(bytes(stream), self._most) for stream in streams]
        units = [self.rate_of(frame).unit for frame, _ in opened]
        features = [unit.decompress([frame]) for unit, (frame, _) in zip(units, opened, strict=True)]
        sizes = {unit.size_of(one) for unit, one in zip(units, features, strict=True)}
        if len(sizes) != 1:
            raise BitstreamError(f"one batch must have one size; the features of these have {sorted(map(flat, sizes))}")
        travelled = {side for _, side in opened}
        if len(travelled) != 1:
            raise BitstreamError(f"one batch must have one size; the images of these have {sorted(travelled)}")
        try:
            return self.network.finish_with(cat(features), travelled.pop())
        except ValueError as error:
            raise BitstreamError(str(error)) from None

    def rate_of(self, stream: bytes) -> Rate:
        """Return which rate coded a byte string.

        Raises:
            BitstreamError: it is of none of these rates.
        """
        frame = disclose(stream)[0]
        fingerprint = peek_fingerprint(frame)
        rate = self.ladder.of(fingerprint, peek_multiplier(frame))
        if rate is None:
            raise BitstreamError(f"this stream is for the unit {fingerprint.hex()}, which is none of this ladder's")
        return rate

    def _check(self, images: Tensor, argument: str = "images") -> None:
        """Refuse what the network does not take.

        Raises:
            UsageError: it is such.
        """
        floats = (one.dtype for one in self.network.parameters() if one.is_floating_point())
        check_batch(argument, images, self.ladder.info.image_shape[0], next(floats, torch.float32))
        check_finite(argument, images)
