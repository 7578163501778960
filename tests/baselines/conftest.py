"""A small calibration that looks like a network's, real images, and every codec made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

from bottlenecks.baselines import make_baselines
from bottlenecks.baselines.base import Baseline, Calibration
from bottlenecks.baselines.features import FeatureBaseline, Framed, TensorCalibration
from bottlenecks.baselines.learned import import_zoo
from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.splitting.features import FloatArray

FEATURE_SHAPE = (24, 4, 6)
SIZES = {  # of networks that are small enough to test with: channels N, and M where it is not N
    "bmshj2018-factorized": (16, 24),
    "bmshj2018-hyperprior": (16, 24),
    "mbt2018-mean": (16, 24),
    "mbt2018": (16, 24),
    "cheng2020-anchor": (16,),
    "cheng2020-attn": (16,),
}
PREPROCESSING = Preprocessing(resize=None, crop=None, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def make_features(count: int, seed: int) -> FloatArray:
    """Draw features (N, 24, 4, 6) as a ReLU leaves them: channels alike, smooth, half zero, with a long tail."""
    mixing = np.random.default_rng(0).normal(size=(FEATURE_SHAPE[0], 6))
    random = np.random.default_rng(seed)
    coarse = random.normal(size=(count, 6, 2, 3)).repeat(2, axis=2).repeat(2, axis=3)
    mixed = np.einsum("ck,nkhw->nchw", mixing, coarse) + 0.3 * random.normal(size=(count, *FEATURE_SHAPE))
    return (np.maximum(mixed, 0) ** 1.5).astype(np.float32)


def network_input(pixels: np.ndarray) -> FloatArray:
    """Turn pixels (H, W, 3) into a network input (3, H, W)."""
    mean, std = (np.array(three, np.float32) for three in (PREPROCESSING.mean, PREPROCESSING.std))
    return np.ascontiguousarray(((pixels.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1))


def to_pixels(array: FloatArray) -> np.ndarray:
    """Undo `network_input`."""
    mean, std = (np.array(three, np.float32) for three in (PREPROCESSING.mean, PREPROCESSING.std))
    return np.rint((array.transpose(1, 2, 0) * std + mean) * 255).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    """Three parts (64, 64, 3) of photographs."""
    china, flower = load_sample_images().images
    return [
        np.ascontiguousarray(one) for one in (china[100:164, 200:264], china[300:364, 30:94], flower[150:214, 300:364])
    ]


@pytest.fixture(scope="session")
def images(photos: list[np.ndarray]) -> list[FloatArray]:
    """Those, as network inputs."""
    return [network_input(pixels) for pixels in photos]


def send(codec: Baseline | FeatureBaseline, array: FloatArray) -> bytes:
    """Code what is alone at a cut, or a network's input."""
    return _framed(codec).encode((array,))


def receive(codec: Baseline | FeatureBaseline, stream: bytes) -> FloatArray:
    """Decode it."""
    (array,) = _framed(codec).decode(stream)
    return array


def _framed(codec: Baseline | FeatureBaseline) -> Baseline:
    return Framed([codec]) if isinstance(codec, FeatureBaseline) else codec


@pytest.fixture(scope="session")
def alone() -> TensorCalibration:
    """Features, their squared error in the place of a task's distortion, and coding for real."""
    features = make_features(4, seed=1)

    def distortion(features_hat: FloatArray) -> float:
        return float(np.mean((features_hat - features) ** 2))

    def measure(codecs: Sequence[Baseline | FeatureBaseline]) -> list[tuple[float, float]]:
        results = []
        for codec in codecs:
            streams = [send(codec, array) for array in features]
            decoded = np.stack([receive(codec, stream) for stream in streams])
            results.append((sum(map(len, streams)) / len(streams), distortion(decoded)))
        return results

    return TensorCalibration(features, distortion, measure)


@pytest.fixture(scope="session")
def calibration(alone: TensorCalibration) -> Calibration:
    """The same of all that crosses."""
    return Calibration((alone.features,), lambda arrays: alone.distortion(*arrays), alone.measure, PREPROCESSING)


@pytest.fixture(scope="session")
def torch_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of torch's with weights of small networks, drawn at random, as the second quality of each in the zoo."""
    home = tmp_path_factory.mktemp("torch")
    (home / "hub" / "checkpoints").mkdir(parents=True)
    torch.manual_seed(0)
    zoo = import_zoo()
    for architecture, sizes in SIZES.items():
        network = zoo.model_architectures[architecture](*sizes)
        network.update(force=True)
        file = PurePosixPath(zoo.model_urls[architecture]["mse"][2]).name
        torch.save(network.state_dict(), home / "hub" / "checkpoints" / file)
    return home


@pytest.fixture(scope="session")
def make(calibration: Calibration, torch_home: Path) -> Callable[[str], list[Baseline]]:
    """Make a codec's operating points, once; skip where its packages are not installed."""
    made: dict[str, list[Baseline]] = {}

    def give(name: str) -> list[Baseline]:
        if name not in made:
            try:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setenv("TORCH_HOME", str(torch_home))
                    made[name] = make_baselines(name, calibration)
            except UsageError as error:
                pytest.skip(str(error))
        return made[name]

    return give
