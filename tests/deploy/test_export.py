"""The bundle: complete, the same each time, and the same network as PyTorch's."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bottlenecks.deploy.bundle import Bundle, BundleError
from bottlenecks.deploy.device import Device
from bottlenecks.deploy.export import export_bundle, new_bundle
from bottlenecks.deploy.receiver import Receiver
from bottlenecks.errors import UsageError
from bottlenecks.evaluation.curve import Curve
from bottlenecks.network import BottleneckNetwork
from bottlenecks.rates.rate import load_rate
from bottlenecks.tasks import Classification
from export import export, main
from tests.conftest import REPOSITORY, TINY, configure


@pytest.fixture(scope="module")
def network(trained: Path) -> BottleneckNetwork:
    return BottleneckNetwork.load(trained / "checkpoints/tiny/body/digits")


def test_a_bundle_is_complete_and_says_what_it_is(bundle_folder: Path, trained: Path) -> None:
    files = {path.relative_to(bundle_folder).as_posix() for path in bundle_folder.rglob("*") if path.is_file()}
    rates = [f"lambda={lmbda}" for lmbda in (0.003, 0.03)]
    per_rate = ("encoder.onnx", "decoder.onnx", "tables.json", "unit.safetensors")
    requirements = {"requirements-device.txt", "requirements-server.txt"}
    assert files == {"manifest.json", "head.onnx", "tail.onnx", *requirements} | {
        f"{rate}/{name}" for rate in rates for name in per_rate
    }
    manifest = json.loads((bundle_folder / "manifest.json").read_text())
    assert set(manifest["files"]) == files - {"manifest.json"}
    curve = Curve.read(trained / "results/tiny/body/digits/curve.json")
    assert manifest["unsplit"] == curve.unsplit
    for rate, point in zip(manifest["rates"], curve.points, strict=True):
        assert (rate["lambda"], rate["payload_bytes"], rate["score"], rate["agreement"]) == (
            point["lambda"],
            point["payload_bytes"],
            point["accuracy"],
            point["agreement"],
        )
        unit = load_rate(bundle_folder / f"lambda={rate['lambda']}" / "unit.safetensors").unit
        assert tuple(rate["latent_shape"]) == unit.parts[0].latent_shape((8, 8))
        assert unit.framing.fingerprint.hex() == rate["fingerprint"]


@pytest.fixture(scope="module", params=["transform", pytest.param("factorized", marks=pytest.mark.slow)])
def bundled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BottleneckNetwork]:
    """A bundle of the default unit or of the former one, and the network that it is of."""
    if request.param == "transform":
        folder, trained = request.getfixturevalue("bundle_folder"), request.getfixturevalue("trained")
        return folder, BottleneckNetwork.load(trained / "checkpoints/tiny/body/digits")
    root = tmp_path_factory.mktemp("former")
    for name in ("checkpoints", "results"):
        shutil.copytree(REPOSITORY / "tests/files/2fd99c5" / name, root / name)
    curve = Curve.read(root / "results/tiny/body/digits/curve.json")
    network = BottleneckNetwork.load(root / "checkpoints/tiny/body/digits", unit=request.param)
    export_bundle(root / "dist", network.network, network.ladder, curve, Classification())
    return root / "dist", network


def test_onnx_runtime_finds_what_pytorch_finds(
    bundled: tuple[Path, BottleneckNetwork], image_paths: list[Path]
) -> None:
    folder, network = bundled
    bundle = Bundle(folder)
    device, receiver = Device(bundle), Receiver(bundle)
    transform = network.preprocessing.transform()
    files = [Image.open(path) for path in image_paths]
    images = torch.stack([transform(image) for image in files])
    for lmbda, rate in network.ladder.items():
        network.lmbda = lmbda
        (expected,) = rate.unit.symbols(network.network.head(images))
        features = np.concatenate([device.features(image)[0] for image in files])
        (symbols,) = device.symbols((features,), lmbda)
        assert symbols.dtype == np.int32
        assert (symbols != expected).mean() < 1e-4  # the two round differently only on a boundary
        received = [receiver.read(device.encode((one[None],), lmbda)) for one in features]
        assert all(np.array_equal(*one.symbols, latent) for one, latent in zip(received, symbols, strict=True))
        theirs = network.decode(network.encode(images)).argmax(1).numpy()
        (ours,) = receiver.infer(received)
        assert (ours.argmax(1) == theirs).all()


def test_the_server_decodes_any_mix(bundle_folder: Path, network: BottleneckNetwork, image_paths: list[Path]) -> None:
    bundle = Bundle(bundle_folder)
    device, receiver = Device(bundle), Receiver(bundle)
    features = [device.features(Image.open(path)) for path in image_paths[:6]]
    lmbdas = [0.03, 0.003, 0.03, 0.03, 0.003, 0.003]
    streams = [device.encode(one, lmbda) for one, lmbda in zip(features, lmbdas, strict=True)]
    received = [receiver.read(stream) for stream in streams]
    assert [one.rate.lmbda for one in received] == lmbdas
    (together,) = receiver.infer(received)
    assert np.allclose(together, network.decode(streams).numpy(), atol=1e-4)
    assert np.allclose(together, np.concatenate([receiver.infer([one])[0] for one in received]), atol=1e-4)


@pytest.mark.parametrize(
    "name", ["head.onnx", "lambda=0.003/encoder.onnx", "lambda=0.003/tables.json", "lambda=0.03/decoder.onnx"]
)
def test_a_damaged_bundle_is_refused_by_file(bundle_folder: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    load = Receiver if "decoder" in name else Device
    with pytest.raises(BundleError, match=rf"{name}: not the file that was exported"):
        load(Bundle(folder))
    (folder / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}: No such file or directory; copy it again"):
        load(Bundle(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(format_version=2), "format_version 2, this program reads 1"),
        (lambda manifest: manifest.update(bitstream_version=9), "bitstream_version 9, this program reads 1"),
        (lambda manifest: manifest.pop("rates"), "missing or unknown keys: rates"),
        (lambda manifest: manifest.update(rates=[]), r"rates=\[\]"),
        (lambda manifest: manifest.update(feature_shape=[16, 0, 8]), r"feature_shape=\[16, 0, 8\]"),
        (lambda manifest: manifest.update(image_shape=[3, 64, 64]), r"preprocessing gives \(3, 32, 32\)"),
        (lambda manifest: manifest.update(files=None), "files=None"),
        (lambda manifest: manifest.update(class_names="ab"), "class_names=ab"),
        (lambda manifest: manifest.update(format_version=True), "format_version true, this program reads 1"),
        (lambda manifest: manifest["rates"][0].update({"lambda": "0.01"}), r"rates.lambda=0.01"),
        (lambda manifest: manifest["rates"][0].update({"lambda": 0.03}), "two rates have one lambda"),
        (lambda manifest: manifest["rates"][0].update(fingerprint="zz"), "rates.fingerprint=zz"),
        (lambda manifest: manifest["rates"][0].update(payload_bytes=float("nan")), "NaN is no number"),
        (lambda manifest: manifest["rates"][0].update(payload_bytes=0), "rates.payload_bytes=0"),
        (lambda manifest: manifest["rates"][0].pop("lambda"), "lambda"),
        (lambda manifest: manifest["rates"][0].update(latent_shape=[8, 4, 2**40]), "latent_shape"),
        (lambda manifest: manifest["preprocessing"].update(std=[1, 1, 0]), "preprocessing.std"),
    ],
)
def test_a_wrong_manifest_is_refused(
    bundle_folder: Path, tmp_path: Path, change: Callable[[dict], object], message: str
) -> None:
    manifest = json.loads((bundle_folder / "manifest.json").read_text())
    change(manifest)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=f"no readable manifest .*{message}"):
        Bundle(tmp_path)


def test_a_manifest_that_says_a_thing_twice_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    text = (bundle_folder / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(text.replace('"model":', '"model": "other", "model":', 1))
    with pytest.raises(BundleError, match="it has model twice"):
        Bundle(tmp_path)


@pytest.mark.parametrize("name", ["head.onnx", "lambda=0.03/tables.json", "tail.onnx"])
def test_a_pipe_in_a_bundle_is_not_waited_for(bundle_folder: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))
    (folder / name).unlink()
    os.mkfifo(folder / name)
    load = Receiver if name == "tail.onnx" else Device
    with pytest.raises(BundleError, match=rf"{name}: a pipe or device, no file; copy it again"):
        load(Bundle(folder))


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json: no such file; make a bundle with export\.py"):
        Bundle(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="no readable manifest"):
        Bundle(tmp_path)
    (tmp_path / "manifest.json").unlink()
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(BundleError, match=r"no readable manifest \(.*a pipe or device, no file\)"):
        Bundle(tmp_path)


def test_a_device_needs_the_devices_files_alone(bundle_folder: Path, tmp_path: Path, image_paths: list[Path]) -> None:
    for name in ("manifest.json", "head.onnx", *(f"lambda={x}/{y}" for x in (0.003, 0.03) for y in DEVICE_FILES)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(bundle_folder / name, tmp_path / name)
    device = Device(Bundle(tmp_path))
    assert device.encode(device.features(Image.open(image_paths[0])), 0.03)
    with pytest.raises(BundleError, match=r"lambda=0\.5: no such rate in .*; there are 0\.003, 0\.03"):
        device.encode(device.features(Image.open(image_paths[0])), 0.5)


DEVICE_FILES = ("encoder.onnx", "tables.json")


def test_other_folders_are_left_alone(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    overrides = [*TINY, "logger=none", f"out={tmp_path}"]
    with pytest.raises(UsageError, match="holds something else than a bundle"):
        export(configure("export", trained, *overrides))
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_failed_export_leaves_the_old_bundle(
    bundle_folder: Path, network: BottleneckNetwork, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    before = digest_of(folder)
    monkeypatch.setattr("bottlenecks.deploy.export.to_onnx", lambda *_: 1 / 0)
    curve = Curve.read(trained / "results/tiny/body/digits/curve.json")
    with pytest.raises(ZeroDivisionError):
        export_bundle(folder, network.network, network.ladder, curve, Classification())
    assert digest_of(folder) == before
    assert {path.name for path in tmp_path.iterdir()} == {"bundle"}


def test_an_export_cut_off_between_its_two_renames_loses_nothing(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    before, rename = digest_of(folder), Path.rename

    def die(self: Path, target: Path) -> Path:
        if self.name == ".bundle.tmp":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", die)
        with new_bundle(folder):
            pass
    assert digest_of(folder) == before
    folder.rename(tmp_path / ".bundle.old")  # as a kill would leave it
    with pytest.raises(ZeroDivisionError), new_bundle(folder):
        raise ZeroDivisionError
    assert digest_of(folder) == before


@pytest.mark.parametrize("own", ["other program", "added file"])
def test_a_folder_with_anything_else_in_it_is_not_replaced(bundle_folder: Path, tmp_path: Path, own: str) -> None:
    folder = tmp_path / "bundle"
    if own == "added file":
        shutil.copytree(bundle_folder, folder)
    else:
        folder.mkdir()
        (folder / "manifest.json").write_text('{"name": "my web app"}')
    (folder / "precious.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something else than a bundle"), new_bundle(folder):
        pass
    assert (folder / "precious.txt").read_text() == "mine"


def test_a_graph_of_another_network_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    shutil.copy(folder / "tail.onnx", folder / "head.onnx")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["head.onnx"] = manifest["files"]["tail.onnx"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"head.onnx: is for \[\(16, 8, 8\), \(10,\)\], not for \(3, 32, 32\)"):
        Device(Bundle(folder))


def test_features_that_are_not_finite_are_not_sent(bundle_folder: Path, image_paths: list[Path]) -> None:
    device = Device(Bundle(bundle_folder))
    device._head = lambda values: (np.full((1, 16, 8, 8), np.nan, np.float32),)
    with pytest.raises(UsageError, match="the features are not finite"):
        device.features(Image.open(image_paths[0]))


def test_a_latent_that_cannot_be_coded_is_not_sent(bundle_folder: Path) -> None:
    device = Device(Bundle(bundle_folder))
    features = np.zeros((1, *device.bundle.manifest.feature_shape[0]), np.float32)
    for rate in device.bundle.rates:
        for value in (3e38, np.inf, np.nan, 1e20):
            with pytest.raises(UsageError, match=r"lambda=0.0?03: the latent has elements that are not finite"):
                device.encode((np.full_like(features, value),), rate.lmbda)
        assert device.encode((features,), rate.lmbda)


def test_export_without_rates_ends_at_once(command: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    status, stderr = command(main, *TINY, f"paths.checkpoints={tmp_path}", f"hydra.run.dir={tmp_path}")
    assert status == 2
    assert "tiny/body/digits: no rate checkpoints (lambda=*.safetensors); train some with train.py" in stderr


@pytest.mark.slow
def test_the_same_ladder_gives_the_same_bundle(bundle_folder: Path, trained: Path, tmp_path: Path) -> None:
    overrides = [*TINY, "logger=none", f"out={tmp_path / 'again'}"]
    assert digest_of(export(configure("export", trained, *overrides))) == digest_of(bundle_folder)


def digest_of(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
