"""The codec's streams, and the settings that are chosen from calibration features."""

import functools
import pickle
from collections.abc import Sequence

import numpy as np
import pytest

from bottlenecks.baselines.features import FeatureBaseline, TensorCalibration
from bottlenecks.baselines.lightweight.activations import ActivationModel
from bottlenecks.baselines.lightweight.codec import (
    Lightweight,
    lightweight,
    lightweight_model,
    lightweight_static,
    lightweight_uniform,
)
from bottlenecks.baselines.lightweight.quantiser import uniform
from bottlenecks.baselines.lightweight.unary import AdaptiveUnary, StaticTable
from bottlenecks.coding.bitstream import BitstreamError
from tests.baselines.conftest import receive, send

FACTORIES = [lightweight, lightweight_static, lightweight_uniform, lightweight_model]
SHAPE = (8, 6, 5)
HEADER_BYTES = 6


def calibrate(features: np.ndarray) -> TensorCalibration:
    """Features whose distortion is their mean squared error, measured by coding them."""

    def distortion(made: np.ndarray) -> float:
        return float(np.mean((features - made) ** 2, dtype=np.float64))

    def measure(codecs: Sequence[FeatureBaseline]) -> list[tuple[float, float]]:
        measured = []
        for codec in codecs:
            streams = [send(codec, one) for one in features]
            made = np.stack([receive(codec, one) for one in streams])
            measured.append((float(np.mean([len(one) for one in streams])), distortion(made)))
        return measured

    return TensorCalibration(features, distortion, measure)


def draw_features(signed: bool, count: int = 8) -> np.ndarray:
    """Channels of different scales, Laplace distributed; through a ReLU unless signed."""
    rng = np.random.default_rng(0)
    features = rng.laplace(0.1, 1, (count, *SHAPE)) * rng.uniform(0.3, 3, (SHAPE[0], 1, 1))
    return (features if signed else np.maximum(features, 0)).astype(np.float32)


@functools.cache
def choose(factory, signed: bool) -> tuple[TensorCalibration, list[Lightweight]]:
    calibration = calibrate(draw_features(signed))
    return calibration, factory(calibration)


def make_codec(setting: str = "N=4", coder=None, num_levels: int = 4, high: float = 3.0, **options) -> Lightweight:
    return Lightweight(SHAPE, uniform(num_levels, 0, high), coder or AdaptiveUnary(num_levels), setting, **options)


def test_a_stream_is_six_bytes_and_the_payload():
    codec, features = make_codec(), draw_features(signed=False)[0]
    indices = np.floor(np.clip(features, 0, 3) + 0.5).astype(int)
    payload = AdaptiveUnary(4).encode(indices.reshape(-1))
    stream = send(codec, features)
    assert len(payload) < 128
    assert (stream[HEADER_BYTES:], len(stream)) == (payload, HEADER_BYTES + len(payload))
    assert np.array_equal(receive(codec, stream), indices)
    assert receive(codec, stream).dtype == np.float32


def test_a_channel_is_coded_after_the_other():
    features = np.zeros(SHAPE, dtype=np.float32)
    features[1, 2, 3] = 3
    indices = AdaptiveUnary(4).decode(send(make_codec(), features)[HEADER_BYTES:], features.size)
    assert np.flatnonzero(indices).tolist() == [1 * 6 * 5 + 2 * 5 + 3]


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("signed", [True, False])
def test_settings_span_a_curve(factory, signed):
    calibration, codecs = choose(factory, signed)
    assert {codec.name for codec in codecs} == {factory.__name__}
    assert len({codec.setting for codec in codecs}) == len({codec.fingerprint for codec in codecs}) == len(codecs)
    measured = np.array(calibration.measure(codecs))
    assert 5 <= len(codecs) <= 8
    if factory in (lightweight, lightweight_static):
        assert (np.diff(measured, axis=0) * [1, -1] > 0).all()
    assert measured[0, 0] < measured[-1, 0] / 1.5
    assert measured[-1, 1] < 0.5 * measured[0, 1]


@pytest.mark.parametrize("factory", FACTORIES)
def test_codecs_are_small_and_code_alike_elsewhere(factory):
    features = draw_features(signed=True)
    for codec in choose(factory, True)[1]:
        pickled = pickle.dumps(codec)
        assert len(pickled) < 2500
        elsewhere, stream = pickle.loads(pickled), send(codec, features[0])
        assert send(elsewhere, features[0]) == stream
        assert np.array_equal(receive(elsewhere, stream), receive(codec, stream))


