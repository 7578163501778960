"""What a configuration has exported, and in what form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from bottlenecks.errors import UsageError, check_flag, check_number, quoted

HEADS, PIXELS = ("float", "int8"), ("float", "uint8")


@dataclass(frozen=True)
class ExportPlan:
    """The settings of `export.py` that `evaluate.py` has not, checked.

    Attributes:
        out: the bundle's folder; None for one that is named after it.
        head: `float`, or `int8` to compute in 8 bits on the device.
        pixels: what the head takes: `float`, or `uint8` for pixels that it normalises itself.
        openvino: write the head in OpenVINO's form, too.
        max_drop: of the metric, or of agreement without labels, that 8 bits may cost, in the mean over the rates; 0..1.
    """

    out: Path | None = None
    head: str = "float"
    pixels: str = "float"
    openvino: bool = False
    max_drop: float = 0.01

    @classmethod
    def of(cls, cfg: DictConfig) -> ExportPlan:
        """Read and check the settings; `device=int8` means `head=int8`.

        Raises:
            UsageError: one cannot be used.
        """
        if cfg.out is not None and (not isinstance(cfg.out, str) or Path(cfg.out).name in ("", "..")):
            raise UsageError(f"out={cfg.out}: expected a folder by its name; quote it, as {quoted('out', '…')}")
        head = ("int8" if cfg.device == "int8" else "float") if cfg.head is None else cfg.head
        if cfg.device == "int8" and head == "float":
            raise UsageError("device=int8: asks for a head in 8 bits, head=float for one that is not; give one of them")
        for name, value, known in (("head", head, HEADS), ("pixels", cfg.pixels, PIXELS)):
            if value not in known:
                raise UsageError(f"{name}={value}: expected {' or '.join(known)}")
        check_flag("openvino", cfg.openvino)
        check_number("max_drop", cfg.max_drop, 0, 1)
        return cls(None if cfg.out is None else Path(cfg.out), head, cfg.pixels, cfg.openvino, float(cfg.max_drop))
