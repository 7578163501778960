"""One unit for any rate, through the real entry points: trained, resumed, used, evaluated, and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.errors import UsageError
from bottlenecks.network import BottleneckNetwork
from bottlenecks.rates.ladder import Ladder
from bottlenecks.rates.places import CheckpointError
from bottlenecks.rates.rate import load_rate, read_info
from bottlenecks.run import main as run_images
from bottlenecks.tensor_files import read_safetensors, write_safetensors
from bottlenecks.training.resume import ResumeState
from evaluate import evaluate
from tests.conftest import QUICK, TINY, configure, quiet
from train import train

FOLDER = Path("checkpoints/tiny/body/digits")
NAME = "lambda=0.01..0.3.safetensors"
SMALL = ("data.limit_train=192", "data.limit_val=64", "unit.structure=separable", "unit.block=4")
RANGE = ("lambda=[0.01,0.3]", "unit.range=true")


def run(root: Path, *overrides: str) -> dict[Path, object]:
    return train(configure("train", root, *quiet([*TINY, *QUICK, *SMALL, *RANGE, *overrides])))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a tiny backbone that has learned something, and nothing else."""
    root = tmp_path_factory.mktemp("bare")
    train(configure("train", root, *quiet([*TINY, "stage=backbone", "backbone.epochs=5", "logger=none"])))
    return root


