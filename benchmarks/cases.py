"""The cases that units and other codecs are compared on, and the parts that a comparison is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

CODECS = ("hevc", "lightweight", "lightweight_uniform", "uniform", "jpeg", "webp", "av1", "hevc_image")
RANGE = "range"
UNITS = {
    "transform": ("unit=transform",),
    "closed": ("unit=transform", "training.epochs=0"),
    RANGE: ("unit=transform", "unit.range=true"),
    "factorized": ("unit=factorized",),
}
SEEDS = {"transform": 3}  # of others one, and of a unit of any rate where a case says more
DATA = "{data}"  # in settings: the folder that the data lies in
LEARNT = (  # a joint transform, which is large beside so small a network, and labels
    "data.limit_train=45000", "loss.ce=1", "training.epochs=4", "unit.structure=joint", "unit.max_bytes=1.0",
)  # fmt: skip
FINE = ("unit.stride=1", "unit.latent_channels=40", "lambda=[0.03,0.1,0.3,1.0]")


@dataclass(frozen=True)
class Case:
    """A network, its cut and its data, as docs/evaluation.md and docs/dense.md have them.

    Attributes:
        name: of the folder.
        title: for readers.
        network: settings of every command.
        former: recipe of the former default unit, its lambdas included.
        lambdas: of the ladders of the default unit.
        training: settings of `train.py` alone, of the default unit.
        backbone: settings with which the network is trained first; None where its weights are given.
        evaluating: settings of `evaluate.py` alone.
        agreement: with the unsplit network, at which bytes are told, too.
        range_seeds: of the unit of any rate; several where there are too few images to tell its curve from a ladder's.
    """

    name: str
    title: str
    network: tuple[str, ...]
    former: tuple[str, ...]
    lambdas: tuple[float, ...] = (0.0003, 0.001, 0.003, 0.01, 0.03)
    training: tuple[str, ...] = ()
    backbone: tuple[str, ...] | None = None
    evaluating: tuple[str, ...] = ()
    agreement: float | None = None
    range_seeds: int = 1


CASES = (
    Case(
        "cifar10",
        "CIFAR-10, ResNet-50 at `layer3`",
        (
            "model=resnet50", "split=layer3", f"model.weights={DATA}/resnet50-cifar10-64.safetensors", "data=cifar10",
            f"data.root={DATA}/cifar10", "data.limit_train=6000", "data.limit_val=500", "data.limit_test=1000",
        ),
        former=("training.epochs=10", "lambda=[0.001,0.003,0.01,0.03,0.1]"),
    ),
    Case(
        "imagenet-sample",
        "A sample of ImageNet, EfficientNet-lite0 at `blocks.4`",
        (
            "model=efficientnet_lite0", "split=blocks.4", "data=imagenet", f"data.root={DATA}/imagenet-sample",
            "data.held_back=60",
        ),
        former=(
            "unit.stride=1", "data.augment=true", "data.views=4", "data.batch_size=16", "loss.mse=1",
            "training.lr=1e-3", "training.entropy_lr=1e-2", "training.epochs=14",
            "lambda=[0.0003,0.001,0.003,0.01,0.03]",
        ),
        lambdas=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
        agreement=0.9,
        range_seeds=3,
    ),
    Case(
        "camvid",
        "CamVid, lite R-ASPP on EfficientNet-lite0 at `backbone.body.blocks.2`",
        (
            "model=lraspp_lite0", "split=backbone.body.blocks.2", "data=camvid", f"data.root={DATA}/camvid",
            "data.image_size=[120,160]",
        ),
        former=(*FINE, "training.epochs=3"),
        lambdas=(0.003, 0.01, 0.03, 0.3, 1.0),
        backbone=("data.augment=true", "backbone.epochs=12"),
    ),
    Case(
        "bccd",
        "BCCD, FCOS on EfficientNet-lite0 at `backbone.body.blocks.4`",
        (
            "model=fcos_lite0", "split=backbone.body.blocks.4", "data=bccd", f"data.root={DATA}/bccd",
            "data.image_size=[224,224]",
        ),
        former=(*FINE, "training.epochs=4"),
        lambdas=(0.01, 0.03, 0.1, 1.0, 10.0),
        backbone=("data.augment=true", "backbone.epochs=8"),
        evaluating=("calibration_images=4",),
    ),
    Case(
        "digits",
        "Digits, ResNet-50 at `layer3`",
        ("model=resnet50", "split=layer3", "data=digits"),
        former=("lambda=[0.0003,0.001,0.003,0.01,0.03]",),
        lambdas=(0.0003, 0.0007, 0.001, 0.003, 0.01),
        backbone=(),
    ),
    Case(
        "vit-digits",
        "Digits, a vision transformer of a million weights at its third layer of eight",
        ("model=small_vit", "split=encoder.layers.encoder_layer_2", "data=digits"),
        former=("lambda=[0.0003,0.001,0.003,0.01,0.03]",),
        lambdas=(0.003, 0.01, 0.03, 0.1, 0.3),
        backbone=("backbone.epochs=16", "backbone.lr=1e-3"),
    ),
    *(
        Case(
            f"vit-cifar10-{layer}",
            f"CIFAR-10, a vision transformer of a million weights at its layer {layer} of eight",
            (
                "model=small_vit", f"split=encoder.layers.encoder_layer_{layer - 1}", "data=cifar10",
                f"data.root={DATA}/cifar10", "data.image_size=32", "data.limit_train=12000", "data.limit_val=500",
                "data.limit_test=1000",
            ),
            former=("training.epochs=2", "lambda=[0.0003,0.001,0.003,0.01,0.03]"),
            lambdas=(0.01, 0.03, 0.1, 0.3),
            training=("training.epochs=2", *more),
            backbone=("data.limit_train=45000", "data.augment=true", "backbone.epochs=5", "backbone.lr=1e-3"),
        )
        for layer, more in ((3, LEARNT), (5, ()))
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A ladder of units, or another codec, on one case.

    Attributes:
        case: it belongs to.
        codec: one of `UNITS` or `CODECS`.
        seed: of the training.
    """

    case: Case
    codec: str
    seed: int = 0

    @property
    def label(self) -> str:
        """Name the folder, and the codec on the curve."""
        return f"{self.codec}-{self.seed}" if self.seed else self.codec

    def commands(self) -> dict[str, list[str]]:
        """Return the arguments of `train.py`, for a unit, and of `evaluate.py`."""
        evaluated = [*self.case.network, *self.case.evaluating, f"codecs=[{self.label}]"]
        if self.codec not in UNITS:
            return {"evaluate": evaluated}
        lambdas, points = self.case.lambdas, []
        if self.codec == RANGE:
            lambdas, points = (lambdas[1], lambdas[-2]), [f"points={len(lambdas)}"]
        ladder = f"lambda=[{','.join(map(repr, lambdas))}]"
        recipe = self.case.former if self.codec == "factorized" else (ladder,)
        training = () if self.codec == "factorized" else self.case.training
        own = [*training, *UNITS[self.codec], f"unit.name={self.label}", f"seed={self.seed}", *recipe]
        return {"train": [*self.case.network, *own], "evaluate": [*evaluated, *points]}


def parts_of(case: Case, codec: str | None = None, seed: int | None = None) -> Iterator[Part]:
    """Return the parts of a case in their order, or those that are asked for."""
    for one in (*UNITS, *CODECS) if codec is None else (codec,):
        seeds = {**SEEDS, RANGE: case.range_seeds}
        for index in range(seeds.get(one, 1)) if seed is None else (seed,):
            yield Part(case, one, index)
