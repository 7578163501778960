"""Evaluate trained units and their alternatives on real bytes: python evaluate.py model=resnet50 split=layer3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from bottlenecks.console.cli import entry_point
from bottlenecks.processes import leave
from bottlenecks.settings.commands import read_evaluation

if TYPE_CHECKING:
    from bottlenecks.evaluation.curve import Curve


def evaluate(cfg: DictConfig) -> Curve:
    """Measure codecs for the configuration's model, split and data, and write the curve.

    Returns:
        The curve that was written.

    Raises:
        UsageError: the configuration cannot be used.
    """
    (plans,) = read_evaluation(cfg)

    from bottlenecks.runs import evaluation  # torch is imported here and no sooner: it takes seconds

    return evaluation.evaluate(*plans)


def evaluate_splits(cfg: DictConfig) -> None:
    """Do so at each of several split points, and put the curves together; each has a file of its own, too.

    Raises:
        UsageError: the configuration cannot be used.
    """
    plans = read_evaluation(cfg)

    from bottlenecks.runs import evaluation

    evaluation.evaluate_splits(plans)


@entry_point("evaluate")
def main(cfg: DictConfig) -> None:
    """Evaluate from the command line."""
    evaluate_splits(cfg) if OmegaConf.is_list(cfg.split) else evaluate(cfg)
    leave()


if __name__ == "__main__":
    main()