@pytest.fixture(scope="module")
def ranged(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a unit of any rate."""
    root = tmp_path_factory.mktemp("ranged") / "root"
    shutil.copytree(bare, root)
    run(root)
    return root


@pytest.fixture
def network(ranged: Path) -> BottleneckNetwork:
    return BottleneckNetwork.load(ranged / FOLDER)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for index in range(2):
        noise = torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(index))
        path = folder / f"{index}.png"
        Image.fromarray((255 * noise).byte().numpy()).resize((32, 32)).save(path)
        paths.append(path)
    return paths


def batch(count: int = 4) -> torch.Tensor:
    small = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(small, size=(32, 32)).expand(-1, 3, -1, -1)


def test_a_range_is_one_file_that_says_so(ranged: Path) -> None:
    assert [path.name for path in (ranged / FOLDER).glob("*.safetensors")] == [NAME]
    info = read_info(ranged / FOLDER / NAME)
    assert info.lmbda == [0.01, 0.3] and info.format_version == 1
    assert (info.unit["config"]["range"]["lambdas"][0], info.unit["config"]["range"]["lambdas"][-1]) == (0.01, 0.3)
    assert {"val/loss", "val/bpp", "val/agreement"} <= set(info.metrics)
    assert not (ranged / FOLDER / ".resume").exists()


def test_lambda_is_the_knob(network: BottleneckNetwork) -> None:
    assert network.lmbda == 0.3 and list(network.ladder) == [0.01, 0.3]
    sizes, multipliers = [], []
    for lmbda in (0.01, 0.042, 0.1, 0.3):
        network.lmbda = lmbda
        assert network.lmbda == lmbda and lmbda in network.ladder
        streams = network.encode(batch())
        rates = [network.rate_of(stream) for stream in streams]
        assert len({rate.lmbda for rate in rates}) == 1
        assert rates[0].lmbda == pytest.approx(lmbda, rel=0.1)
        sizes.append(sum(map(len, streams)))
        multipliers.append(rates[0].multiplier)
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert multipliers == sorted(multipliers) and multipliers[0] < multipliers[-1]


def test_streams_of_any_rates_decode_together(network: BottleneckNetwork) -> None:
    mixed, alone = [], []
    for image, lmbda in zip(batch().split(1), (0.3, 0.01, 0.05, 0.3), strict=True):
        network.lmbda = lmbda
        mixed += network.encode(image)
        alone.append(network.decode(mixed[-1:]))
    assert torch.allclose(network.decode(mixed), torch.cat(alone), atol=1e-4)


def test_a_lambda_outside_is_an_error_that_names_the_range(network: BottleneckNetwork) -> None:
    with pytest.raises(CheckpointError, match=r"lambda=0\.5: no such rate; there are 0\.01\.\.0\.3"):
        network.lmbda = 0.5
    assert network.lmbda == 0.3 and 0.5 not in network.ladder


def test_the_finest_rate_within_a_budget_is_found(network: BottleneckNetwork) -> None:
    unit, image = network.ladder[0.3].unit, batch(1)
    features = network.network.head(image)
    rates = unit.range
    assert rates is not None
    sizes = {at: len(unit.compress(features, at)[0]) for at in range(rates.lowest, rates.highest + 1)}
    least, most = sizes[rates.lowest], max(sizes.values())
    assert least < most
    for budget in range(least, most + 2):
        stream = network.encode_within(image, budget)
        assert len(stream) <= budget
        finest = max(at for at, size in sizes.items() if size <= budget)
        assert len(stream) >= sizes[finest] - 2  # but for multipliers at which a finer step takes fewer bytes
        assert network.decode([stream]).shape == (1, 10)
    assert len(network.encode_within(image, most)) == sizes[rates.highest]
    with pytest.raises(
        UsageError, match=rf"a budget of 3 bytes: no rate fits; lambda=0\.01 takes .*, {least}; give it"
    ):
        network.encode_within(image, 3)


def test_run_takes_a_budget(
    ranged: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_images([str(ranged / FOLDER), "--lambda", "0.042", *map(str, images)])
    assert "0.04" in capsys.readouterr().out
    run_images([str(ranged / FOLDER), "--lambda", "0.01", "--out", str(tmp_path / "low"), *map(str, images)])
    smallest = [path.stat().st_size for path in sorted((tmp_path / "low").glob("*.bneck"))]
    budget = max(smallest) + 2
    run_images([str(ranged / FOLDER), "--budget-bytes", str(budget), "--out", str(tmp_path), *map(str, images)])
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("*.bneck"))]
    assert all(least <= size <= budget for least, size in zip(smallest, sizes, strict=True))
    with pytest.raises(UsageError, match=r"0\.png: a budget of 5 bytes: no rate fits"):
        run_images([str(ranged / FOLDER), "--budget-bytes", "5", str(images[0])])
    with pytest.raises(UsageError, match=r"--lambda=0\.1: a fixed rate; give it, or --budget-bytes, not both"):
        run_images([str(ranged / FOLDER), "--budget-bytes", "50", "--lambda", "0.1", str(images[0])])


def test_a_ladder_takes_a_budget_too(trained: Path) -> None:
    network = BottleneckNetwork.load(trained / "checkpoints/tiny/body/digits")
    sizes = {}
    for lmbda in network.ladder:
        network.lmbda = lmbda
        sizes[lmbda] = len(network.encode(batch(1))[0])
    for budget in sorted({*sizes.values(), 1000}):
        finest = max(lmbda for lmbda, size in sizes.items() if size <= budget)
        assert network.rate_of(network.encode_within(batch(1), budget)).lmbda == finest


@pytest.mark.slow
def test_evaluation_takes_as_many_points_as_asked(ranged: Path, tmp_path: Path) -> None:
    paths = f"paths.checkpoints={ranged / 'checkpoints'}"
    few = [*TINY, "logger=none", paths, "data.limit_test=60", "timed_images=1"]
    curve = evaluate(configure("evaluate", tmp_path, *few, "unit.range=true", "points=4"))
    points = json.loads((tmp_path / "results/tiny/body/digits/curve.json").read_text())["points"]
    assert len(curve.points) == len(points) == 4
    assert [point["setting"] for point in points] == [f"lambda={point['lambda']!r}" for point in points]
    assert (points[0]["lambda"], points[-1]["lambda"]) == (0.01, 0.3)
    sizes = [point["payload_bytes"] for point in points]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert len(evaluate(configure("evaluate", tmp_path, *few, "points=2")).points) == 2  # nothing else lies there
    with pytest.raises(UsageError, match="points=0: expected a whole number of at least 1"):
        evaluate(configure("evaluate", tmp_path, *few, "unit.range=true", "points=0"))


@pytest.mark.slow
def test_a_ladder_and_a_range_may_lie_side_by_side(ranged: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(ranged, root)
    run(root, "lambda=[0.1]", "unit.range=false", "training.epochs=0")
    ladder = Ladder.load(root / FOLDER)
    assert list(ladder) == [0.01, 0.1, 0.3] and len(ladder.files) == 2
    assert ladder[0.1].multiplier == 0 and ladder[0.1].unit.range is None and ladder[0.11].unit.range is not None
    assert list(ladder.only(ranged=False)) == [0.1] and list(ladder.only(ranged=True)) == [0.01, 0.3]
    network = BottleneckNetwork.load(root / FOLDER)
    streams = []
    for lmbda in ladder:
        network.lmbda = lmbda
        streams += network.encode(batch(1))
    assert len(network.decode(streams)) == 3
    few = [*TINY, "logger=none", "data.limit_test=40", "timed_images=1"]
    both = evaluate(configure("evaluate", root, *few, "unit.range=true", "points=2", "codecs=[unit,transform]"))
    settings = [(point["codec"], point["setting"]) for point in both.points]
    assert settings == [("unit", "lambda=0.01"), ("unit", "lambda=0.3"), ("transform", "lambda=0.1")]
    (root / FOLDER / NAME).unlink()
    with pytest.raises(UsageError, match=r"unit\.range=true: no unit of any rate among 0\.1"):
        evaluate(configure("evaluate", root, *few, "unit.range=true"))


def test_a_finished_range_is_kept(ranged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ranged, tmp_path / "root")
    assert run(tmp_path / "root") == {}
    assert "finished with these very settings" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UsageError, match=r"training\.epochs 2 -> 3\).*overwrite=true"):
        run(tmp_path / "root", "training.epochs=3")


@pytest.mark.slow
def test_a_resumed_range_ends_where_an_uninterrupted_one_does(
    bare: Path, ranged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    shutil.copytree(bare, root)
    save = ResumeState.on_train_epoch_end

    def die(self: ResumeState, trainer: object, module: object) -> None:
        save(self, trainer, module)  # type: ignore[arg-type]
        raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(ResumeState, "on_train_epoch_end", die)
        with pytest.raises(SystemError, match="killed"):
            run(root)
    assert not (root / FOLDER / NAME).exists()
    run(root, "resume=true")
    assert (root / FOLDER / NAME).read_bytes() == (ranged / FOLDER / NAME).read_bytes()
    assert not (root / FOLDER / ".resume").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("lambda=0.01",), r"lambda=\[0\.01\]: unit\.range=true takes both ends of its range"),
        (("lambda=[0.01,0.02,0.03]",), r"lambda=\[.*\]: unit\.range=true takes both ends of its range"),
        (("lambda=[0.0001,0.1]",), r"lambda=\[0\.0001, 0\.1\]: one unit spans a factor of 300 at the most"),
        (("unit.range=some",), r"unit\.range=some: expected true or false"),
    ],
)
def test_what_is_no_range_is_named(tmp_path: Path, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(tmp_path, *overrides)


def test_a_file_whose_range_is_not_what_it_says_is_refused(ranged: Path, tmp_path: Path) -> None:
    tensors, metadata = read_safetensors(ranged / FOLDER / NAME)
    written = metadata | {"lambda": [0.01, 0.4]}
    write_safetensors(tmp_path / "lambda=0.01..0.4.safetensors", tensors, written)
    with pytest.raises(
        CheckpointError, match=r"do not fit each other \(lambda=0\.01\.\.0\.4, and a range of 0\.01\.\.0\.3"
    ):
        load_rate(tmp_path / "lambda=0.01..0.4.safetensors")
    for damaged in ([0.4, 0.01], [0.01], [0.01, "0.3"], [0.01, 0.2, 0.3]):
        write_safetensors(tmp_path / NAME, tensors, metadata | {"lambda": damaged})
        with pytest.raises(CheckpointError, match=r"damaged metadata \(lmbda="):
            load_rate(tmp_path / NAME)
    shutil.copy(ranged / FOLDER / NAME, tmp_path / "lambda=0.02.safetensors")
    (tmp_path / "lambda=0.01..0.4.safetensors").unlink()
    (tmp_path / NAME).unlink()
    with pytest.raises(CheckpointError, match=r"holds lambda=0\.01\.\.0\.3; name it so, or move it away"):
        Ladder.load(tmp_path)


def test_frames_of_a_range_are_told_from_others(network: BottleneckNetwork, trained: Path) -> None:
    (stream,) = network.encode(batch(1))
    other = BottleneckNetwork.load(trained / "checkpoints/tiny/body/digits")
    with pytest.raises(BitstreamError, match="none of this ladder's"):
        other.decode([stream])
    with pytest.raises(BitstreamError, match="the checksum does not match"):  # the multiplier lies under it
        network.decode([stream[:3] + bytes([stream[3] ^ 1]) + stream[4:]])
