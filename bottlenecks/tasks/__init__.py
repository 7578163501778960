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


__all__ = ["TASKS", "Classification", "Task", "make_task"]
