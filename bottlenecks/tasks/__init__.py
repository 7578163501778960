"""What a network does, one task a file: its distortions, its metric, its agreement.

The tasks, and torch with them, are imported when one is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bottlenecks.errors import UsageError, check_number
from bottlenecks.lazy import importer

if TYPE_CHECKING:
    from torch import nn

    from bottlenecks.tasks.base import Task as Task
    from bottlenecks.tasks.classification import Classification as Classification
    from bottlenecks.tasks.detection import Detection as Detection
    from bottlenecks.tasks.embedding import Embedding as Embedding
    from bottlenecks.tasks.segmentation import Segmentation as Segmentation

    Factory = Callable[..., Task]

_CLASSES = {
    "classification": "Classification",
    "segmentation": "Segmentation",
    "detection": "Detection",
    "embedding": "Embedding",
}
WITHOUT_CLASSES = ("embedding",)  # tasks that learn from no labels
DISTORTIONS: Mapping[str, Sequence[str]] = {"embedding": ("cosine", "mse")}  # of tasks that leave a choice

__getattr__ = importer(__name__, {"Task": "base", **{own: module for module, own in _CLASSES.items()}})


def _make(module: str, network: nn.Module | None, **settings: Any) -> Task:
    task: Task = getattr(import_module(f"{__name__}.{module}"), _CLASSES[module])(network, **settings)
    return task


TASKS: dict[str, Factory] = {name: partial(_make, name) for name in _CLASSES}


def check_task(name: str) -> None:
    """Refuse a task that there is not.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in TASKS:
        raise UsageError(f"model.task={name}: no such task; there are {', '.join(TASKS)}")


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings that a task does not have, or cannot use.

    Args:
        name: of the task.
        settings: those of `distortion` and `outputs` that are given.

    Raises:
        UsageError: there is one.
    """
    for key, value in settings.items():
        if name not in DISTORTIONS:
            others = ", ".join(DISTORTIONS)
            raise UsageError(f"model.{key}={value}: model.task={name} has no such choice, {others} has; leave it out")
    distortion, outputs = settings.get("distortion"), settings.get("outputs")
    if distortion is not None and distortion not in DISTORTIONS[name]:
        raise UsageError(f"model.distortion={distortion}: expected {' or '.join(DISTORTIONS[name])}")
    if outputs is None:
        return
    if not isinstance(outputs, Mapping):
        raise UsageError(f"model.outputs={outputs}: expected weights by name, as model.outputs={{pooler_output: 1}}")
    for output, weight in outputs.items():
        check_number(f"model.outputs.{output}", weight)
    if not any(outputs.values()):
        raise UsageError(f"model.outputs={dict(outputs)}: every weight is 0; set one above 0")


def make_task(name: str, network: nn.Module | None = None, settings: Mapping[str, Any] | None = None) -> Task:
    """Make the task that a model config names.

    Args:
        name: of the task.
        network: whose outputs it is to evaluate.
        settings: of the task, see `check_settings`.

    Raises:
        UsageError: there is no such task, or it has no such setting.
    """
    check_task(name)
    check_settings(name, settings or {})
    return TASKS[name](network, **(settings or {}))


def task_of_metric(metric: str) -> Task:
    """Make the task whose results are given as this metric.

    Raises:
        UsageError: there is none.
    """
    tasks = {task.metric_name: task for task in map(make_task, TASKS)}
    if metric not in tasks:
        raise UsageError(f"metric={metric}: no task is evaluated by it; there are {', '.join(tasks)}")
    return tasks[metric]
