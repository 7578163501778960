"""What settings stand for in files from before there were these settings."""

from collections.abc import Mapping
from typing import Any

# New setting -> the value that does what was done before it was there. One whose value for that is null needs no line.
OLD_VALUES: Mapping[str, Any] = {
    "training.linear_lr": 5e-3,  # of no effect on the units of then
    "training.weight_decay": 0.01,
    "training.fit_images": 8192,
    "unit.range": False,
    "unit.hidden": 0,
}
