"""What a network does, one task a file: its distortions, its metric, its agreement."""

from torch import nn

from bottlenecks.errors import UsageError
from bottlenecks.tasks.base import Task
from bottlenecks.tasks.classification import Classification
from bottlenecks.tasks.detection import Detection
from bottlenecks.tasks.segmentation import Segmentation

TASKS: dict[str, type[Task]] = {task.name: task for task in (Classification, Segmentation, Detection)}


def make_task(name: str, network: nn.Module | None = None) -> Task:
    """Make the task that a model config names.

    Args:
        name: of the task.
        network: whose outputs it is to judge.

    Raises:
        UsageError: there is no such task.
    """
    if name not in TASKS:
        raise UsageError(f"model.task={name}: no such task; there are {', '.join(TASKS)}")
    return TASKS[name](network)


def task_of_metric(metric: str) -> Task:
    """Make the task whose results are given as this metric.

    Raises:
        UsageError: there is none.
    """
    found = [task for task in TASKS.values() if task.metric_name == metric]
    if not found:
        known = ", ".join(task.metric_name for task in TASKS.values())
        raise UsageError(f"metric={metric}: no task is judged by it; there are {known}")
    return found[0]()


__all__ = ["TASKS", "Classification", "Detection", "Segmentation", "Task", "make_task", "task_of_metric"]
