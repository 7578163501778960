"""The split points of a network: python -m bottlenecks.split model=resnet50.

What cuts is in `bottlenecks.splitting`; its names can be imported from here, too.
"""

from __future__ import annotations

from omegaconf import DictConfig

from bottlenecks.console.cli import entry_point
from bottlenecks.lazy import importer
from bottlenecks.settings.commands import check_listing

__getattr__ = importer(
    "bottlenecks",
    {
        **dict.fromkeys(("Crossing", "SplitNetwork", "cut", "cut_graph"), "splitting.cut"),
        **dict.fromkeys(("SplitPoint", "crowded_points", "graph_points", "split_points"), "splitting.points"),
        "render_table": "runs.listing",
    },
)


def main(cfg: DictConfig) -> None:
    """List the split points of a network from the command line."""
    spec = check_listing(cfg)

    from bottlenecks.runs.listing import list_points

    list_points(spec, cfg.image_size)


if __name__ == "__main__":
    entry_point("split")(main)()
