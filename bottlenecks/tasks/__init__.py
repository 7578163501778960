"""What a network does, one task a file: its distortions, its metric, its agreement."""

from bottlenecks.errors import UsageError
from bottlenecks.tasks.base import Task
from bottlenecks.tasks.classification import Classification

TASKS: dict[str, type[Task]] = {task.name: task for task in (Classification,)}


def make_task(name: str) -> Task:
    """Make the task that a model config names.

    Raises:
        UsageError: there is no such task.
    """
    if name not in TASKS:
        raise UsageError(f"model.task={name}: no such task; there are {', '.join(TASKS)}")
    return TASKS[name]()


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


__all__ = ["TASKS", "Classification", "Task", "make_task", "task_of_metric"]
