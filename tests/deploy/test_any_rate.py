"""A bundle of one unit of any rate: every lambda between its ends, and the finest rate for a budget."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bottlenecks.deploy.bundle import Bundle, BundleError
from bottlenecks.deploy.bundled_rate import BundledRate
from bottlenecks.deploy.device import Device
from bottlenecks.deploy.rate_control import RateControl
from bottlenecks.deploy.receiver import Receiver
from bottlenecks.deploy.runtimes import Arrays
from bottlenecks.evaluation.curve import Curve
from bottlenecks.network import BottleneckNetwork
from evaluate import evaluate
from export import export
from tests.conftest import QUICK, REPOSITORY, TINY, configure, quiet
from tests.deploy.conftest import serving, without_torch
from train import train

ENDS = (0.003, 0.03)
ANY = ("unit.name=any", "unit.range=true", "logger=none")
RATES = "checkpoints/tiny/body/digits/unit=any"


@pytest.fixture(scope="module")
def root(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny backbone with a unit of any rate as its closed form begins it, its curve and its bundle."""
    root = tmp_path_factory.mktemp("any")
    shutil.copytree(trained / "checkpoints/tiny/backbone", root / "checkpoints/tiny/backbone")
    begun = [*TINY, *QUICK, *ANY, "training.epochs=0", f"lambda={list(ENDS)}"]
    train(configure("train", root, *quiet(begun)))
    evaluate(configure("evaluate", root, *TINY, *ANY, "timed_images=2", "points=4", "data.limit_test=100"))
    export(configure("export", root, *TINY, *ANY, f"out={root / 'dist'}"))
    return root


@pytest.fixture(scope="module")
def bundle(root: Path) -> Bundle:
    return Bundle(root / "dist")


@pytest.fixture(scope="module")
def network(root: Path) -> BottleneckNetwork:
    return BottleneckNetwork.load(root / RATES, unit="any")


@pytest.mark.slow
def test_one_entry_says_both_ends_what_lies_between_and_what_was_measured(root: Path, bundle: Bundle) -> None:
    manifest = json.loads((root / "dist/manifest.json").read_text())
    (entry,), (rate,) = manifest["rates"], bundle.rates
    assert entry["lambda"] == list(ENDS) and rate.folder == "lambda=0.003..0.03"
    (checkpoint,) = (root / RATES).glob("lambda=*")
    assert (
        checkpoint.stem == rate.folder and rate.range == BottleneckNetwork.load(root / RATES).ladder.files[0].unit.range
    )
    curve = Curve.read(next((root / "results").rglob("curve.json")))
    assert len(curve.points) == 4
    assert entry["curve"] == [
        {
            "lambda": p["lambda"],
            "payload_bytes": p["payload_bytes"],
            "score": p["accuracy"],
            "agreement": p["agreement"],
        }
        for p in curve.points
    ]
    assert (entry["payload_bytes"], entry["score"]) == (curve.points[-1]["payload_bytes"], curve.points[-1]["accuracy"])
    means = bundle.mean_bytes()
    assert len(means) == rate.range.highest - rate.range.lowest + 1 > 20
    assert all(means[point["lambda"]] == pytest.approx(point["payload_bytes"]) for point in curve.points)
    assert list(means.values()) == sorted(means.values())


@pytest.mark.slow
def test_every_lambda_between_is_sent_and_answered_as_in_pytorch(
    bundle: Bundle, network: BottleneckNetwork, image_paths: list[Path]
) -> None:
    device, receiver = Device(bundle), Receiver(bundle)
    files = [Image.open(path) for path in image_paths[:60]]
    images = torch.stack([network.preprocessing.transform()(image) for image in files])
    features = [device.features(image) for image in files]
    sizes = []
    for lmbda in (0.003, 0.0042, 0.01, 0.0271828, 0.03):
        network.lmbda = lmbda
        streams = [device.encode(one, lmbda) for one in features]
        theirs = network.encode(images)
        assert sum(ours != own for ours, own in zip(streams, theirs, strict=True)) <= 1  # rounded on a boundary
        received = [receiver.read(stream) for stream in streams]
        assert {bundle.rates[0].multipliers(one.lmbda) for one in received} == {bundle.rates[0].multipliers(lmbda)}
        assert np.allclose(*receiver.infer(received), network.decode(streams).numpy(), atol=1e-4)
        sizes.append(sum(map(len, streams)))
    assert sizes == sorted(sizes) and sizes[-1] > sizes[0]


@pytest.mark.slow
def test_a_batch_may_mix_multipliers(bundle: Bundle, image_paths: list[Path]) -> None:
    device, receiver = Device(bundle), Receiver(bundle)
    features = [device.features(Image.open(path)) for path in image_paths[:6]]
    streams = [device.encode(one, lmbda) for one, lmbda in zip(features, np.geomspace(*ENDS, 6).tolist(), strict=True)]
    received = [receiver.read(stream) for stream in streams]
    assert len({one.multiplier for one in received}) == 6
    alone = np.concatenate([receiver.infer([one])[0] for one in received])
    assert np.allclose(*receiver.infer(received), alone, atol=1e-4)


