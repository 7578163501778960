"""Folding changes the time and not the function."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

from bottlenecks.backbones.backbone import freeze
from bottlenecks.splitting.cut import cut
from bottlenecks.training.folding import fold_batch_norm


def randomise(network: nn.Module) -> nn.Module:
    """Give every BatchNorm statistics that it could have learned."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.weight.data, module.bias.data):
                tensor.copy_(torch.rand(tensor.shape, generator=generator))
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    return network


@pytest.mark.parametrize(
    ("name", "split", "left"),
    [
        ("resnet18", "layer2", 0),
        pytest.param("mobilenet_v3_large", "features.6", 0, marks=pytest.mark.slow),
        pytest.param("densenet121", "features.transition1", 0.55, marks=pytest.mark.slow),
    ],
)
def test_the_function_stays_and_the_network_too(name: str, split: str, left: float) -> None:
    torch.manual_seed(0)
    network = freeze(randomise(models.get_model(name, num_classes=10)))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    parts = cut(network, split, torch.zeros(1, 3, 64, 64))
    images = torch.randn(2, 3, 64, 64)
    for part, inputs in ((parts.head, (images,)), (parts.tail, parts.head(images))):
        folded = fold_batch_norm(part)
        (expected,), (found,) = (one if isinstance(one, tuple) else (one,) for one in (part(*inputs), folded(*inputs)))
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
        norms = [sum(isinstance(module, nn.BatchNorm2d) for module in one.modules()) for one in (part, folded)]
        assert norms[0] > 0 and norms[1] <= left * norms[0]
        assert not any(value.requires_grad for value in folded.parameters())
    after = network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_convolution_that_is_also_used_without_its_norm_is_left() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.head = nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return self.head(self.norm(y) + y)

    module = torch.fx.symbolic_trace(randomise(Twice()).eval())
    assert sum(isinstance(part, nn.BatchNorm2d) for part in fold_batch_norm(module).modules()) == 1
