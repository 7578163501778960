"""What a ladder costs in memory, and a swap in time: python -m benchmarks.swap.

Ten units of ResNet-50 at layer3 with random weights, loaded beside their backbone. The last line is JSON: memory that
the ten rates add over the size of their files (which hold half precision), that of the network over its weights, and
the median time of a swap.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch

from bottlenecks.backbones.architecture import build_network
from bottlenecks.backbones.backbone import Backbone
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.network import BottleneckNetwork
from bottlenecks.rates.info import RateInfo
from bottlenecks.rates.ladder import Ladder
from bottlenecks.rates.places import find_rates, rate_path
from bottlenecks.rates.rate import Rate, load_rate, save_rate
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.splitting.cut import SplitNetwork, cut
from bottlenecks.units import DEFAULT_UNIT, make_unit

RATES = 10
PAGE = resource.getpagesize()
LOOK = Preprocessing(32, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PART = {"structure": "joint", "rank": 32, "block": [2, 2], "restorer": 192, "nonnegative": True, "rounding": 0.5}


def resident_bytes() -> int:
    """Memory of this process that is in use now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def make_network() -> tuple[Backbone, SplitNetwork]:
    """Build ResNet-50 with random weights, and cut it."""
    torch.manual_seed(0)
    spec = BackboneSpec("resnet50", architecture="resnet50")
    backbone = Backbone(build_network(spec, 10), spec, LOOK, (), "random")
    return backbone, cut(backbone.network, "layer3", torch.zeros(1, 3, 32, 32))


def write_ladder(folder: str) -> None:
    """Write ten rates with random weights."""
    backbone, network = make_network()
    (feature_shape,) = network.feature_shape
    for index in range(RATES):
        torch.manual_seed(index)
        unit = make_unit(DEFAULT_UNIT, {"parts": [{"feature_shape": list(feature_shape), **PART}]})
        unit.finalise()
        info = RateInfo(
            model="resnet50",
            backbone=backbone.spec.to_dict(),
            backbone_fingerprint=backbone.fingerprint,
            preprocessing=LOOK.to_dict(),
            class_names=[],
            split="layer3",
            image_shape=[3, 32, 32],
            feature_shape=network.feature_shape,
            unit_name=DEFAULT_UNIT,
            unit={"architecture": DEFAULT_UNIT, "config": unit.config()},
            lmbda=0.001 * (index + 1),
            data="digits",
            training={},
            training_hash="",
        )
        save_rate(rate_path(Path(folder), info.lmbda), Rate(unit, info))


def use(bottleneck: BottleneckNetwork) -> None:
    """Send an image at every rate, twice."""
    for lmbda in [*bottleneck.ladder, *bottleneck.ladder]:
        bottleneck.lmbda = lmbda
        bottleneck.decode(bottleneck.encode(torch.rand(1, 3, 32, 32)))


def main() -> None:
    """Measure, and print."""
    backbone, network = make_network()
    with tempfile.TemporaryDirectory() as folder:
        # in another process: memory that it leaves behind would be taken for free
        writer = multiprocessing.get_context("spawn").Process(target=write_ladder, args=(folder,))
        writer.start()
        writer.join()
        size = sum(path.stat().st_size for path in find_rates(Path(folder)))
        first = load_rate(find_rates(Path(folder))[0])
        use(BottleneckNetwork(network, Ladder({first.info.lmbda: first})))  # what is allocated once is there
        before = resident_bytes()
        bottleneck = BottleneckNetwork(network, Ladder.load(folder))
        added = resident_bytes() - before
        before = resident_bytes()
        use(bottleneck)
        grown = resident_bytes() - before
    times, lmbdas = [], list(bottleneck.ladder)
    for index in range(1000):
        start = time.perf_counter()
        bottleneck.lmbda = lmbdas[index % RATES]
        times.append(time.perf_counter() - start)
    weights = sum(tensor.nbytes for tensor in backbone.network.state_dict().values())
    print(f"ten files of {size / 2**20:.2f} MiB add {added / 2**20:.2f} MiB; using all adds {grown / 2**20:.2f} MiB")
    result = {
        "memory_over_files": (added + grown) / size,
        "grown_over_network": grown / weights,
        "swap_us": 1e6 * statistics.median(times),
    }
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    main()
