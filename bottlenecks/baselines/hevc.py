"""Features as one grey HEVC image."""

from __future__ import annotations

from collections.abc import Sequence

from bottlenecks.baselines.features import TensorCalibration
from bottlenecks.baselines.mosaic import Mosaic, operating_points
from bottlenecks.baselines.selection import Range, on_the_front
from bottlenecks.baselines.still import END_OF_SEQUENCE, Plane, decode_hevc, encode_hevc


class Hevc(Mosaic):
    """HEVC intra of a mosaic, 4:0:0 (x265; not HEVC-SCC, which x265 as PyAV bundles it does not do).

    Args:
        feature_shape: (C, H, W).
        ends: of the range that is not clipped.
        bits: 8 or 10.
        qp: 0 (fine) to 51.
    """

    def __init__(self, feature_shape: Sequence[int], ends: Range, bits: int, qp: int) -> None:
        self.name = "hevc" if bits == 8 else f"hevc{bits}"
        super().__init__(feature_shape, ends, bits, qp)

    def code(self, plane: Plane) -> bytes:
        """Code a grey image (H, W); the frame's checksum and length make an end of the stream needless."""
        return encode_hevc([plane], self.qp).removesuffix(END_OF_SEQUENCE)

    def decode_plane(self, stream: bytes) -> Plane:
        """Decode a grey image (H, W)."""
        planes = decode_hevc(stream + END_OF_SEQUENCE)
        if len(planes) != 1:
            raise ValueError(f"expected a grey image, found {len(planes)} planes")
        return planes[0]


def hevc(calibration: TensorCalibration) -> list[Hevc]:
    """Return the settings that span the curve at 8 bits; range and QP are chosen together, for HEVC.

    Returns:
        Codecs, from few bytes to many.
    """
    return _on_the_front(calibration, 8)


def hevc10(calibration: TensorCalibration) -> list[Hevc]:
    """Return those at 10 bits."""
    return _on_the_front(calibration, 10)


def _on_the_front(calibration: TensorCalibration, bits: int) -> list[Hevc]:
    points, shape = operating_points(calibration.features), calibration.features.shape[1:]
    return on_the_front([Hevc(shape, ends, bits, qp) for ends, qp in points], calibration)
