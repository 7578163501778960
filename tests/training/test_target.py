"""Targets: refused where they cannot be meant, read off rightly, met after training, resumed and kept."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from bottlenecks.errors import UsageError
from bottlenecks.evaluation.record import Record
from bottlenecks.rates.rate import load_rate, read_info
from bottlenecks.settings.target import Target
from bottlenecks.tasks.classification import Classification
from bottlenecks.training.frozen import FrozenBatch
from bottlenecks.training.meeting import Figure, search
from bottlenecks.training.resume import ResumeState
from bottlenecks.training.target import Point, PointsLost, fewest_bits, read_off
from evaluate import evaluate
from tests.conftest import TINY, configure, quiet
from train import train

SHORT = (
    *TINY,
    "logger=none",
    "training.epochs=1",
    "data.limit_train=300",
    "data.augment=false",
    "unit.structure=separable",
    "unit.block=4",
    "unit.restorer=8",
)
FOLDER = Path("checkpoints/tiny/body/digits")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a tiny backbone for digits, trained enough to be right more often than not."""
    root = tmp_path_factory.mktemp("backbone")
    train(configure("train", root, *quiet([*TINY, "stage=backbone", "backbone.epochs=4", "backbone.lr=1e-2"])))
    return root / "checkpoints/tiny/backbone"


@pytest.fixture
def root(backbone: Path, tmp_path: Path) -> Path:
    """A root of one test's own."""
    shutil.copytree(backbone, tmp_path / "checkpoints/tiny/backbone")
    return tmp_path


def run(root: Path, *overrides: str) -> Path:
    """Train one rate; give its file."""
    (path,) = train(configure("train", root, *quiet([*SHORT, *overrides])))
    return path


def figures_of(root: Path) -> Record:
    """Evaluate the one rate on the images that nothing was chosen on."""
    evaluate(configure("evaluate", root, *TINY, "logger=none", "timed_images=2", "workers=0"))
    return Record.read(next((root / "results").rglob("images.npz")))


