"""Measure codecs, and write what came out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bottlenecks.evaluation.compare import combine
from bottlenecks.evaluation.curve import Curve, rows_of
from bottlenecks.evaluation.interactive import chart
from bottlenecks.evaluation.report import Report, write_and_say
from bottlenecks.files import write_atomically
from bottlenecks.processes import is_main
from bottlenecks.runs.codecs import evaluate_codecs
from bottlenecks.runs.experiment import open_logger
from bottlenecks.settings.evaluation import EvaluationPlan
from bottlenecks.settings.experiment import ExperimentPlan
from bottlenecks.training.loggers import close, log_chart, log_image, log_table


def evaluate(experiment: ExperimentPlan, plan: EvaluationPlan) -> Curve:
    """Measure codecs for a configuration's model, split and data, and write the curve.

    Returns:
        The curve that was written.

    Raises:
        UsageError: the configuration cannot be used.
    """
    evaluated = evaluate_codecs(experiment, plan)
    if is_main():
        report = Report({"": evaluated.curve}, {"": evaluated.record}, plan.anchor, plan.framing)
        folder = experiment.results
        write_atomically(folder / "predictions.png", evaluated.strips)
        write_and_log(experiment, report, folder, evaluated.experiment.title)
    return evaluated.curve


def evaluate_splits(plans: Sequence[tuple[ExperimentPlan, EvaluationPlan]]) -> None:
    """Do so at each of several split points, and put the curves together; each has a file of its own, too.

    Raises:
        UsageError: the configuration cannot be used.
    """
    for experiment, plan in plans:
        evaluate(experiment, plan)
    if is_main():
        first, plan = plans[0]
        anchor = plan.anchor
        splits = [experiment.split for experiment, _ in plans]
        title = "/".join([first.network.model.name, "+".join(splits), first.network.data_name])
        paths = [experiment.results / "curve.json" for experiment, _ in plans]
        if anchor is not None and len(splits) > 1:
            anchor = f"{splits[0]}: {anchor}"
        write_and_log(first, combine(paths, anchor, plan.framing), Path(first.paths["results"], title), title)


def write_and_log(plan: ExperimentPlan, report: Report, folder: Path, title: str) -> None:
    """Write a report into a folder, and show it on the logger's dashboard."""
    write_and_say(report, folder)
    logger = open_logger(plan, "evaluate", "evaluate", title, set())
    for prefix, curve in report.curves.items():
        log_table(logger, f"{prefix}rate_accuracy", list(curve.points[0]), rows_of(curve.points))
    for name in ("curve", "predictions"):
        if (folder / f"{name}.png").exists():
            log_image(logger, name, folder / f"{name}.png")
    log_chart(logger, "curve_chart", lambda: chart(report.counted, report.framing))
    close(logger)
