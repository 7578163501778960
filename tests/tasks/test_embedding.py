"""Embeddings are held against the unsplit network's: by direction, and by which images are nearest to which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from bottlenecks.errors import UsageError
from bottlenecks.network import BottleneckNetwork
from bottlenecks.run import main as run_images
from bottlenecks.tasks import Embedding, make_task
from bottlenecks.tasks.neighbours import classes_of_neighbours, nearest_others, ranks
from bottlenecks.training.frozen import FrozenBatch
from bottlenecks.training.target import PointsLost
from evaluate import evaluate
from tests.conftest import configure, quiet
from tests.networks import block
from train import train

GENERATOR = torch.Generator().manual_seed(0)
GALLERY = nn.functional.normalize(torch.randn(40, 6, generator=GENERATOR))
OWN = nn.functional.normalize(GALLERY + 0.3 * torch.randn(40, 6, generator=GENERATOR))
LABELS = torch.randint(0, 4, (40,), generator=GENERATOR)


class Embedder(nn.Module):
    """An image to tokens and their mean: 16x8x8 features at `body` of 32x32 images."""

    def __init__(self, form: str = "vector") -> None:
        super().__init__()
        self.stem, self.body, self.top = block(3, 8), block(8, 16), block(16, 12)
        self.form = form

    def forward(self, x: Tensor) -> Any:
        """Return a vector (N, 12), tokens (N, 16, 12), or both by name."""
        tokens = self.top(self.body(self.stem(x))).flatten(2).transpose(1, 2)
        if self.form == "both":
            return {"last_hidden_state": tokens, "pooler_output": tokens.mean(1)}
        return tokens if self.form == "tokens" else tokens.mean(1)


def test_neighbours_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bottlenecks.tasks.neighbours.MOST_SIMILARITIES", 7 * 40)  # several passes, a last short one
    similar = cosine_similarity(OWN, GALLERY)
    assert ranks(OWN, GALLERY).tolist() == (similar > similar.diagonal()[:, None]).sum(1).tolist()
    np.fill_diagonal(similar, -1)
    assert nearest_others(OWN, GALLERY).tolist() == similar.argmax(1).tolist()
    found = classes_of_neighbours(OWN, GALLERY, LABELS)
    for image in range(40):
        others = np.arange(40) != image
        judge = KNeighborsClassifier(5, metric="cosine").fit(GALLERY[others], LABELS[others])
        shares = judge.predict_proba(OWN[image : image + 1])[0]
        assert shares[judge.classes_ == int(found[image])] == shares.max()
    assert nearest_others(OWN[:1], GALLERY[:1]).tolist() == [0]


def test_metric_is_the_mean_cosine_of_any_set() -> None:
    task = Embedding()
    tokens, teacher = torch.randn(2, 5, 3, 4, generator=GENERATOR)
    expected = [np.mean([cosine_similarity(a[None], b[None]) for a, b in zip(*pair, strict=True)])
                for pair in zip(tokens, teacher, strict=True)]  # fmt: skip
    statistics = task.statistics(tokens, task.truth(torch.full((5,), -1), teacher))
    assert statistics[:, 0].tolist() == pytest.approx(expected, abs=1e-6)
    near = Embedding().statistics(OWN, GALLERY)
    whole, some = task.score(near.numpy(), np.array([[1] * 40, [40] + [0] * 39], float))
    assert whole == pytest.approx(float(near.mean())) and some == pytest.approx(float(near[0]))
    assert task.score(-near.numpy(), np.ones((1, 40))).tolist() == [0]
    metric = task.metric()
    for part in (slice(0, 7), slice(7, 40)):
        metric.update(OWN[part], GALLERY[part])
    assert float(metric.compute()) == pytest.approx(whole, abs=1e-6)


def test_outputs_count_by_their_weights() -> None:
    first, second = {"a": OWN, "b": OWN[:, None]}, {"a": GALLERY, "b": -GALLERY[:, None]}
    even, weighed = Embedding(), Embedding(outputs={"a": 3, "b": 1})
    parts = [Embedding().distillation(first[name], second[name]) for name in ("a", "b")]
    assert torch.allclose(even.distillation(first, second), (parts[0] + parts[1]) / 2)
    assert torch.allclose(weighed.distillation(first, second), (3 * parts[0] + parts[1]) / 4)
    alone = Embedding(outputs={"b": 1, "a": 0}, distortion="mse").distillation(first, second)
    assert torch.allclose(alone, (OWN + GALLERY).square().sum(1))  # of a length of 1
    assert torch.allclose(even.vectors({"tokens": torch.stack([OWN, GALLERY], 1), "pooled": OWN}), OWN, atol=1e-6)
    mean = nn.functional.normalize(OWN + GALLERY)
    assert torch.allclose(even.vectors(torch.stack([OWN, GALLERY], 1)), mean, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("classification", {"distortion": "mse"}, "model.distortion=mse: model.task=classification has no such choice"),
        ("embedding", {"distortion": "l1"}, "model.distortion=l1: expected cosine or mse"),
        ("embedding", {"outputs": {"a": 0}}, "every weight is 0"),
        ("embedding", {"outputs": {"a": -1}}, r"model.outputs.a=-1"),
        ("embedding", {"outputs": "a"}, r"model.outputs=a: expected weights by name"),
    ],
)
def test_settings_that_cannot_be_used_are_named(task: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_task(task, None, settings)


def test_what_is_no_embedding_is_named() -> None:
    with pytest.raises(UsageError, match=r"gives a tensor \(5,\)"):
        Embedding().check_output(torch.zeros(5), None)
    with pytest.raises(UsageError, match="gives a tuple"):
        Embedding().check_output((OWN,), None)
    with pytest.raises(UsageError, match="no output poler; there is pooler, hidden"):
        Embedding(outputs={"poler": 1}).check_output({"pooler": OWN, "hidden": OWN}, None)


def overrides(root: Path, form: str, *more: str) -> list[str]:
    """Name an embedder of this form, which is as it was built."""
    data = root / "data"
    if not data.exists():
        for name in ("left", "right"):
            (data / name).mkdir(parents=True)
        for index in range(40):
            rng = np.random.default_rng(index)
            coarse = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1)))
            pixels = np.uint8(np.clip(coarse + rng.normal(0, 9, (32, 32, 3)), 0, 255))
            Image.fromarray(pixels).save(data / ("left" if index % 2 else "right") / f"{index}.png")
    transform = "{resize: 32, crop: 32, mean: [0.5,0.5,0.5], std: [0.25,0.25,0.25], interpolation: bilinear}"
    return [
        "model=custom",
        "model.name=embedder",
        "model.task=embedding",
        "model.weights=none",
        "model.factory._target_=tests.tasks.test_embedding.Embedder",
        f"+model.factory.form={form}",
        "split=body",
        f"data.root={data}",
        "data.num_workers=0",
        "data.held_back=8",
        "data.test_part=12",
        f"data.preprocessing={transform}",
        "logger=none",
        *more,
    ]


QUICK = ("data.augment=false", "unit.structure=separable", "unit.block=4", "unit.restorer=8", "training.epochs=1")


@pytest.mark.parametrize(
    ("form", "data", "more"),
    [
        ("vector", "image_folder", ()),
        pytest.param(
            "both",
            "pictures",
            ("model.distortion=mse", "model.outputs={last_hidden_state: 1, pooler_output: 2}"),
            marks=pytest.mark.slow,
        ),
        pytest.param("tokens", "pictures", (), marks=pytest.mark.slow),
    ],
)
def test_units_are_fitted_and_evaluated_without_labels(
    form: str, data: str, more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = overrides(tmp_path, form, f"data={data}", *more)
    (coarse, fine) = train(configure("train", tmp_path, *quiet([*given, *QUICK, "lambda=[0.003,0.3]"])))
    few = ("calibration_images=8", "timed_images=2", "workers=0", "codecs=[unit,uniform,png]")
    evaluate(configure("evaluate", tmp_path, *given, *few))
    folder = next((tmp_path / "results").rglob("curve.json")).parent
    curve = json.loads((folder / "curve.json").read_text())
    assert curve["metric"] == "cosine" and curve["unsplit"] == pytest.approx(1, abs=1e-6)
    low, high = (point["cosine"] for point in curve["points"][:2])
    assert 0 <= low < high > 0.9
    for point in curve["points"]:
        assert 0 <= point["recall_at_1"] <= 1 and point["agreement"] == point["neighbour_agreement"]
        assert (point["knn_accuracy"] is not None) == (data == "image_folder")
        assert point["interval"][0] <= point["cosine"] <= point["interval"][1]
    exact = curve["points"][-1]
    assert exact["codec"] == "png" and exact["recall_at_1"] == exact["agreement"] == 1
    assert exact["knn_accuracy"] == curve["unsplit_knn_accuracy"]
    assert "bytes_at_loss" in (folder / "merit.json").read_text() and (folder / "predictions.png").exists()
    network = BottleneckNetwork.load(coarse.parent)
    assert network.task.distortion == ("mse" if more else "cosine") and not network.class_names
    image = next((tmp_path / "data").rglob("*.png"))
    run_images([str(fine.parent), str(image), "--draw", str(tmp_path / "drawn")])
    assert "values, length" in capsys.readouterr().out
    with Image.open(tmp_path / "drawn" / image.name) as drawn:
        assert drawn.size == (32, 32)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["loss.ce=1"], "loss.ce=1.*: model=embedder gives embeddings"),
        (["stage=backbone"], "stage=backbone: model=embedder gives embeddings"),
        (["model.weights=auto"], "or none to leave it as its factory makes it"),
        (["model.task=auto"], "model.task=auto: networks of custom do not tell"),
        (["model.distortion=l2"], "model.distortion=l2: expected cosine or mse"),
    ],
)
def test_what_embeddings_cannot_do_is_told(more: list[str], message: str, tmp_path: Path) -> None:
    given = overrides(tmp_path, "vector", "data=image_folder")
    with pytest.raises(UsageError, match=message):
        train(configure("train", tmp_path, *quiet([*given, *QUICK, *more])))


def test_points_lost_are_of_the_mean_cosine() -> None:
    lost = PointsLost(Embedding(), torch.full((40,), -1))
    frozen = FrozenBatch((GALLERY,), GALLERY, torch.full((40,), -1), 1)
    lost(OWN, frozen)
    points, error = lost.take(draws=50)
    assert lost.name == "cosine" and error > 0
    assert points == pytest.approx(100 - 100 * float((OWN * GALLERY).sum(1).mean()), abs=1e-4)
