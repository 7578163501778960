"""Units around a network of one's own, on tensors of one's own: python examples/own_network.py."""

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bottlenecks as bn

# A network that recognises 8x8 digits, trained for a few seconds. Any module of one image tensor will do.
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1).expand(-1, 3, -1, -1) / 8 - 1
labels = torch.tensor(digits.target)
torch.manual_seed(0)
model = nn.Sequential()
model.add_module(
    "body", nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
)
model.add_module("head", nn.Sequential(nn.Flatten(), nn.Linear(512, 10)))
optimiser = torch.optim.Adam(model.parameters(), 2e-3)
for _ in range(15):
    for batch, targets in DataLoader(TensorDataset(images[:1300], labels[:1300]), batch_size=64, shuffle=True):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(batch), targets).backward()
        optimiser.step()

# Cut it, and fit a unit for each lambda. No labels are needed.
network = bn.cut(model, at="body", example=images[:2], name="small")
ladder = bn.fit(network, DataLoader(TensorDataset(images[:1300]), batch_size=32), lmbdas=[0.003, 0.03])
folder = Path("rates")
ladder.save(folder, overwrite=True)

# The device encodes, the server decodes. The rate is one assignment.
net = bn.load(folder, network=network)
net.lmbda = 0.03
streams = net.encode(images[1300:])
logits = net.decode(streams)
accuracy = (logits.argmax(1) == labels[1300:]).float().mean()
print(f"{sum(map(len, streams)) / len(streams):.1f} bytes an image, {accuracy:.1%} right")

# Held against another codec, on images that nothing was chosen on.
curve = bn.evaluate(net, (images[1300:], labels[1300:]), calibration=images[:1300], codecs=["unit", "lightweight"])
curve.plot().savefig("curve.png")
