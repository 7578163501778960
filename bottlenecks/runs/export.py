"""Export a trained ladder with its curve."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bottlenecks.console.terminal import say
from bottlenecks.deploy.bundle import DECODER, ENCODER, HEAD, TABLES, TAIL, UNIT, Bundle
from bottlenecks.deploy.bundled_rate import BundledRate
from bottlenecks.deploy.export import export_bundle
from bottlenecks.deploy.runtimes import import_openvino
from bottlenecks.evaluation.curve import Curve
from bottlenecks.rates.ladder import Ladder
from bottlenecks.rates.places import find_rates
from bottlenecks.runs.codecs import evaluate_codecs, load_ladder
from bottlenecks.runs.experiment import Experiment, prepare
from bottlenecks.runs.int8 import in_8_bits
from bottlenecks.settings.evaluation import UNIT as OWN_UNIT
from bottlenecks.settings.evaluation import EvaluationPlan
from bottlenecks.settings.experiment import ExperimentPlan
from bottlenecks.settings.export import ExportPlan


def export(experiment_plan: ExperimentPlan, plan: EvaluationPlan, own: ExportPlan) -> Path:
    """Write the bundle of all rates found for a configuration's model, split and data.

    Args:
        experiment_plan: what it names.
        plan: how its curve is measured where there is none.
        own: where the bundle goes, and in what form.

    Returns:
        The bundle's folder.

    Raises:
        UsageError: there are no rates, they are not for this network, it has no ONNX form, or 8 bits cost too much.
    """
    if own.openvino:
        import_openvino()  # or say at once that it is not there
    ladder = load_ladder(experiment_plan, OWN_UNIT)
    experiment = prepare(experiment_plan, "test")
    ladder.check_network(experiment.network, experiment.backbone.fingerprint, experiment.backbone.source)
    name = experiment.title.replace("/", "-") + ("-int8" if own.head == "int8" else "")
    folder, graph, network, task = own.out or Path("dist", name), None, experiment.network, experiment.task
    if own.head == "int8":
        graph, ladder, curve = in_8_bits(network, ladder, experiment.datamodule, task, plan, own.max_drop)
    else:
        curve = curve_of(experiment, plan, ladder)
    export_bundle(folder, network, ladder, curve, task, graph, own.pixels, own.openvino)
    for line in describe(Bundle(folder)):
        say(line)
    return folder


def describe(bundle: Bundle) -> Iterator[str]:
    """Return what a bundle holds, and how large it is."""

    def size(*names: str, rate: BundledRate | None = None) -> str:
        return f"{bundle.num_bytes(*names, rate=rate) / 1000:,.1f} kB"

    yield f"Wrote {bundle.folder}: the head has {size(HEAD)}, the tail {size(TAIL)}"
    for rate in bundle.rates:
        device, server = size(ENCODER, TABLES, rate=rate), size(DECODER, TABLES, rate=rate)
        yield f"{rate.folder}: {device} on the device, {server} on the server, checkpoint {size(UNIT, rate=rate)}"


def curve_of(experiment: Experiment, plan: EvaluationPlan, ladder: Ladder) -> Curve:
    """Read the curve of the rates; measure it where there is none, or a rate is newer or not on it."""
    path = experiment.plan.results / "curve.json"
    rates = find_rates(experiment.folder, experiment.plan.unit.name)
    if path.exists() and path.stat().st_mtime >= max(rate.stat().st_mtime for rate in rates):
        curve = Curve.read(path)
        evaluated = {point["lambda"] for point in curve.points if point["codec"] == OWN_UNIT}
        if evaluated >= set(ladder) and all(lmbda in ladder for lmbda in evaluated):
            return curve
    say("No curve of these rates yet: evaluating them now")
    return evaluate_codecs(experiment.plan, plan).curve
