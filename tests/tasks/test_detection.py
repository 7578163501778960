"""Detection is evaluated as COCO does; agreement and distortion look at what matters."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bottlenecks.tasks import Detection

NETWORK = SimpleNamespace(scores={"logits": "sigmoid"}, regressions=("boxes",))
TASK = Detection(NETWORK)  # type: ignore[arg-type]


def scenes(count: int = 12, most: int = 20, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """Objects of three classes, and found boxes that are near them, elsewhere, of another class, or twice there."""
    random = np.random.default_rng(seed)
    targets = torch.zeros(count, 6, 5)
    targets[:, :, 0] = -1
    found = {
        "boxes": torch.zeros(count, most, 4),
        "scores": torch.zeros(count, most),
        "labels": torch.full((count, most), -1),
    }
    for index in range(count):
        rows = []
        for place in range(random.integers(0, 7) if index else 0):  # the first has no object
            corner, size = random.uniform(0, 60, 2), random.uniform(10, 30, 2)
            box, label = np.concatenate([corner, corner + size]), int(random.integers(3))
            targets[index, place] = torch.tensor([label, *box])
            for _ in range(random.integers(0, 3)):
                shifted = box + random.normal(0, 3, 4)
                rows.append((random.uniform(), label if random.uniform() < 0.8 else (label + 1) % 3, shifted))
        rows += [(random.uniform(), int(random.integers(3)), np.array([70, 70, 90, 95.0])) for _ in range(2)]
        for place, (score, label, box) in enumerate(sorted(rows, key=lambda row: -row[0])[:most]):
            found["boxes"][index, place] = torch.tensor(box)
            found["scores"][index, place], found["labels"][index, place] = score, label
    return found, targets


def select(found: dict[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    return {name: tensor[index] for name, tensor in found.items()}


@pytest.mark.parametrize("seed", range(4))
def test_score_is_torchmetrics_map_also_of_images_drawn_twice(seed: int) -> None:
    pytest.importorskip("faster_coco_eval")
    found, targets = scenes(seed=seed)
    statistics = TASK.statistics(found, targets).numpy()
    for drawn in (torch.arange(12), torch.tensor([0, 3, 3, 3, 7, 8, 8, 11])):
        metric = TASK.metric()
        metric.update(select(found, drawn), targets[drawn])
        counts = torch.bincount(drawn, minlength=12).double().numpy()[None]
        assert TASK.score(statistics, counts)[0] == pytest.approx(float(metric.compute()), abs=1e-6)


def test_only_the_surest_boxes_of_a_class_count_however_many_a_detector_gives() -> None:
    pytest.importorskip("faster_coco_eval")
    count, most = 3, 260
    boxes = torch.arange(most)[None, :, None] * 12.0 + torch.tensor([0.0, 0, 10, 10])
    found = {
        "boxes": boxes.expand(count, most, 4),
        "scores": torch.linspace(0.9, 0.1, most).expand(count, most),
        "labels": torch.arange(most).expand(count, most) % 2,  # 130 boxes of each class
    }
    targets = torch.cat([found["labels"][..., None], found["boxes"]], 2)[:, [1, 90, 197, 198, 205, 240, 255]]
    metric = TASK.metric()
    metric.update(found, targets)
    value = TASK.score(TASK.statistics(found, targets).numpy(), np.ones((1, count)))[0]
    assert value == pytest.approx(float(metric.compute()), abs=1e-6)
    assert 0 < value < 1  # some objects are found by boxes that are not among the surest 100


def test_nothing_found_scores_nothing_and_no_objects_have_no_score() -> None:
    found, targets = scenes()
    nothing = {**found, "labels": torch.full_like(found["labels"], -1)}
    statistics = TASK.statistics(nothing, targets).numpy()
    assert TASK.score(statistics, np.ones((1, 12))).tolist() == [0.0]
    assert np.isnan(TASK.score(statistics, np.eye(12)[:1])).all()
    unlabelled = torch.full((12,), -1)
    assert not TASK.is_labelled(unlabelled) and TASK.is_labelled(targets[:1])
    assert np.isnan(TASK.score(TASK.statistics(found, unlabelled).numpy(), np.ones((1, 12)))).all()


def test_agreement_counts_confident_boxes_of_both() -> None:
    found, _ = scenes()
    assert TASK.agreement(found, found).tolist() == [1.0] * 12
    other = {**found, "labels": torch.where(found["labels"] >= 0, (found["labels"] + 1) % 3, -1)}
    sure = (found["scores"] >= 0.3).any(1)
    assert (TASK.agreement(found, other)[sure] < 1).all() and (TASK.agreement(found, other)[~sure] == 1).all()
    fewer = {**found, "scores": found["scores"] * (torch.arange(20) < 1)}
    first = int(sure.nonzero()[0])
    num = int((found["scores"][first] >= 0.3).sum())
    assert float(TASK.agreement(found, fewer)[first]) == pytest.approx(2 / (num + 1))


def test_distortion_weighs_the_places_where_the_teacher_sees_something() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = {"logits": torch.full((2, 1000, 3), -8.0), "boxes": torch.randn(2, 1000, 4, generator=generator)}
    teacher["logits"][:, 7, 1] = 4.0
    assert TASK.distillation(teacher, teacher).abs().max() < 1e-6

    def disturbed(place: int) -> float:
        output = {name: tensor.clone() for name, tensor in teacher.items()}
        output["boxes"][:, place] += 1.0
        output["logits"][:, place] += 1.0
        return float(TASK.distillation(output, teacher)[0])

    assert disturbed(7) > 100 * disturbed(8) > 0
    shifted = {**teacher, "boxes": torch.zeros_like(teacher["boxes"]) + teacher["boxes"].mean()}
    assert 0.5 < float(TASK.distillation(shifted, teacher)[0]) < 2  # all of the variance is lost


def test_boxes_are_drawn_where_they_are() -> None:
    found = {
        "boxes": torch.tensor([[[4.0, 5, 20, 25], [1, 1, 3, 3]]]),
        "scores": torch.tensor([[0.9, 0.1]]),
        "labels": torch.tensor([[1, 0]]),
    }
    drawn = np.asarray(TASK.draw(Image.new("RGB", (32, 32)), found, ["a", "b"]))
    assert drawn[5, 10].any() and drawn[25, 10].any() and not drawn[1, 1:4].any()
