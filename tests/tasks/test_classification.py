"""Classification's metric and agreement."""

from __future__ import annotations

import pytest
import torch

from bottlenecks.errors import UsageError
from bottlenecks.tasks import make_task


def test_accuracy_counts_labelled_images_only() -> None:
    metric = make_task("classification").metric()
    output = torch.eye(4)
    metric.update(output, torch.tensor([0, 1, 0, -1]))
    metric.update(output[:1], torch.tensor([-1]))
    assert float(metric.compute()) == pytest.approx(2 / 3)


def test_agreement_is_on_the_top_class() -> None:
    output = torch.tensor([[0.1, 0.9], [0.9, 0.1]])
    teacher = torch.tensor([[0.4, 0.6], [0.4, 0.6]])
    assert make_task("classification").agreement(output, teacher).tolist() == [1.0, 0.0]


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(UsageError, match=r"model.task=tracking: no such task; there are classification"):
        make_task("tracking")
