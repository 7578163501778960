"""Where the code lies that a configuration or a file names as `_target_`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from bottlenecks.errors import UsageError
from bottlenecks.settings.data import KINDS

OWN_NETWORKS = {
    "small_lraspp": "bottlenecks.backbones.segmenters.small_lraspp",
    "timm_lraspp": "bottlenecks.backbones.segmenters.timm_lraspp",
    "small_vit": "bottlenecks.backbones.small_vit.small_vit",
    "small_fcos": "bottlenecks.backbones.detectors.small.small_fcos",
    "timm_fcos": "bottlenecks.backbones.detectors.small.timm_fcos",
}  # by the names that files hold
FORMER_PATHS = ("bottlenecks.segmenters", "bottlenecks.detectors.small")  # that files of earlier programs hold
BESIDE = Path(__file__).parents[2] / "datamodules"  # in a checkout


def name_of(target: str) -> str:
    """Return the name of one of the project's networks by where its code lies, or once lay; others as they are."""
    module, _, name = target.rpartition(".")
    return name if target in OWN_NETWORKS.values() or (module in FORMER_PATHS and name in OWN_NETWORKS) else target


def path_of(target: str) -> str:
    """Return where the code of one of the project's networks or datasets lies; others as they are.

    Datasets lie beside the library in a checkout, within it where it is installed.
    """
    if target in KINDS and not _is_beside():
        return f"bottlenecks.{target}"
    return OWN_NETWORKS.get(target, target)


def check_target(argument: str, target: str) -> None:
    """Refuse the path of a class or function whose first part is no module here.

    Raises:
        UsageError: there is none.
    """
    top = path_of(target).partition(".")[0]
    if not top or (top not in sys.modules and find_spec(top) is None):  # of a program itself, __main__, there is none
        raise UsageError(f"{argument}={target}: there is no module {top}; put the folder that holds it on PYTHONPATH")


def _is_beside() -> bool:
    found = find_spec("datamodules")
    return found is not None and found.origin is not None and Path(found.origin).resolve().parent == BESIDE.resolve()
