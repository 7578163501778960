"""Loggers that fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger


class Failing(CSVLogger):
    """Fails in one of its calls, as a full disk or a server that is gone makes others do.

    Args:
        folder: of its files.
        name: of the run.
        at: the call that fails; `open` for none of a logger that is there.
    """

    def __init__(self, folder: Path, name: str, at: str, **_: Any) -> None:
        if at == "open" or at == name:
            raise OSError(28, "No space left on device")
        super().__init__(str(folder), name)
        self.at = at

    def __getattribute__(self, name: str) -> Any:
        if name == object.__getattribute__(self, "__dict__").get("at"):
            raise OSError(28, "No space left on device")
        return super().__getattribute__(name)
