"""HEVC and VVC of features: options, sizes, what is agreed beforehand."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import numpy as np
import pytest

from bottlenecks.baselines import make_baselines, still
from bottlenecks.baselines import vvc as vvc_module
from bottlenecks.baselines.base import Baseline, Calibration
from bottlenecks.baselines.hevc import Hevc
from bottlenecks.baselines.still import decode_hevc, encode_hevc, pad
from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.errors import UsageError
from evaluate import evaluate
from tests.baselines.conftest import FEATURE_SHAPE, make_features, receive, send
from tests.conftest import TINY, configure
from tests.fuzzing import forge

pytest.importorskip("av")
OTHERS = "info=1 psy-rd=2 psy-rdoq=10 rdoq-level=0 tskip=0 ipratio=1.4 range=limited colormatrix=bt709"
SEI = (39, 40)  # unit types of supplemental information, table 7-1 of the HEVC standard


def unit_types(stream: bytes) -> list[int]:
    return [start[1][0] >> 1 & 63 for start in re.finditer(rb"\x00\x00\x01(.)", stream, re.DOTALL)]


@pytest.fixture
def plane(photos: list[np.ndarray]) -> np.ndarray:
    return np.ascontiguousarray(photos[0][..., 1])


def test_x265_takes_the_options(plane: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = encode_hevc([plane], 30)
    assert not set(SEI) & set(unit_types(ours))
    assert len(encode_hevc([plane], 40)) < len(ours)
    for option in OTHERS.split():
        with monkeypatch.context() as patch:
            patch.setattr(still, "X265_OPTIONS", f"{still.X265_OPTIONS}:{option}")  # the last one counts
            assert encode_hevc([plane], 30) != ours, option


def test_grey_is_coded_as_grey_and_ten_bits_as_ten(plane: np.ndarray) -> None:
    assert [one.shape for one in decode_hevc(encode_hevc([plane], 30))] == [plane.shape]
    deep = plane.astype(np.uint16) * 4 + 3
    (decoded,) = decode_hevc(encode_hevc([deep], 0))
    assert decoded.dtype == np.uint16 and np.abs(decoded.astype(int) - deep).max() <= 4 < decoded.max() - 255


@pytest.mark.parametrize(("shape", "padded"), [((3, 40), (16, 40)), ((17, 16), (18, 16)), ((32, 48), (32, 48))])
def test_padding_repeats_edges(shape: tuple[int, int], padded: tuple[int, int]) -> None:
    plane = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    larger = pad(plane, 2)
    assert larger.shape == padded and np.array_equal(larger[: shape[0], : shape[1]], plane)
    assert (larger[shape[0] :] == larger[shape[0] - 1]).all()


@pytest.mark.parametrize(("stream", "message"), [(b"", "lost its end"), (still.END_OF_SEQUENCE, "hevc|expected one")])
def test_what_is_no_image_is_refused(stream: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_hevc(stream)


def test_several_images_are_refused(plane: np.ndarray) -> None:
    with pytest.raises(ValueError, match="goes on after it"):
        decode_hevc(encode_hevc([plane], 30) * 2)


def test_the_finest_setting_is_within_one_level() -> None:
    features = make_features(1, seed=4)[0]
    codec = Hevc(FEATURE_SHAPE, (0.0, float(features.max())), 8, qp=0)
    assert np.abs(receive(codec, send(codec, features)) - features).max() <= 1.5 * features.max() / 255


def test_parameter_sets_are_agreed_and_not_sent() -> None:
    features = make_features(1, seed=4)[0]
    codec = Hevc(FEATURE_SHAPE, (0.0, 3.0), 8, qp=30)
    assert unit_types(codec.head)[:3] == [32, 33, 34]
    whole = codec.head + codec.write(features) + still.END_OF_SEQUENCE
    assert decode_hevc(whole)[0].shape == (24, 24)
    with pytest.raises(BitstreamError, match="not of hevc, qp=31"):
        receive(Hevc(FEATURE_SHAPE, (0.0, 3.0), 8, qp=31), send(codec, features))


@pytest.mark.parametrize("name", ["hevc", "hevc10", pytest.param("vvc", marks=pytest.mark.slow)])
def test_forged_payloads_end_in_an_error_or_in_features(name: str, make: Callable[[str], list[Baseline]]) -> None:
    from random import Random

    codec, random = make(name)[0], Random(0)
    stream = send(codec, make_features(1, seed=4)[0])
    for _ in range(40):
        try:
            decoded = receive(codec, forge(stream, stream, random))
        except BitstreamError:
            continue
        assert decoded.shape == FEATURE_SHAPE and np.isfinite(decoded).all()


def test_without_pyav_the_way_out_is_named(calibration: Calibration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match=re.escape("pip install 'bottlenecks[evaluation]'")):
        make_baselines("hevc", calibration)


def test_without_an_encoder_of_vvc_the_way_out_is_named(
    calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vvc_module, "_program", lambda: sys.executable)
    monkeypatch.setattr(vvc_module, "_ffmpeg", lambda arguments: " V..... libx265 \n")
    with pytest.raises(UsageError, match=re.escape("has no VVenC; pip install 'bottlenecks[vvc]'")):
        make_baselines("vvc", calibration)


def test_without_the_package_the_way_out_is_named(calibration: Calibration, monkeypatch: pytest.MonkeyPatch) -> None:
    vvc_module._program.cache_clear()
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UsageError, match="needs the package imageio-ffmpeg"):
        make_baselines("vvc", calibration)
    vvc_module._program.cache_clear()


def test_a_pyav_without_x265_is_one_line(trained, monkeypatch):
    import av

    class Without:
        """Stands for a build that has decoders alone."""

        @staticmethod
        def create(name, mode):
            raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr(av, "CodecContext", Without)
    with pytest.raises(UsageError, match=r"codecs: the PyAV installed here is built without libx265; .*leave HEVC out"):
        evaluate(configure("evaluate", trained, *TINY, "logger=none", "codecs=[unit,hevc]", "workers=0"))
