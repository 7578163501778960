"""Segmentation is evaluated over all pixels of all images, and what has no label does not count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchmetrics.classification import MulticlassJaccardIndex

from bottlenecks.errors import UsageError
from bottlenecks.tasks import make_task

TASK = make_task("segmentation")
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 5, 8, 9, generator=GENERATOR)
TARGETS = torch.randint(-1, 4, (6, 8, 9), generator=GENERATOR)  # the last class never occurs in a mask


def test_score_and_metric_are_torchmetrics_jaccard_index() -> None:
    jaccard = MulticlassJaccardIndex(5, ignore_index=-1)
    jaccard.update(LOGITS, TARGETS)
    metric = TASK.metric()
    for part in (slice(0, 2), slice(2, 6)):
        metric.update({"out": LOGITS[part]}, TARGETS[part])
    assert float(metric.compute()) == pytest.approx(float(jaccard.compute()), abs=1e-6)
    statistics = TASK.statistics({"out": LOGITS}, TARGETS).numpy()
    counts = np.array([[1] * 6, [0, 2, 1, 0, 0, 1]], float)
    whole, some = TASK.score(statistics, counts)
    assert whole == pytest.approx(float(jaccard.compute()), abs=1e-6)
    drawn = torch.tensor([1, 1, 2, 5])
    jaccard.reset()
    jaccard.update(LOGITS[drawn], TARGETS[drawn])
    assert some == pytest.approx(float(jaccard.compute()), abs=1e-6)


def test_images_without_masks_have_no_score() -> None:
    unlabelled = torch.full((6,), -1)
    assert not TASK.is_labelled(unlabelled) and not TASK.is_labelled(torch.full((6, 8, 9), -1))
    assert np.isnan(TASK.score(TASK.statistics(LOGITS, unlabelled).numpy(), np.ones((1, 6)))).all()


def test_masks_of_classes_that_the_network_does_not_have_are_refused() -> None:
    assert TASK.truth(TARGETS, {"out": LOGITS}) is TARGETS
    with pytest.raises(UsageError, match=r"class 5 is among them, and the network has 5 outputs"):
        TASK.truth(TARGETS + 2, LOGITS)


def test_distortions_are_means_over_pixels() -> None:
    teacher = torch.randn(6, 5, 8, 9, generator=GENERATOR)
    expected = F.kl_div(F.log_softmax(LOGITS, 1), F.softmax(teacher, 1), reduction="none").sum(1).mean((1, 2))
    assert torch.allclose(TASK.distillation({"out": LOGITS}, {"out": teacher}), expected, atol=1e-6)
    loss = F.cross_entropy(LOGITS[:1], TARGETS[:1], ignore_index=-1)
    assert torch.allclose(TASK.supervised(LOGITS, TARGETS)[0], loss)
    assert TASK.supervised(LOGITS, torch.full_like(TARGETS, -1)).tolist() == [0.0] * 6


def test_agreement_is_the_share_of_pixels() -> None:
    other = LOGITS.clone()
    other[0, :, :2] = -other[0, :, :2]
    same = (LOGITS[0].argmax(0) == other[0].argmax(0)).float().mean()
    assert TASK.agreement(LOGITS, other)[0] == same < 1
    assert TASK.agreement(LOGITS, other)[1:].tolist() == [1.0] * 5


def test_drawn_masks_leave_the_background_clear() -> None:
    image = Image.new("RGB", (9, 8), "white")
    drawn = np.asarray(TASK.draw(image, {"out": LOGITS[:1]}, ["__background__", "a", "b", "c", "d"]))
    clear = (drawn == 255).all(2)
    assert (clear == (LOGITS[0].argmax(0) == 0).numpy()).all() and not clear.all()
    assert not (np.asarray(TASK.draw(image, {"out": LOGITS[:1]}, [])) == 255).all(2).any()
