"""Measure codecs, and write what came out."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from bottlenecks.evaluation.compare import combine
from bottlenecks.evaluation.curve import Curve, rows_of
from bottlenecks.evaluation.interactive import chart
from bottlenecks.evaluation.report import Report, write_and_say
from bottlenecks.files import write_atomically
from bottlenecks.processes import is_main
from bottlenecks.runs.codecs import evaluate_codecs
from bottlenecks.runs.experiment import open_logger
from bottlenecks.settings.commands import each_split
from bottlenecks.settings.experiment import folder_of
from bottlenecks.training.loggers import close, log_chart, log_image, log_table


def evaluate(cfg: DictConfig) -> Curve:
    """Measure codecs for the configuration's model, split and data, and write the curve.

    Returns:
        The curve that was written.

    Raises:
        UsageError: the configuration cannot be used.
    """
    evaluated = evaluate_codecs(cfg)
    if is_main():
        report = Report({"": evaluated.curve}, {"": evaluated.record}, cfg.anchor)
        folder = evaluated.experiment.results
        write_atomically(folder / "predictions.png", evaluated.strips)
        write_and_log(cfg, report, folder, evaluated.experiment.title)
    return evaluated.curve


def evaluate_splits(cfg: DictConfig) -> None:
    """Do so at each of several split points, and put the curves together; each has a file of its own, too.

    Raises:
        UsageError: the configuration cannot be used.
    """
    single = each_split(cfg)
    for one in single:
        evaluate(one)
    if is_main():
        splits = [one.split for one in single]
        together = "+".join(splits)
        paths = [folder_of(one, "results") / "curve.json" for one in single]
        folder = Path(cfg.paths.results, cfg.model.name, together, cfg.data.name)
        anchor = cfg.anchor if cfg.anchor is None or len(splits) == 1 else f"{splits[0]}: {cfg.anchor}"
        write_and_log(cfg, combine(paths, anchor), folder, f"{cfg.model.name}/{together}/{cfg.data.name}")


def write_and_log(cfg: DictConfig, report: Report, folder: Path, title: str) -> None:
    """Write a report into a folder, and show it on the logger's dashboard."""
    write_and_say(report, folder)
    logger = open_logger(cfg, "evaluate", "evaluate", title, set())
    for prefix, curve in report.curves.items():
        log_table(logger, f"{prefix}rate_accuracy", list(curve.points[0]), rows_of(curve.points))
    for name in ("curve", "predictions"):
        if (folder / f"{name}.png").exists():
            log_image(logger, name, folder / f"{name}.png")
    log_chart(logger, "curve_chart", lambda: chart(report.curves))
    close(logger)
