"""What holds for all codecs that need no training."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bottlenecks.baselines import BASELINES, make_baselines
from bottlenecks.baselines.base import Baseline, Calibration
from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.errors import UsageError
from bottlenecks.splitting.features import FloatArray
from tests.baselines.conftest import make_features, receive, send
from tests.fuzzing import each_flip

# An encoder that is a program of its own, and siblings that differ in the network alone.
SLOW = ("vvc", "bmshj2018_factorized", "mbt2018_mean", "mbt2018", "cheng2020_anchor", "cheng2020_attn")
IMAGE_FORMATS = ("jpeg", "webp", "av1", "hevc_image", "png")


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in BASELINES])
def codecs(request: pytest.FixtureRequest, make: Callable[[str], list[Baseline]]) -> list[Baseline]:
    """All operating points of one codec."""
    return make(request.param)


@pytest.fixture
def inputs(codecs: list[Baseline], images: list[FloatArray]) -> list[FloatArray]:
    """What this codec codes."""
    return images if codecs[0].sends == "images" else list(make_features(3, seed=2))


def test_round_trip(codecs: list[Baseline], inputs: list[FloatArray]) -> None:
    batch = torch.from_numpy(np.stack(inputs))
    for codec in codecs:
        (decoded,) = codec.decompress(codec.compress((batch,)))
        assert decoded.shape == batch.shape and decoded.dtype == torch.float32 and decoded.isfinite().all()


def test_names_are_those_of_the_registry_and_settings_differ(
    codecs: list[Baseline], request: pytest.FixtureRequest
) -> None:
    assert {codec.name for codec in codecs} == {request.node.callspec.params["codecs"]}
    assert len({codec.setting for codec in codecs}) == len(codecs)


def test_bytes_alone_determine_what_is_decoded(codecs: list[Baseline], inputs: list[FloatArray]) -> None:
    for codec in (codecs[0], codecs[-1]):
        receiver = pickle.loads(pickle.dumps(codec))
        stream = send(codec, inputs[0])
        send(codec, inputs[1])
        assert np.array_equal(receive(receiver, stream), receive(codec, stream))
        assert send(pickle.loads(pickle.dumps(codec)), inputs[0]) == stream


def test_from_few_bytes_to_many(codecs: list[Baseline], calibration: Calibration, images: list[FloatArray]) -> None:
    arrays = images if codecs[0].sends == "images" else calibration.features[0]
    rates = [sum(len(send(codec, array)) for array in arrays) for codec in codecs]
    assert rates == sorted(rates)


def test_other_inputs_are_refused(codecs: list[Baseline], inputs: list[FloatArray]) -> None:
    nan = inputs[0].copy()
    nan[0, 0, 0] = np.nan
    for array in (nan, inputs[0][0], inputs[0][:2], np.full_like(inputs[0], np.inf)):
        with pytest.raises(ValueError, match=r"finite|expected features of shape"):
            send(codecs[0], array)


def test_damaged_and_foreign_streams_are_refused(
    codecs: list[Baseline], inputs: list[FloatArray], foreign: dict[str, bytes]
) -> None:
    codec, random = codecs[len(codecs) // 2], np.random.default_rng(0)
    stream = send(codec, inputs[0])
    bad = [stream[:length] for length in (0, 1, 7, len(stream) // 2, len(stream) - 1)]
    bad += [random.bytes(length) for length in (1, 10, 100, 1000)]
    bad += [other for name, other in foreign.items() if name != codec.name]
    for one in bad:
        with pytest.raises(BitstreamError):
            receive(codec, one)


def test_reported_bytes_are_those_of_files(codecs: list[Baseline], inputs: list[FloatArray], tmp_path: Path) -> None:
    streams = codecs[-1].compress((torch.from_numpy(np.stack(inputs)),))
    for index, stream in enumerate(streams):
        (tmp_path / str(index)).write_bytes(stream)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == sum(map(len, streams))
    (decoded,) = codecs[-1].decompress([(tmp_path / str(index)).read_bytes() for index in range(len(streams))])
    assert torch.equal(decoded, *codecs[-1].decompress(streams))


def test_frames_show_every_flipped_bit(codecs: list[Baseline], inputs: list[FloatArray]) -> None:
    if codecs[0].sends == "images":
        pytest.skip("a file as any viewer opens it has no checksum")
    stream = send(codecs[0], inputs[0])
    for damaged in each_flip(stream):
        with pytest.raises(BitstreamError):
            receive(codecs[0], damaged)


@pytest.fixture
def foreign(make: Callable[[str], list[Baseline]], images: list[FloatArray]) -> dict[str, bytes]:
    """A stream of each image format, and one of features."""
    streams = {name: send(make(name)[0], images[0]) for name in IMAGE_FORMATS}
    return {**streams, "uniform": send(make("uniform")[0], make_features(1, seed=3)[0])}


def test_an_unknown_codec_is_named_beside_known_ones(calibration: Calibration) -> None:
    with pytest.raises(UsageError, match=r"codec hevc9: unknown; did you mean hevc.*\?"):
        make_baselines("hevc9", calibration)


def test_the_registry_imports_no_codec() -> None:
    check = "import sys, bottlenecks.baselines; sys.exit(any(name in sys.modules for name in ('av', 'torch', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", check], timeout=60).returncode == 0
