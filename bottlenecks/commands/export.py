"""Export a trained ladder for devices and servers: python export.py model=resnet50 split=layer3."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from bottlenecks.console.cli import entry_point
from bottlenecks.settings.commands import read_export


def export(cfg: DictConfig) -> Path:
    """Write the bundle of all rates found for the configuration's model, split and data.

    Returns:
        The bundle's folder.

    Raises:
        UsageError: there are no rates, they are not for this network, it has no ONNX form, or 8 bits cost too much.
    """
    plans = read_export(cfg)

    from bottlenecks.runs import export as runs  # torch is imported here and no sooner: it takes seconds

    return runs.export(*plans)


@entry_point("export")
def main(cfg: DictConfig) -> None:
    """Export from the command line."""
    export(cfg)


if __name__ == "__main__":
    main()
