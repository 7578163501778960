"""What a configuration has evaluated, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from bottlenecks.baselines import BASELINES
from bottlenecks.errors import UsageError, check_name, check_number, closest
from bottlenecks.rates.places import CheckpointError, find_rates
from bottlenecks.settings.experiment import ExperimentPlan

UNIT = "unit"  # the codec that is the configuration's own unit
FRAME, SESSION = "frame", "session"
FRAMINGS = {FRAME: "per image", SESSION: "per image, in a session"}  # that bytes are counted in, as axes say it
DEVICES = ("auto", "cpu", "cuda", "mps", "xpu", "hpu", "xla")


@dataclass(frozen=True)
class EvaluationPlan:
    """The settings of `evaluate.py`, checked.

    Attributes:
        codecs: their names.
        anchor: the one that others are compared with, None for the first.
        workers: processes that code for the baselines, None for as many as there are threads.
        calibration_images: training images that baselines choose their settings on.
        timed_images: images that times are taken over.
        points: rates of a unit of any rate.
        device: where to run, or `auto`.
        framing: that tables and figures count the bytes of units in.
    """

    codecs: Sequence[str]
    anchor: str | None
    workers: int | None
    calibration_images: int
    timed_images: int
    points: int
    device: str
    framing: str

    @classmethod
    def of(cls, cfg: DictConfig) -> EvaluationPlan:
        """Read and check the settings.

        Raises:
            UsageError: one cannot be used.
        """
        for name in ("timed_images", "calibration_images", "points"):
            check_number(name, cfg[name], 1, whole=True)
        if cfg.workers is not None:
            check_number("workers", cfg.workers, whole=True)
        names = codec_names(cfg)
        if cfg.anchor is not None and cfg.anchor not in names:
            raise UsageError(f"anchor={cfg.anchor}: not among the codecs that are evaluated, {', '.join(names)}")
        check_device(cfg.device)
        check_framing(cfg.framing)
        plan = cls(
            names,
            cfg.anchor,
            cfg.workers,
            cfg.calibration_images,
            cfg.timed_images,
            cfg.points,
            cfg.device,
            cfg.framing,
        )
        if plan.framing == SESSION and not plan.units:
            raise UsageError(f"framing=session: units are sent in sessions, of codecs={names} none is one; add unit")
        return plan

    @property
    def units(self) -> list[str]:
        """Names of the codecs that are trained units."""
        return [name for name in self.codecs if name not in BASELINES]

    @property
    def baselines(self) -> list[str]:
        """Names of the codecs that are no trained units."""
        return [name for name in self.codecs if name in BASELINES]


def codec_names(cfg: DictConfig) -> list[str]:
    """Read `codecs`, a name or a list of them.

    Raises:
        UsageError: none, or none that could be a codec's.
    """
    names = list(cfg.codecs) if OmegaConf.is_list(cfg.codecs) else [cfg.codecs]
    if not names:
        raise UsageError(f"codecs=[]: expected at least one of {UNIT}, {', '.join(BASELINES)}")
    for name in names:
        check_name("codecs", name)
    return list(dict.fromkeys(names))


def check_framing(framing: object) -> None:
    """Refuse what is no way to count bytes.

    Raises:
        UsageError: it is not.
    """
    if framing not in FRAMINGS:
        raise UsageError(f"framing={framing}: expected {' or '.join(FRAMINGS)}")


def check_device(device: object) -> None:
    """Refuse what is no kind of device, with or without a number.

    Raises:
        UsageError: it is not.
    """
    kind, colon, index = str(device).partition(":")
    if kind not in DEVICES or (colon and not index.isdecimal()):
        raise UsageError(f"device={device}: expected one of {', '.join(DEVICES)}, or one with its number, as cuda:1")


def find_ladder(plan: ExperimentPlan, name: str) -> tuple[Path, str]:
    """Return where the rates of an experiment's own unit lie, or those of another by its name.

    Returns:
        Their folder, and the unit's name.

    Raises:
        UsageError: there are none.
    """
    if name == UNIT:
        find_rates(plan.folder, plan.unit.name)
        return plan.folder, plan.unit.name
    folder = plan.folder_of(name)
    try:
        find_rates(folder, name)
    except CheckpointError as error:
        known = closest(name, [UNIT, *BASELINES], len(BASELINES))
        raise UsageError(f"codecs={name}: no baseline ({known}), and no trained unit ({error})") from None
    return folder, name
