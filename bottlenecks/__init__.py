"""Bottleneck units for split networks: train, code, swap and evaluate them.

    import bottlenecks as bn

    network = bn.cut(model, at="layer3", example=images)
    ladder = bn.fit(network, train_loader, lmbdas=[0.003, 0.03])
    ladder.save("rates/")
    net = bn.load("rates/", network=network)
    streams = net.encode(images)

Nothing heavy is imported before it is asked for, so that the coder and the bitstream can be used where there is no
torch.
"""

from bottlenecks.lazy import importer

__version__ = "0.1.0"

_WHERE = {
    **dict.fromkeys(("cut", "fit", "load", "evaluate", "export", "CutNetwork"), "api"),
    "BottleneckNetwork": "network",
    "Ladder": "rates.ladder",
    "Curve": "evaluation.curve",
    "Preprocessing": "images.preprocessing",
    "UsageError": "errors",
}  # the public names, and the module of each
__all__ = [*_WHERE, "__version__"]


__getattr__ = importer(__name__, _WHERE)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
