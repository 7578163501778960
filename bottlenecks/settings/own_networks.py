"""The project's own networks by name: files and configurations hold the name, not where the code lies."""

from __future__ import annotations

OWN_NETWORKS = {
    "small_lraspp": "bottlenecks.backbones.segmenters.small_lraspp",
    "timm_lraspp": "bottlenecks.backbones.segmenters.timm_lraspp",
    "small_fcos": "bottlenecks.backbones.detectors.small.small_fcos",
    "timm_fcos": "bottlenecks.backbones.detectors.small.timm_fcos",
}
FORMER_PATHS = ("bottlenecks.segmenters", "bottlenecks.detectors.small")  # that files of earlier programs hold


def name_of(target: str) -> str:
    """Return the name of one of these networks by where its code lies, or once lay; any other target as it is."""
    module, _, name = target.rpartition(".")
    return name if target in OWN_NETWORKS.values() or (module in FORMER_PATHS and name in OWN_NETWORKS) else target


def path_of(target: str) -> str:
    """Return where the code of one of these networks lies; any other target as it is."""
    return OWN_NETWORKS.get(target, target)