def test_every_setting_of_uniform_levels_is_there():
    for factory in (lightweight_uniform, lightweight_model):
        codecs = choose(factory, False)[1]
        assert [codec.setting for codec in codecs] == [f"N={num_levels}" for num_levels in range(2, 9)]


def test_the_empirical_range_is_that_of_least_distortion():
    features = draw_features(signed=False)
    quantiser = choose(lightweight_uniform, False)[1][2].quantiser
    highs = np.quantile(features, [0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.9995, 1.0], method="nearest")
    errors = [np.mean((one.values(one.indices(features)) - features) ** 2) for one in (uniform(4, 0, h) for h in highs)]
    assert quantiser.levels[0] == 0
    assert quantiser.levels[-1] == pytest.approx(highs[np.argmin(errors)], rel=1e-3)


@pytest.mark.parametrize(("signed", "alpha", "kappa"), [(False, 0, 0.5), (True, 1, 1)])
def test_the_model_needs_mean_and_variance_alone(signed, alpha, kappa):
    features = draw_features(signed).astype(np.float64)
    model = ActivationModel.fit(features.mean(), features.var(), alpha, kappa)
    for codec in choose(lightweight_model, signed)[1]:
        ends = (
            model.best_range(codec.quantiser.num_levels) if signed else (0, model.best_high(codec.quantiser.num_levels))
        )
        assert codec.quantiser.levels[[0, -1]] == pytest.approx(ends, rel=1e-5)


def test_designed_levels_are_better_than_uniform_ones_on_average():
    curves = [choose(factory, False) for factory in (lightweight, lightweight_uniform)]
    designed, even = (np.array(calibration.measure(codecs)) for calibration, codecs in curves)
    within = (even[:, 0] >= designed[0, 0]) & (even[:, 0] <= designed[-1, 0])
    at_equal_bytes = np.interp(np.log(even[within, 0]), np.log(designed[:, 0]), np.log(designed[:, 1]))
    assert within.sum() >= 3 and at_equal_bytes.mean() < np.log(even[within, 1]).mean()
    assert designed[-1, 1] < 0.8 * even[-1, 1]


def test_heavy_tails_leave_a_curve():
    features = draw_features(signed=False)
    features[0, 0, 0, 0] = 50000
    features[3, 0, :2, 0] = 700
    assert len(lightweight_model(calibrate(features))) == 7
    nearly_all = np.sort(features, axis=None)[:-3]
    weighed = [codec for codec in lightweight(cap(features, 12)) if not codec.setting.endswith("l=0")]
    assert max(len(np.unique(codec.quantiser.indices(nearly_all))) for codec in weighed) >= 5


def cap(features: np.ndarray, largest: float) -> TensorCalibration:
    """Calibration whose distortion does not mind what is above a value, as a network may not."""
    capped = calibrate(np.minimum(features, largest))

    def distortion(made: np.ndarray) -> float:
        return capped.distortion(np.minimum(made, largest))

    def measure(codecs: Sequence[FeatureBaseline]) -> list[tuple[float, float]]:
        streams = [[send(codec, one) for one in features] for codec in codecs]
        made = [np.stack([receive(codec, one) for one in own]) for codec, own in zip(codecs, streams, strict=True)]
        return [(sum(map(len, one)) / len(one), distortion(array)) for one, array in zip(streams, made, strict=True)]

    return TensorCalibration(features, distortion, measure)


@pytest.mark.parametrize(
    "other",
    [
        make_codec(high=2.0),
        make_codec(num_levels=5),
        make_codec(coder=StaticTable(np.array([5, 3, 1, 1]))),
        make_codec(name="lightweight_uniform"),
    ],
)
def test_streams_of_others_are_refused(other):
    stream = send(other, draw_features(signed=False)[0])
    with pytest.raises(BitstreamError, match="this stream is not of lightweight, N=4"):
        receive(make_codec(), stream)


def test_damage_and_misfits_are_errors():
    codec, features = make_codec(), draw_features(signed=False)[0]
    stream = send(codec, features)
    with pytest.raises(BitstreamError, match="checksum"):
        receive(codec, stream[:-1] + bytes([stream[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"expected features of shape \(8, 6, 5\)"):
        send(codec, features[:-1])
    with pytest.raises(ValueError, match="the features are not finite"):
        send(codec, features * np.float32(np.nan))
    with pytest.raises(ValueError, match="coder and quantiser differ: 5 and 4 levels"):
        make_codec(coder=AdaptiveUnary(5))
    with pytest.raises(ValueError, match="variance above 0"):
        lightweight_model(calibrate(np.ones((2, *SHAPE), dtype=np.float32)))
