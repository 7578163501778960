"""What a ladder costs in memory, and a swap in time: python -m benchmarks.swap.

Ten units of ResNet-50 at layer3 with random weights, loaded beside their backbone. The last line is JSON: memory that
the ten rates add over the size of their files, that of the network over its weights, and the median time of a swap.
"""

from __future__ import annotations

import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch

from bottlenecks.architecture import BackboneSpec, build_network
from bottlenecks.backbone import Backbone
from bottlenecks.checkpoint import Ladder, Rate, RateInfo, find_rates, rate_path, save_rate
from bottlenecks.network import BottleneckNetwork
from bottlenecks.preprocessing import Preprocessing
from bottlenecks.split import cut
from bottlenecks.units import make_unit

RATES = 10
PAGE = resource.getpagesize()
LOOK = Preprocessing(32, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def resident_bytes() -> int:
    """Memory of this process that is in use now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def write_ladder(folder: Path, backbone: Backbone, feature_shape: tuple[int, ...]) -> None:
    """Write ten rates with random weights."""
    for index in range(RATES):
        torch.manual_seed(index)
        config = {"feature_shape": list(feature_shape), "init_scale": 2.0 + index}
        unit = make_unit("factorized", config)
        unit.refresh()
        unit.finalise()
        info = RateInfo(
            model="resnet50",
            backbone=backbone.spec.to_dict(),
            backbone_fingerprint=backbone.fingerprint,
            preprocessing=LOOK.to_dict(),
            class_names=[],
            split="layer3",
            image_shape=[3, 32, 32],
            feature_shape=list(feature_shape),
            unit_name="factorized",
            unit={"architecture": "factorized", "config": unit.config()},
            lmbda=0.001 * (index + 1),
            data="digits",
            training={},
            training_hash="",
        )
        save_rate(rate_path(folder, info.lmbda), Rate(unit, info))


def main() -> None:
    """Measure, and print."""
    spec = BackboneSpec("resnet50", architecture="resnet50")
    backbone = Backbone(build_network(spec, 10), spec, LOOK, (), "random")
    network = cut(backbone.network, "layer3", torch.zeros(1, 3, 32, 32))
    with tempfile.TemporaryDirectory() as folder:
        write_ladder(Path(folder, "warm"), backbone, network.feature_shape)
        Ladder.load(Path(folder, "warm"))  # what is allocated once is there
        files = find_rates(Path(folder, "warm"))
        before = resident_bytes()
        bottleneck = BottleneckNetwork(network, Ladder.load(Path(folder, "warm")))
        added = resident_bytes() - before
        size = sum(path.stat().st_size for path in files)
    images, times, lmbdas = torch.rand(1, 3, 32, 32), [], list(bottleneck.ladder)
    before = resident_bytes()
    for index in range(1000):
        start = time.perf_counter()
        bottleneck.lmbda = lmbdas[index % RATES]
        times.append(time.perf_counter() - start)
        if index < 2 * RATES:
            bottleneck.decode(bottleneck.encode(images))
    grown = resident_bytes() - before
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