@pytest.mark.slow
def test_a_budget_is_met_by_the_finest_multiplier(bundle: Bundle, image_paths: list[Path]) -> None:
    device, control = Device(bundle), RateControl(bundle.mean_bytes())
    for path in image_paths[:10]:
        features, tried = device.features(Image.open(path)), list[float]()

        def encode(lmbda: float, features: Arrays = features, tried: list[float] = tried) -> bytes:
            tried.append(lmbda)
            return device.encode(features, lmbda)

        sizes = {lmbda: len(device.encode(features, lmbda)) for lmbda in bundle.mean_bytes()}
        budget = (min(sizes.values()) + max(sizes.values())) / 2
        coded = control.code(encode, budget)
        assert len(coded.stream) <= budget and len(tried) <= 14
        finer = [size for lmbda, size in sizes.items() if lmbda > coded.lmbda]
        assert not finer or finer[0] > budget


@pytest.mark.slow
def test_lambdas_outside_are_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"lambda=0\.5: no such rate in .*; there are 0\.003\.\.0\.03"):
        Device(bundle).symbols((np.zeros((1, 16, 8, 8), np.float32),), 0.5)


@pytest.mark.slow
def test_clients_and_servers_agree_on_any_rate_beside_another_bundle(
    root: Path, bundle_folder: Path, image_paths: list[Path]
) -> None:
    with serving(root / "dist", bundle_folder) as (url, _):

        def send(*arguments: str, folder: Path = root / "dist") -> list[dict]:
            command = without_torch("bottlenecks.deploy.client", folder, *image_paths[:5], *arguments)
            command += ["--server", url, "--json"]
            done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300)
            assert done.returncode == 0, done.stderr
            return [json.loads(line) for line in done.stdout.splitlines()]

        assert {answer["lambda"] for answer in send("--lambda", "0.0042")} == {0.0042}
        fine = send()
        assert {answer["lambda"] for answer in fine} == {0.03}
        budget = min(answer["bytes"] for answer in fine)
        within = send("--budget-bytes", str(budget))
        assert all(answer["bytes"] <= budget for answer in within)
        assert {answer["lambda"] for answer in within} > {0.03}
        device, server = Device(Bundle(bundle_folder)), Receiver(Bundle(bundle_folder))
        streams = [device.encode(device.features(Image.open(path)), 0.003) for path in image_paths[:5]]
        (logits,) = server.infer([server.read(one) for one in streams])
        told = [answer["class"] for answer in send("--lambda", "0.003", folder=bundle_folder)]
        assert told == logits.argmax(1).tolist()


GOOD = {
    "lambda": [0.003, 0.03], "range": {"multipliers": [-9, 12], "lambdas": [0.003, 0.03]}, "fingerprint": "c0de",
    "latent_shape": [4, 2, 2], "payload_bytes": 20.0, "score": None, "agreement": 0.9,
    "curve": [
        {"lambda": 0.03, "payload_bytes": 30.0, "score": None, "agreement": 0.9},
        {"lambda": 0.003, "payload_bytes": 3.0, "score": 0.5, "agreement": 0.5},
    ],
}  # fmt: skip


def test_an_entry_comes_back() -> None:
    rate = BundledRate.from_dict(GOOD)
    assert [point.lmbda for point in rate.curve] == [0.003, 0.03] and rate.lmbda == 0.03
    assert rate.to_dict() == {**GOOD, "curve": GOOD["curve"][::-1]}
    assert rate.mean_bytes()[0.03] == pytest.approx(30) and rate.lmbda_of(-9) == 0.003
    assert rate.mean_bytes()[rate.lmbda_of(1)] == pytest.approx(3 * 10 ** (10 / 21))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rate: rate.pop("range"), "unknown keys: curve"),
        (lambda rate: rate.pop("curve"), "missing or unknown keys: curve"),
        (lambda rate: rate.update(curve=[]), r"rates.curve=\[\]"),
        (lambda rate: rate.update(curve=[{"lambda": 0.01}]), "missing or unknown keys: agreement"),
        (lambda rate: rate["curve"][0].update(payload_bytes=0), "rates.curve.payload_bytes=0"),
        (lambda rate: rate["curve"][0].update({"lambda": 0.04}), r"with a range of 0\.003\.\.0\.03"),
        (lambda rate: rate.update({"lambda": 0.03}), r"rates.lambda=0\.03"),
        (lambda rate: rate.update({"lambda": [0.001, 0.03]}), r"with a range of 0\.003\.\.0\.03"),
        (lambda rate: rate.update(range={"multipliers": [-9, 12], "lambdas": [0.03, 0.003]}), "rising"),
        (lambda rate: rate.update(range={"multipliers": [-9, 12]}), "a range must have lists"),
        (lambda rate: [rate.pop("range"), rate.pop("curve")], r"rates.lambda=\[0\.003, 0\.03\]"),
    ],
)
def test_a_wrong_entry_is_refused(change: Callable[[dict], object], message: str) -> None:
    entry = json.loads(json.dumps(GOOD))
    change(entry)
    with pytest.raises(ValueError, match=message):
        BundledRate.from_dict(entry)
