"""What a network does, one task a file: its distortions, its metric, its agreement.

The tasks, and torch with them, are imported when one is made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from bottlenecks.errors import UsageError
from bottlenecks.lazy import importer

if TYPE_CHECKING:
    from torch import nn

    from bottlenecks.tasks.base import Task as Task
    from bottlenecks.tasks.classification import Classification as Classification
    from bottlenecks.tasks.detection import Detection as Detection
    from bottlenecks.tasks.segmentation import Segmentation as Segmentation

    Factory = Callable[[nn.Module | None], Task]

_CLASSES = {"classification": "Classification", "segmentation": "Segmentation", "detection": "Detection"}

__getattr__ = importer(__name__, {"Task": "base", **{own: module for module, own in _CLASSES.items()}})


def _make(module: str, network: nn.Module | None) -> Task:
    task: Task = getattr(import_module(f"{__name__}.{module}"), _CLASSES[module])(network)
    return task


TASKS: dict[str, Factory] = {name: partial(_make, name) for name in _CLASSES}


def check_task(name: str) -> None:
    """Refuse a task that there is not.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in TASKS:
        raise UsageError(f"model.task={name}: no such task; there are {', '.join(TASKS)}")


def make_task(name: str, network: nn.Module | None = None) -> Task:
    """Make the task that a model config names.

    Args:
        name: of the task.
        network: whose outputs it is to evaluate.

    Raises:
        UsageError: there is no such task.
    """
    check_task(name)
    return TASKS[name](network)


def task_of_metric(metric: str) -> Task:
    """Make the task whose results are given as this metric.

    Raises:
        UsageError: there is none.
    """
    tasks = {task.metric_name: task for task in map(make_task, TASKS)}
    if metric not in tasks:
        raise UsageError(f"metric={metric}: no task is evaluated by it; there are {', '.join(tasks)}")
    return tasks[metric]
