"""The shell around every Hydra command: one line for a user's mistake, a traceback for ours."""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from bottlenecks import errors
from bottlenecks.errors import UsageError, quoted, reason

_HERE = Path(__file__).resolve()
CONFIGS = next(  # within the installed package, beside it in a checkout
    path for path in (_HERE.parents[1] / "configs", _HERE.parents[2] / "configs") if path.is_dir()
)


def entry_point(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], Any]]:
    """Make a Hydra command of a function.

    A `UsageError`, and what Hydra and OmegaConf have to say about an argument, ends the program with status 2 and
    one line on stderr. Anything else is a bug and keeps its traceback.

    Args:
        config_name: stem of a file in `configs/`.

    Returns:
        A decorator that turns `function(cfg)` into `main()`.
    """

    def decorate(function: Callable[[DictConfig], Any]) -> Callable[[], Any]:
        @functools.wraps(function)
        def job(cfg: DictConfig) -> Any:
            return run(lambda: function(cfg))  # inside Hydra, which would put a line of its own before ours

        command = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)(job)

        @functools.wraps(function)
        def main() -> Any:
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us instead of Hydra's own printer
            hush_lightning()
            return run(command)

        return main

    return decorate


def hush_lightning() -> None:
    """Keep Lightning's advertisements, and its remarks on what is meant here, off the terminal."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*in eval mode at the start of training",
        "`isinstance.treespec, LeafSpec.` is deprecated",
        ".*broadcast_buffers",
        "Detected call of `lr_scheduler.step",  # half precision leaves out steps until the scale of the loss is right
    ):
        warnings.filterwarnings("ignore", message=message)  # the frozen network is meant to be in eval mode


def run(command: Callable[[], Any]) -> Any:
    """Run a command as `errors.run` does, and take what Hydra and OmegaConf say for mistakes too."""
    return errors.run(lambda: _as_usage_errors(command))


def _as_usage_errors(command: Callable[[], Any]) -> Any:
    try:
        return command()
    except (MissingMandatoryValue, InterpolationToMissingValueError) as error:
        raise UsageError(f"{error.full_key}: missing; give it as {error.full_key}=…") from None
    except InterpolationKeyError as error:
        raise UsageError(
            f"{error.full_key}: {reason(error)}; ${{…}} stands for another setting, as text it is written \\${{…}}"
        ) from None
    except MissingConfigException as error:
        raise UsageError(_describe_missing(error)) from None
    except OverrideParseException as error:
        raise UsageError(_describe_unreadable(error.override, reason(error))) from None
    except (HydraException, OmegaConfBaseException) as error:
        if isinstance(error.__cause__, UsageError):  # raised in a constructor that Hydra called
            raise error.__cause__ from None
        unknown = isinstance(error.__cause__, (ConfigAttributeError, ConfigKeyError)) and error.__cause__.full_key
        raise UsageError(_describe_unknown(error.__cause__) if unknown else _describe_hydra(error)) from None
    except ValueError as error:
        if "Config group override" not in str(error):  # Hydra's, where a group is given null or a number
            raise
        raise UsageError("data, unit, logger and the like take a name of theirs, as logger=none") from None
    except RuntimeError as error:
        if not lost_another(error):
            raise
        raise UsageError("another of the processes has ended; what it says is the reason") from None


def lost_another(error: RuntimeError) -> bool:
    """Whether an error says that another of several processes is gone."""
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return several and any(sign in str(error) for sign in signs)


def _describe_hydra(error: Exception) -> str:
    """Return what Hydra says, with the reason in the place of advice on how to see it."""
    message, advice, _ = str(error).partition(", set env var HYDRA_FULL_ERROR")
    return f"{message}: {error.__cause__}" if advice and error.__cause__ else message


def _describe_unknown(error: OmegaConfBaseException) -> str:
    """Return which settings there are in the place of one that is not there, and which choices of its group have it."""
    group, _, name = str(error.full_key).rpartition(".")
    known = [str(key) for key in error.parent_node or {} if key != "hydra" and not str(key).startswith("_")]
    choices = sorted((CONFIGS / group).glob("*.yaml")) if group else []
    having = " and ".join(f"{group}={path.stem}" for path in choices if name in (OmegaConf.load(path) or {}))
    way_out = f"{having} would take {name}" if having else f"+{error.full_key}=… adds one"
    return f"{error.full_key}: no such setting here; there are {', '.join(known)}; {way_out}"


def _describe_unreadable(argument: str, why: str) -> str:
    """Return how to quote an argument whose value Hydra takes for its own language: `=`, brackets or `~`."""
    name, equals, value = argument.partition("=")
    if not equals:
        return f"{argument}: expected NAME=VALUE ({why})"
    return f"{argument}: cannot be read ({why}); if {name} is to be this text, quote it: {quoted(name, value)}"


def _describe_missing(error: MissingConfigException) -> str:
    if not error.options or not error.missing_cfg_file:
        return str(error)
    group, _, name = error.missing_cfg_file.rpartition("/")
    message = f"{group}={name}: no such {group}; there are {', '.join(error.options)}"
    if group == "model":
        message += f"; any other network: model=torchvision model.name={name}, or model=timm model.name={name}"
    return message
