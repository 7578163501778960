"""Train bottleneck units at a split point: python train.py model=resnet50 split=layer3 lambda=0.01."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from bottlenecks.console.cli import entry_point
from bottlenecks.settings.commands import read_training
from bottlenecks.settings.experiment import NetworkPlan

if TYPE_CHECKING:
    from bottlenecks.rates.info import RateInfo


def train(cfg: DictConfig) -> dict[Path, RateInfo]:
    """Train what a configuration asks for.

    Returns:
        The rates that were trained now, by path; none for `stage=backbone`.

    Raises:
        UsageError: the configuration cannot be used.
    """
    plan = read_training(cfg)

    from bottlenecks.runs import training  # torch is imported here and no sooner: it takes seconds

    if isinstance(plan, NetworkPlan):
        training.train_network(plan)
        return {}
    return training.train(*plan)


@entry_point("train")
def main(cfg: DictConfig) -> None:
    """Train from the command line."""
    train(cfg)


if __name__ == "__main__":
    main()
