"""The outer products of a probe's gradients average to the exact curvature of each task's distortion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import Generator, Tensor

from bottlenecks.tasks import Classification, Detection, Embedding, Segmentation, Task
from tests.test_tasks import Counting

NUM_DRAWS = 20_000
STAGES = SimpleNamespace(
    scores={"objectness": "sigmoid", "first": "sigmoid", "second": "softmax"}, regressions=("rough", "exact")
)
SHAPES = {"objectness": (3, 1), "first": (3, 2), "second": (2, 3), "rough": (3, 2), "exact": (2, 4)}

TOKENS = {"tokens": (3, 4), "pooled": (5,), "aside": (2,)}


def outputs(flat: Tensor, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Cut vectors (N, D) into named tensors (N, …)."""
    parts = flat.split([math.prod(shape) for shape in shapes.values()], 1)
    return {name: part.unflatten(1, shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


CASES = [
    pytest.param(Classification(), {"logits": (6,)}, id="classification"),
    pytest.param(Segmentation(), {"out": (4, 2, 3)}, id="segmentation"),
    pytest.param(Detection(STAGES), SHAPES, id="detection"),  # type: ignore[arg-type]
    pytest.param(Embedding(), {"logits": (6,)}, id="embedding"),
    pytest.param(Embedding(), {"tokens": (3, 4), "maps": (3, 2, 2)}, id="tokens and maps"),
    pytest.param(Embedding(distortion="mse", outputs={"tokens": 3, "pooled": 1}), TOKENS, id="squared error"),
]


@pytest.mark.parametrize(("task", "shapes"), CASES)
def test_second_moment_is_the_hessian_of_the_distortion(task: Task, shapes: dict[str, tuple[int, ...]]) -> None:
    size = sum(map(math.prod, shapes.values()))
    flat = 2 * torch.randn(1, size, dtype=torch.float64, generator=Generator().manual_seed(1))

    def whole(vectors: Tensor) -> dict[str, Tensor] | Tensor:
        named = outputs(vectors, shapes)
        return named.get("logits", named)

    hessian = torch.autograd.functional.hessian(
        lambda own: task.distillation(whole(own[None]), whole(flat)).sum(), flat[0]
    )
    copies = flat.repeat(NUM_DRAWS, 1).requires_grad_()
    probed = task.probe(whole(copies), [Generator().manual_seed(seed) for seed in range(NUM_DRAWS)])
    assert probed.shape == (NUM_DRAWS,)
    (gradients,) = torch.autograd.grad(probed.sum(), copies)
    moment = gradients.T @ gradients / NUM_DRAWS
    assert (moment - hessian).norm() < 0.05 * hessian.norm()
    own = torch.diagonal(hessian)
    assert torch.allclose(torch.diagonal(moment), own, rtol=0.1, atol=1e-3 * float(own.max()))


@pytest.mark.parametrize(("task", "shapes"), CASES)
def test_an_images_probe_is_its_own(task: Task, shapes: dict[str, tuple[int, ...]]) -> None:
    flat = torch.randn(5, sum(map(math.prod, shapes.values())), generator=Generator().manual_seed(2))

    def probe(images: Sequence[int]) -> Tensor:
        named = outputs(flat[list(images)], shapes)
        return task.probe(named.get("logits", named), [Generator().manual_seed(image) for image in images])

    together = probe(range(5))
    assert torch.allclose(torch.cat([probe([image]) for image in range(5)]), together, atol=1e-6)
    assert torch.allclose(probe([4, 1]), together[[4, 1]], atol=1e-6)
    assert together.unique().numel() == 5


def test_a_task_without_a_probe_is_named() -> None:
    with pytest.raises(NotImplementedError, match=r"model.task=counting: Counting has no `probe`"):
        Counting().probe(torch.ones(1, 8), [Generator()])
