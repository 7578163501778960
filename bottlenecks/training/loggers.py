"""Loggers: what they show, and that none ends a run by its failure."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from bottlenecks.console.terminal import say
from bottlenecks.errors import UsageError, reason


class Guarded(Logger):
    """A logger whose failure is one line: it is silent from then on, and the run goes on.

    Args:
        own: the logger; None for one that could not be opened and keeps its place in silence.
        told: the lines that other loggers of the run have said.
    """

    def __init__(self, own: Logger | None, told: set[str]) -> None:
        super().__init__()
        self.own, self.told, self.failed = own, told, own is None

    def attempt(self, action: Callable[[Any], Any]) -> Any:
        """Do something with the logger; None where it fails, or has failed before."""
        if self.failed:
            return None
        try:
            return action(self.own)
        except Exception as error:  # whatever a library, a server or a full disk comes up with
            self.failed = True
            say_once(f"{type(self.own).__name__} failed ({reason(error)}); the run goes on without it", self.told)
            return None

    @property
    def name(self) -> str | None:
        """Name of the experiment."""
        return self.attempt(lambda own: own.name)

    @property
    def version(self) -> int | str | None:
        """Version of the experiment."""
        return self.attempt(lambda own: own.version)

    @property
    def save_dir(self) -> str | None:
        """Folder of its files."""
        return self.attempt(lambda own: own.save_dir)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log figures."""
        self.attempt(lambda own: own.log_metrics(metrics, step))

    def log_hyperparams(self, *given: Any, **named: Any) -> None:
        """Log settings."""
        self.attempt(lambda own: own.log_hyperparams(*given, **named))

    def save(self) -> None:
        """Write what is held back."""
        self.attempt(lambda own: own.save())

    def finalize(self, status: str) -> None:
        """End the logging."""
        self.attempt(lambda own: own.finalize(status))


def say_once(message: str, told: set[str]) -> None:
    """Print what has not been said before in a run."""
    if message not in told:
        told.add(message)
        say(message)


def _with(logger: Logger | None, kind: type, action: Callable[[Any], Any]) -> Any:
    """Do something with a logger of a kind, guarded or not; nothing with any other."""
    if isinstance(logger, Guarded):
        return logger.attempt(action) if isinstance(logger.own, kind) else None
    return action(logger) if isinstance(logger, kind) else None


def csv_logger(folder: Path, name: str, group: str, **_: Any) -> Logger:
    """Write `metrics.csv` into `<group>/<name>/version_<n>`."""
    return CSVLogger(str(folder / group), name=name)


def tensorboard_logger(folder: Path, name: str, group: str, **_: Any) -> Logger:
    """Write TensorBoard events into `<group>/<name>/version_<n>`; TensorBoard is an optional extra."""
    try:
        return TensorBoardLogger(str(folder / group), name=name, default_hp_metric=False)
    except ModuleNotFoundError:
        raise UsageError(
            "logger=tensorboard: TensorBoard is not installed; pip install 'bottlenecks[tensorboard]'"
        ) from None


def no_logger(**_: Any) -> None:
    """Log nothing."""
    return None


def log_table(logger: Logger | None, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Show a table, where the logger can."""
    data = [list(row) for row in rows]
    _with(logger, WandbLogger, lambda own: own.log_table(key, columns=list(columns), data=data))


def log_image(logger: Logger | None, key: str, path: Path) -> None:
    """Show an image, where the logger can."""
    _with(logger, WandbLogger, lambda own: own.log_image(key, images=[str(path)]))


def log_chart(logger: Logger | None, key: str, make: Callable[[], Any]) -> None:
    """Show a Plotly figure, where the logger can; it is not made elsewhere."""

    def show(own: WandbLogger) -> None:
        import wandb

        try:
            figure = make()
        except UsageError as error:
            say(f"No {key} on the dashboard: {error}")
        else:
            own.experiment.log({key: wandb.Plotly(figure)})

    _with(logger, WandbLogger, show)


def log_figure(logger: Logger | None, key: str, figure: Figure, step: int) -> None:
    """Show a figure that changes over the steps, where the logger can."""

    def show(own: WandbLogger) -> None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
        own.log_image(key, images=[Image.open(buffer)], step=step)

    _with(logger, WandbLogger, show)
    _with(logger, TensorBoardLogger, lambda own: own.experiment.add_figure(key, figure, step))


def log_histogram(logger: Logger | None, key: str, values: Tensor, step: int) -> None:
    """Show how values spread, where the logger can."""

    def show(own: WandbLogger) -> None:
        import wandb

        histogram = wandb.Histogram(values.flatten().cpu().numpy())
        own.experiment.log({key: histogram, "trainer/global_step": step})

    _with(logger, WandbLogger, show)
    _with(logger, TensorBoardLogger, lambda own: own.experiment.add_histogram(key, values.flatten().cpu(), step))


def in_sweep(logger: Logger | None) -> bool:
    """Whether a run is a trial of a W&B sweep, which has one run a trial."""
    return bool(_with(logger, WandbLogger, lambda own: own.experiment.sweep_id))


def log_file(logger: Logger | None, name: str, kind: str, path: Path, metadata: Mapping[str, Any]) -> None:
    """Keep a finished file as an artifact, where the logger can.

    Args:
        logger: of the run that made it.
        name: of the artifact.
        kind: its type, such as `rate`.
        path: the file.
        metadata: shown beside it.
    """

    def keep(own: WandbLogger) -> None:
        import wandb

        # Artifact names take letters, digits, dashes, dots and underscores.
        artifact = wandb.Artifact(name.replace("=", "-").replace("/", "-"), type=kind, metadata=dict(metadata))
        artifact.add_file(str(path))
        own.experiment.log_artifact(artifact)

    _with(logger, WandbLogger, keep)


def offline_folders(loggers: Sequence[Logger | None]) -> list[Path]:
    """Name the folders of W&B runs that wait for `wandb sync`."""
    runs = [_with(logger, WandbLogger, lambda own: own.experiment) for logger in loggers]
    folders = [Path(run.dir).parent for run in runs if run is not None and run.offline and not run.disabled]
    return [folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder for folder in folders]


def close(logger: Logger | None) -> None:
    """Finish a run, so that all of it is on disk or sent."""
    _with(logger, Logger, lambda own: own.finalize("success"))
    _with(logger, WandbLogger, lambda own: own.experiment.finish())
