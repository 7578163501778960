"""The library from Python: cut a network, fit units, load them, evaluate them, export them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from bottlenecks.backbones.backbone import Backbone
from bottlenecks.baselines import BASELINES
from bottlenecks.console.cli import hush_lightning
from bottlenecks.deploy.export import export_bundle
from bottlenecks.deploy.runtimes import import_openvino
from bottlenecks.errors import UsageError, closest
from bottlenecks.evaluation.curve import Curve
from bottlenecks.images.given import NoPreprocessing
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.images.tensors import check_batch
from bottlenecks.network import BottleneckNetwork
from bottlenecks.rates.ladder import Ladder
from bottlenecks.runs.codecs import check_curve, evaluate_given
from bottlenecks.runs.experiment import Experiment, pick_device
from bottlenecks.runs.int8 import in_8_bits
from bottlenecks.runs.training import train_missing
from bottlenecks.settings.composed import change, composed, composed_for
from bottlenecks.settings.evaluation import UNIT, EvaluationPlan
from bottlenecks.settings.experiment import ExperimentPlan
from bottlenecks.settings.export import ExportPlan
from bottlenecks.settings.model import GIVEN, BackboneSpec
from bottlenecks.settings.training import TrainingPlan
from bottlenecks.sharing.hub import local_folder
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.splitting.cut import cut as cut_network
from bottlenecks.tasks import Task, make_task
from bottlenecks.training.given import GivenImages
from bottlenecks.values import check_folder, check_kind

CUT = "bn.cut(model, at=…, example=…) gives one"
NET = "bn.load(folder, network=…) gives one"


@dataclass(frozen=True)
class CutNetwork:
    """A frozen network of a user's own, cut in two.

    Attributes:
        backbone: the network and what is known of it.
        network: its two halves.
        task: what it does.
        image_shape: (C, H, W) of its input.
    """

    backbone: Backbone
    network: SplitNetwork
    task: Task
    image_shape: tuple[int, ...]


def cut(
    model: nn.Module,
    at: str,
    example: Tensor,
    task: str = "classification",
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] = (),
    several: bool = True,
    name: str | None = None,
    distortion: str | None = None,
    outputs: Mapping[str, float] | None = None,
) -> CutNetwork:
    """Freeze a network and cut it behind one of its modules.

    Args:
        model: any `nn.Module` of one image tensor; it is put into eval mode and takes no gradients any more.
        at: name of the module behind which it is cut, as `model.named_modules()` has it.
        example: images (N, C, H, W) as the network takes them.
        task: what its output means: `classification`, `segmentation`, `detection` or `embedding`.
        preprocessing: what makes such images of image files; without it, codecs of image files and export are refused.
        class_names: of its outputs.
        several: whether several tensors may cross the cut.
        name: of the network, for results; its class's name by default.
        distortion: of embeddings, `cosine` (by default) or `mse`.
        outputs: of embeddings, weights of several by name; all alike by default.

    Raises:
        UsageError: it cannot be cut there; the message names what can be done.
    """
    check_kind("model", model, nn.Module, "give a network that is built")
    check_kind("at", at, str, "name a module, as model.named_modules() has it")
    check_batch("example", example, dtype=torch.float32, least=1)
    own = name or _as_name(type(model).__name__)
    spec = BackboneSpec(name=own, task=task, library=GIVEN, distortion=distortion, outputs=outputs)
    if preprocessing is not None and preprocessing.input_shape is None:
        preprocessing = preprocessing.with_image_size((example.shape[2], example.shape[3]))
    known: Any = preprocessing or NoPreprocessing()
    backbone = Backbone(model, spec, known, tuple(class_names), "the module that was given")
    network = cut_network(model, at, example[:1], several=several)
    known_task = make_task(task, model, spec.task_settings)
    with torch.no_grad():
        output = network(example[:1])
    try:
        known_task.check_output(output, len(class_names) or None)
    except UsageError as error:
        raise UsageError(f"model={own}: {error}") from None
    return CutNetwork(backbone, network, known_task, tuple(example.shape[1:]))


def fit(
    network: CutNetwork,
    train: Any,
    val: Any = None,
    *,
    lmbdas: Iterable[float] | float | None = (0.003, 0.01, 0.03),
    unit: str = "transform",
    settings: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    random_views: bool = False,
    name: str = "images",
) -> Ladder:
    """Train a unit for each lambda.

    Args:
        network: as `cut` makes it.
        train: images (N, C, H, W), (images, targets), a dataset, a DataLoader or a LightningDataModule; of a loader's
            images those that its sampler chooses, each once. Targets are not needed.
        val: the same, held back from training; without it a tenth of `train` is, at least 40 images of 200.
        lmbdas: of the rates; with `settings={"unit.range": True}` the two ends of a range; None for 0.01, or with
            `settings={"target.bytes": 400}` for what meets the target.
        unit: a file in `configs/unit/`.
        settings: any of `python train.py --help`, such as `{"training.epochs": 0}`.
        folder: where rates are written and an interrupted run goes on with `settings={"resume": True}`; a temporary
            one by default.
        random_views: whether `train` gives another view of an image each time; its features are not kept then.
        name: of the images, for results.

    Returns:
        The rates, ready for bytes; `save` writes them.

    Raises:
        UsageError: something cannot be used; the message names the argument.
    """
    hush_lightning()
    check_kind("network", network, CutNetwork, CUT)
    if folder is not None:
        check_folder("folder", folder)
    network.backbone.refreeze()
    if isinstance(train, pl.LightningDataModule):
        train.prepare_data()
        train.setup("fit")
        train, val = train.train_dataloader(), train.val_dataloader() if val is None else val
    with ExitStack() as stack:
        place = Path(folder) if folder is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cfg = composed_for(network.backbone.spec, network.network.split, name, unit, place)
        change(cfg, {"lambda": lmbdas})
        change(cfg, settings)
        plans = ExperimentPlan.of(cfg), TrainingPlan.of(cfg)
        known = network.backbone
        about = name, network.task.name, known.preprocessing, network.image_shape, known.class_names
        images = GivenImages(*about, train=train, val=val, seed=cfg.seed, random_views=random_views)
        images.hold_back()
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
        shape: Any = network.image_shape
        parts = (images, network.backbone, network.network, network.task, shape, place)
        train_missing(Experiment(plans[0], *parts), plans[1])
        network.network.cpu()
        return Ladder.load(place, cfg.unit.name)


def load(
    folder: str | Path, network: CutNetwork | None = None, weights: str | Path | None = None, unit: str | None = None
) -> BottleneckNetwork:
    """Load a folder of rates, or a ladder that was shared, ready to encode and decode.

    Of what `bottlenecks push` wrote every file is held against the ladder's manifest before it is read, and nothing in
    it is run.

    Args:
        folder: that `Ladder.save`, `train.py` or `bottlenecks push` wrote; or `owner/name` or `owner/name@revision` on
            the Hugging Face hub, unless a folder of that name, or one named `owner`, is here.
        network: the cut network, where the rates were trained around a module that was given.
        weights: of the backbone, where they do not lie where they did in training.
        unit: whose rates, where the folder holds several.

    Raises:
        UsageError: there are no rates, they are for another network, the network cannot be had, or files of a shared
            ladder are not those that were pushed.
    """
    check_folder("folder", folder)
    folder = local_folder(folder)
    if network is None:
        return BottleneckNetwork.load(folder, weights, unit)
    check_kind("network", network, CutNetwork, CUT)
    network.backbone.refreeze()
    ladder = Ladder.load(folder, unit)
    ladder.check_network(network.network, network.backbone.fingerprint, network.backbone.source)
    return BottleneckNetwork(network.network, ladder, network.backbone.network)


def evaluate(
    net: BottleneckNetwork,
    test: Any,
    calibration: Any = None,
    codecs: Sequence[str] | str = ("unit",),
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> Curve:
    """Evaluate units and other codecs by bytes that are really written and decoded.

    Args:
        net: as `load` gives it.
        test: images on which nothing was chosen, and their targets where there are any, in any form that `fit` takes.
        calibration: training images, on which the other codecs choose their settings.
        codecs: one or several of `unit` and those in docs/evaluation.md.
        settings: `calibration_images`, `timed_images`, `points` and `workers` of `evaluate.py`.
        device: where to run.

    Raises:
        UsageError: something cannot be used; the message names the argument.
    """
    check_kind("net", net, BottleneckNetwork, NET)
    cfg = composed("evaluate", ["logger=none"])
    change(cfg, {"codecs": codecs, "device": device})
    change(cfg, settings)
    plan = EvaluationPlan.of(cfg)
    for codec in plan.units:
        if codec != UNIT:
            raise UsageError(f"codecs={codec}: unknown; did you mean {closest(codec, [UNIT, *BASELINES])}?")
    if plan.baselines and calibration is None:
        raise UsageError(f"calibration: {', '.join(plan.baselines)} choose settings on training images; give some")
    info = net.ladder.info
    about = info.data, net.task.name, net.preprocessing, (info.image_shape[0], None, None), info.class_names
    images = GivenImages(*about, train=calibration, test=test)
    ladders = dict.fromkeys(plan.units, net.ladder)
    _, evaluation = evaluate_given(plan, ladders, net.network, images, net.task, pick_device(device))
    net.network.cpu()
    return Curve.of(evaluation, info.model, info.split, info.data, net.task)


def export(
    net: BottleneckNetwork,
    folder: str | Path,
    curve: Curve | None = None,
    test: Any = None,
    calibration: Any = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write the bundle that devices and servers run without torch.

    Args:
        net: as `load` gives it; its rates know their preprocessing.
        folder: of the bundle.
        curve: of its rates, for rate control; `evaluate` makes one. A head in 8 bits has one of its own.
        test: images on which a head in 8 bits is measured, in any form that `fit` takes.
        calibration: training images, which it is fitted to.
        settings: `head`, `pixels`, `openvino`, `max_drop` and `calibration_images` of `export.py`.

    Raises:
        UsageError: it has no ONNX form, nothing says how images are made of files, 8 bits cost too much, or something
            is missing.
    """
    check_kind("net", net, BottleneckNetwork, NET)
    check_folder("folder", folder)
    if curve is not None:
        check_kind("curve", curve, Curve, "bn.evaluate(net, …) makes one, bn.Curve.read(Path(…)) reads one")
    cfg = composed("export", ["logger=none"])
    change(cfg, settings)
    plan, graph, ladder = ExportPlan.of(cfg), None, net.ladder
    if plan.openvino:
        import_openvino()
    if plan.head == "int8":
        for name, images in (("test", test), ("calibration", calibration)):
            if images is None:
                raise UsageError(f"{name}: missing; a head in 8 bits is fitted to training images, tested on others")
        info = ladder.info
        about = info.data, net.task.name, net.preprocessing, tuple(info.image_shape), info.class_names
        data = GivenImages(*about, train=calibration, test=test)
        graph, ladder, curve = in_8_bits(net.network, ladder, data, net.task, EvaluationPlan.of(cfg), plan.max_drop)
    elif curve is None:
        raise UsageError("curve: missing; bn.evaluate(net, …) makes one")
    else:
        check_curve(curve, ladder)
    export_bundle(Path(folder), net.network, ladder, curve, net.task, graph, plan.pixels, plan.openvino)
    return Path(folder)


def _as_name(text: str) -> str:
    return re.sub(r"\W+", "-", text).lower()
