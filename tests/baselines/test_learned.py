"""CompressAI's image codecs with weights that stand in for the trained ones."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

from bottlenecks.baselines import make_baselines
from bottlenecks.baselines.base import Baseline, Calibration
from bottlenecks.baselines.learned import LearnedImage, import_zoo
from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.errors import UsageError
from tests.baselines.conftest import network_input, receive, send, to_pixels
from tests.fuzzing import each_flip


@pytest.fixture(params=("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean"))
def codec(request: pytest.FixtureRequest, make: Callable[[str], list[Baseline]]) -> LearnedImage:
    (codec,) = make(request.param.replace("-", "_"))
    assert isinstance(codec, LearnedImage)
    return copy.copy(codec)


@pytest.mark.parametrize("size", [(64, 64), (40, 33), (1, 2)])
def test_round_trip_is_that_of_the_network(
    codec: LearnedImage, size: tuple[int, int], photos: list[np.ndarray]
) -> None:
    pixels = photos[0][: size[0], : size[1]]
    stream = send(codec, network_input(pixels))
    decoded = receive(pickle.loads(pickle.dumps(codec)), stream)
    assert decoded.shape == (3, *size) and np.array_equal(decoded, receive(codec, stream))
    padded = np.pad(pixels, ((0, 64 - size[0]), (0, 64 - size[1]), (0, 0)), mode="edge")
    with torch.no_grad():
        expected = codec.network(torch.from_numpy(padded).permute(2, 0, 1)[None] / 255)["x_hat"][0].clamp(0, 1)
    inside = expected.permute(1, 2, 0).numpy()[: size[0], : size[1]] * 255
    assert np.abs(to_pixels(decoded) - inside).max() <= 0.51


def test_damage_is_seen_before_anything_is_decoded(codec: LearnedImage, photos: list[np.ndarray]) -> None:
    stream = send(codec, network_input(photos[0]))
    codec._network = torch.nn.Identity()  # which can decode nothing
    for damaged in each_flip(stream):
        with pytest.raises(BitstreamError):
            receive(codec, damaged)
    for length in range(len(stream)):
        with pytest.raises(BitstreamError):
            receive(codec, stream[:length])


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["bmshj2018-hyperprior"], indirect=True)
def test_names_and_costs(codec: LearnedImage, photos: list[np.ndarray]) -> None:
    assert codec.name.replace("_", "-") == codec.architecture and codec.setting == "quality=2"
    image = (torch.from_numpy(network_input(photos[0]))[None],)
    assert codec.encoder_macs(image) > 0 and codec.decoder_macs(image) > 0 and codec.state_bytes() > 10_000
    assert codec.path.stat().st_size > len(pickle.dumps(codec))


def test_without_weights_there_is_none_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calibration: Calibration, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert make_baselines("bmshj2018_factorized", calibration) == []
    line = capsys.readouterr().out
    assert line.count("\n") == 1 and str(tmp_path / "hub" / "checkpoints" / "bmshj2018-factorized-prior-1") in line


def test_weights_of_another_network_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calibration: Calibration, photos: list[np.ndarray]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / PurePosixPath(import_zoo().model_urls["mbt2018"]["mse"][1]).name
    path.parent.mkdir(parents=True)
    torch.save({"weight": torch.zeros(1)}, path)
    (codec,) = make_baselines("mbt2018", calibration)
    with pytest.raises(UsageError, match="does not fit"):
        send(codec, network_input(photos[0]))
