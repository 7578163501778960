"""Loggers: Weights & Biases without an account or a prompt, CSV, TensorBoard, or none."""

from __future__ import annotations

import io
import netrc
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from bottlenecks.errors import UsageError
from bottlenecks.terminal import say

MODES = ("auto", "online", "offline", "disabled")


def wandb_logger(
    folder: Path,
    name: str,
    group: str,
    job_type: str,
    settings: Mapping[str, Any],
    project: str,
    mode: str = "auto",
) -> Logger:
    """Open a W&B run of its own, beside others of the same process.

    Args:
        folder: where an offline run lies until `wandb sync`.
        name: of the run, such as `lambda=0.01`.
        group: runs of one ladder.
        job_type: `train` or `evaluate`.
        settings: what the run shows as its configuration.
        project: of the run.
        mode: `online`, `offline`, `disabled`, or `auto`: online where logged in, else offline, never a prompt.
    """
    if mode not in MODES:
        raise UsageError(f"logger.mode={mode}: expected one of {', '.join(MODES)}")
    import wandb  # takes a second, and only this logger needs it

    run = wandb.init(
        project=project,
        name=name,
        group=group,
        job_type=job_type,
        config=dict(settings),
        dir=str(folder),
        mode=wandb_mode(wandb.setup().settings.base_url) if mode == "auto" else mode,  # type: ignore[arg-type]
        reinit="create_new",
        settings=wandb.Settings(silent=True),
    )
    return WandbLogger(experiment=run, save_dir=str(folder))


def wandb_mode(base_url: str) -> str:
    """Decide whether W&B can be reached with a key that is already there."""
    if "WANDB_MODE" in os.environ:
        return os.environ["WANDB_MODE"]
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    try:
        known = netrc.netrc().authenticators(urlparse(base_url).netloc)
    except (OSError, netrc.NetrcParseError):
        known = None
    return "online" if known else "offline"


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
    if isinstance(logger, WandbLogger):
        logger.log_table(key, columns=list(columns), data=[list(row) for row in rows])


def log_picture(logger: Logger | None, key: str, path: Path) -> None:
    """Show a picture, where the logger can."""
    if isinstance(logger, WandbLogger):
        logger.log_image(key, images=[str(path)])


def log_chart(logger: Logger | None, key: str, make: Callable[[], Any]) -> None:
    """Show a Plotly figure, where the logger can; it is not made elsewhere."""
    if isinstance(logger, WandbLogger):
        import wandb

        try:
            figure = make()
        except UsageError as error:
            say(f"No {key} on the dashboard: {error}")
        else:
            logger.experiment.log({key: wandb.Plotly(figure)})


def log_figure(logger: Logger | None, key: str, figure: Figure, step: int) -> None:
    """Show a figure that changes over the steps, where the logger can."""
    if isinstance(logger, WandbLogger):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
        logger.log_image(key, images=[Image.open(buffer)], step=step)
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.add_figure(key, figure, step)


def log_histogram(logger: Logger | None, key: str, values: Tensor, step: int) -> None:
    """Show how values spread, where the logger can."""
    if isinstance(logger, WandbLogger):
        import wandb

        histogram = wandb.Histogram(values.flatten().cpu().numpy())
        logger.experiment.log({key: histogram, "trainer/global_step": step})
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.add_histogram(key, values.flatten().cpu(), step)


def in_sweep(logger: Logger | None) -> bool:
    """Whether a run is a trial of a W&B sweep, which has one run a trial."""
    return isinstance(logger, WandbLogger) and bool(logger.experiment.sweep_id)


def log_file(logger: Logger | None, name: str, kind: str, path: Path, metadata: Mapping[str, Any]) -> None:
    """Keep a finished file as an artifact, where the logger can.

    Args:
        logger: of the run that made it.
        name: of the artifact.
        kind: its type, such as `rate`.
        path: the file.
        metadata: shown beside it.
    """
    if isinstance(logger, WandbLogger):
        import wandb

        # Artifact names take letters, digits, dashes, dots and underscores.
        artifact = wandb.Artifact(name.replace("=", "-").replace("/", "-"), type=kind, metadata=dict(metadata))
        artifact.add_file(str(path))
        logger.experiment.log_artifact(artifact)


def offline_folders(loggers: Sequence[Logger | None]) -> list[Path]:
    """Name the folders of W&B runs that wait for `wandb sync`."""
    runs = [logger.experiment for logger in loggers if isinstance(logger, WandbLogger)]
    folders = [Path(run.dir).parent for run in runs if run.offline and not run.disabled]
    return [folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder for folder in folders]


def close(logger: Logger | None) -> None:
    """Finish a run, so that all of it is on disk or sent."""
    if logger is None:
        return
    logger.finalize("success")
    if isinstance(logger, WandbLogger):
        logger.experiment.finish()
