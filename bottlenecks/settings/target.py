"""What is asked of a rate in the place of a lambda."""

from __future__ import annotations

import math
from dataclasses import dataclass

from omegaconf import DictConfig

from bottlenecks.coding.bitstream import FINGERPRINT_BYTES, pack
from bottlenecks.errors import UsageError, check_number

HEADER_BYTES = len(pack(b"", bytes(FINGERPRINT_BYTES)))
PERCENT = 100.0


@dataclass(frozen=True)
class Target:
    """What is asked of a rate in the place of a lambda.

    Attributes:
        kind: `bytes`, the mean of an image with its header; or `loss`, points of the task's metric that are lost
            against the unsplit network, of agreement where there are no labels.
        value: how many.
    """

    kind: str
    value: float

    def __str__(self) -> str:
        return f"target.{self.kind}={self.value:g}"

    @classmethod
    def of(cls, cfg: DictConfig) -> Target | None:
        """Read and check the settings of a run; None where no target is given.

        Raises:
            UsageError: it cannot be used, or not together with other settings.
        """
        given = {kind: value for kind, value in cfg.target.items() if value is not None}
        if not given:
            return None
        if len(given) > 1:
            both = ", ".join(f"target.{kind}={value}" for kind, value in given.items())
            raise UsageError(f"{both}: a rate can meet one target; give one of them")
        ((kind, value),) = given.items()
        least, most = (HEADER_BYTES + 1, math.inf) if kind == "bytes" else (0.01, PERCENT)
        check_number(f"target.{kind}", value, least, most)
        if cfg.unit.architecture != "transform":
            raise UsageError(
                f"target.{kind}={value}: the steps of unit={cfg.unit.architecture} cannot be set; "
                "use unit=transform, or give lambda"
            )
        if cfg.unit.get("range"):
            raise UsageError(
                f"target.{kind}={value}: is met by a unit of one rate, unit.range=true makes one of any; leave one out"
            )
        if cfg["lambda"] is not None:
            raise UsageError(f"target.{kind}={value}: lambda={cfg['lambda']} would be found; leave one out")
        return cls(kind, float(value))

    def asks_for_more(self, value: float) -> bool:
        """Return whether it takes finer steps than those that come to this value."""
        return value < self.value if self.kind == "bytes" else value > self.value