@pytest.mark.parametrize(
    "wanted", [pytest.param(9, marks=pytest.mark.slow), 30, pytest.param(200, marks=pytest.mark.slow)]
)
def test_bytes_are_met_on_held_back_and_on_evaluated_images(
    wanted: int, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joint = ["unit.structure=joint", "unit.block=null"] if wanted < 20 else []  # 15 coefficients do not take 200 bytes
    path = run(root, f"target.bytes={wanted}", *joint)
    said = " ".join(capsys.readouterr().out.split())
    (reached,) = re.findall(
        rf"target\.bytes={wanted}: ([\d.]+) bytes an image \(standard error [\d.]+\) on the held", said
    )
    assert abs(float(reached) - wanted) <= 0.05 * wanted
    info = read_info(path)
    assert info.metrics[f"target.bytes={wanted}"] == pytest.approx(float(reached), rel=1e-3)
    assert info.training["target"] == {"bytes": wanted, "loss": None}
    assert path.name == f"lambda={info.lmbda!r}.safetensors" and float(f"{info.lmbda:.3g}") == info.lmbda
    assert abs(figures_of(root).num_bytes.mean() - wanted) <= 0.1 * wanted


def test_the_figures_of_a_rate_that_met_its_target_are_its_own(root: Path) -> None:
    info = read_info(run(root, "target.bytes=12", "training.epochs=0"))
    payload = info.metrics["target.bytes=12"] - 6
    assert abs(info.metrics["val/bpp"] * 32 * 32 / 8 - payload) < 1
    assert info.metrics["val/loss"] == pytest.approx(
        info.lmbda * info.metrics["val/distortion"] + info.metrics["val/bpp"], rel=1e-4
    )


@pytest.mark.parametrize(
    ("options", "metric"),
    [
        ((), "accuracy"),
        pytest.param(("model.weights={weights}", "data=pictures"), "agreement", marks=pytest.mark.slow),
    ],
)
def test_loss_is_met_within_what_chance_allows(
    options: tuple[str, ...], metric: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = root / "checkpoints/tiny/backbone/digits.safetensors"
    given = [one.format(weights=weights) for one in options]
    if "data=pictures" in given:
        given += [f"data.root={write_digits(tmp_path / 'images')}", "data.num_workers=0"]
    path = run(root, "target.loss=5", *given)
    said = " ".join(capsys.readouterr().out.split())
    ((reached, error),) = re.findall(
        rf"target\.loss=5: (-?[\d.]+) points of {metric} lost \(standard error ([\d.]+)\) on the held-back images", said
    )
    assert abs(float(reached) - 5) <= max(0.3, float(error))
    assert read_info(path).metrics["target.error"] == pytest.approx(float(error), abs=0.006)


def write_digits(folder: Path) -> Path:
    """Write 400 of scikit-learn's digits as files."""
    from PIL import Image
    from sklearn.datasets import load_digits

    folder.mkdir()
    for index, image in enumerate(load_digits().images[:400]):
        Image.fromarray((image * 15).astype(np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "ways_out"),
    [
        pytest.param("target.bytes=100000", "larger unit.max_bytes and unit.max_macs may", marks=pytest.mark.slow),
        ("target.loss=100", "coarser steps come no nearer"),
    ],
)
def test_what_cannot_be_met_is_said_and_the_nearest_kept(
    given: str, ways_out: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run(root, given, "training.epochs=0")
    said = " ".join(capsys.readouterr().out.split())
    assert f"{given}: cannot be met; kept what is nearest" in said and ways_out in said
    assert load_rate(path).unit.compress((torch.rand(1, 16, 8, 8),))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["target.bytes=10", "target.loss=1"], r"target.bytes=10, target.loss=1: a rate can meet one target"),
        (["target.bytes=6"], r"target.bytes=6: expected a number of at least 7"),
        (["target.bytes=many"], r"target.bytes=many: expected a number"),
        (["target.loss=0"], r"target.loss=0: expected a number from 0.01 to 100"),
        (["target.loss=1", "unit=spic"], r"the steps of unit=spic cannot be set; use unit=transform, or give lambda"),
        (["target.loss=1", "unit.range=true"], r"target.loss=1: is met by a unit of one rate, unit.range=true"),
        (["target.loss=1", "lambda=[0.1,0.2]"], r"target.loss=1: lambda=\[0.1, 0.2\] would be found; leave one out"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: list[str], message: str, root: Path) -> None:
    with pytest.raises(UsageError, match=message):
        train(configure("train", root, *quiet([*TINY, "logger=none", *given])))


@pytest.mark.slow
def test_a_target_that_was_met_is_kept_and_stands_beside_others(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(root, "target.bytes=10", "training.epochs=0")
    assert train(configure("train", root, *quiet([*SHORT, "target.bytes=10", "training.epochs=0"]))) == {}
    assert f"Kept {first}: finished with these very settings" in " ".join(capsys.readouterr().out.split())
    second = run(root, "target.bytes=20", "training.epochs=0")
    assert first.exists() and read_info(second).lmbda > read_info(first).lmbda
    with pytest.raises(UsageError, match=r"was trained otherwise \(target.bytes 10 -> None"):
        run(root, f"lambda={read_info(first).lmbda!r}", "training.epochs=0")


@pytest.mark.slow
def test_an_interrupted_run_comes_to_the_same_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("target.bytes=15", "training.epochs=2")
    expected = run(root, *options)
    content = expected.read_bytes()
    expected.unlink()
    save = ResumeState.on_train_epoch_end

    def die(self: ResumeState, trainer: object, module: object) -> None:
        save(self, trainer, module)  # type: ignore[arg-type]
        raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(ResumeState, "on_train_epoch_end", die)
        with pytest.raises(SystemError, match="killed"):
            run(root, *options)
    assert (root / FOLDER / ".resume/target.bytes=15.ckpt").exists()
    with pytest.raises(UsageError, match=r"an interrupted run.*target.bytes=15.ckpt; go on with resume=true"):
        run(root, *options)

    def never(*_: object) -> float:
        raise AssertionError("lambda was found before")

    monkeypatch.setattr("bottlenecks.training.start.find_lambda", never)
    path = run(root, *options, "resume=true")
    assert path == expected and path.read_bytes() == content
    assert not (root / FOLDER / ".resume").exists()


def line(distortion: float) -> Point:
    """A point of the curve bpp = -log2(distortion), whose slope is 1 / (distortion ln 2)."""
    bpp = -float(np.log2(distortion))
    return Point(bpp, distortion, bpp)


def test_lambda_is_the_slope_of_the_hull() -> None:
    points = [line(2.0**-place) for place in np.arange(0.5, 8, 0.5)]
    above = [Point(point.bpp + 0.2, point.distortion * 1.01, 0.0) for point in points]
    for bpp in (2.0, 3.3, 6.0):
        assert read_off(bpp, [*above, *points]) == pytest.approx(1 / (2.0**-bpp * np.log(2)), rel=0.03)
    assert read_off(100.0, points) == read_off(points[-1].bpp, points)


def test_bits_are_read_where_a_monotone_fit_meets_the_points() -> None:
    curve = [Point(bpp, 0.0, lost) for bpp, lost in [(8, 0.0), (4, 1.5), (2, 0.5), (1, 4.0)]]
    value, bpp = fewest_bits(1.0, curve)  # 1.5 and 0.5 are both one for all that is known
    assert (value, bpp) == (1.0, pytest.approx(2))
    assert fewest_bits(2.5, curve) == (2.5, pytest.approx(2**0.5))
    assert fewest_bits(0.5, [Point(8, 0.0, 0.7), Point(4, 0.0, 2.0)]) == (0.7, pytest.approx(8))


def test_points_lost_are_those_of_the_metric_with_the_paired_standard_error() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher, targets = torch.randn(4000, 5, generator=generator), torch.randint(5, (4000,), generator=generator)
    teacher[torch.arange(4000), targets] += 2
    output = teacher + torch.randn(4000, 5, generator=generator)
    lost = PointsLost(Classification(), targets)
    for rows in torch.arange(4000).split(1500):
        lost(output[rows], FrozenBatch(torch.zeros(len(rows), 1, 1, 1), teacher[rows], targets[rows], 1))
    points, error = lost.take(400)
    difference = (teacher.argmax(1) == targets).double() - (output.argmax(1) == targets).double()
    assert points == pytest.approx(100 * float(difference.mean()))
    assert error == pytest.approx(100 * float(difference.std()) / 4000**0.5, rel=0.15)


@pytest.mark.parametrize("wanted", [40.0, 100.0, 480.0])
def test_steps_are_found_on_both_sides(wanted: float) -> None:
    octaves, figure = search(Target("bytes", wanted), lambda octaves: Figure(100 * 2**octaves, 0.0))
    assert octaves == pytest.approx(np.log2(wanted / 100), abs=0.02) and figure.value == 100 * 2**octaves


def test_points_are_met_in_spite_of_chance() -> None:
    noise = {}

    def look(octaves: float) -> Figure:
        noise.setdefault(octaves, np.random.default_rng(len(noise)).normal(0, 0.5))
        return Figure(4 * 2**-octaves + noise[octaves], 0.5)

    for wanted in (2.0, 4.0, 8.0):
        octaves, figure = search(Target("loss", wanted), look)
        assert abs(figure.value - wanted) < 0.8 and octaves == pytest.approx(np.log2(4 / wanted), abs=0.5)
