"""A head in OpenVINO's form: the same answers, and one line where it is not there."""

from __future__ import annotations

import builtins
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bottlenecks.deploy import benchmark
from bottlenecks.deploy.bundle import Bundle, BundleError
from bottlenecks.deploy.client import parse
from bottlenecks.deploy.device import Device
from bottlenecks.deploy.receiver import Receiver
from bottlenecks.errors import UsageError
from bottlenecks.settings.export import ExportPlan
from export import export
from tests.conftest import TINY, configure


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with redirect_stderr(sys.__stderr__):  # absl comes with it, and closes what it finds here when logging is set anew
        pytest.importorskip("openvino")
    out = tmp_path_factory.mktemp("openvino") / "bundle"
    overrides = [*TINY, "logger=none", "openvino=true", "pixels=uint8"]
    return export(configure("export", trained, *overrides, f"out={out}"))


def test_symbols_are_nearly_the_same_and_answers_are(folder: Path, image_paths: list[Path]) -> None:
    bundle = Bundle(folder)
    assert bundle.runtimes == ["onnx", "openvino"]
    plain, other, receiver = Device(bundle, 1), Device(bundle, 1, "openvino"), Receiver(bundle, 1)
    for lmbda in bundle.mean_bytes():
        differing, same = 0, 0
        for path in image_paths[:40]:
            image = Image.open(path)
            features = [one.features(image) for one in (plain, other)]
            assert np.allclose(features[0][0], features[1][0], atol=1e-4)
            (symbols,), (others,) = (plain.symbols(one, lmbda) for one in features)
            differing += int((symbols != others).sum())
            streams = [one.encode(own, lmbda) for one, own in zip((plain, other), features, strict=True)]
            answers = [receiver.infer([receiver.read(stream)])[0][0].argmax() for stream in streams]
            same += answers[0] == answers[1]
        assert differing < 0.001 * 40 * symbols.size
        assert same >= 39


def test_threads_share_it_and_batches_are_taken(folder: Path, image_paths: list[Path]) -> None:
    device = Device(Bundle(folder), 1, "openvino")
    images = np.concatenate([device.bundle.input_of(Image.open(path)) for path in image_paths[:24]])
    expected = device.features_of(images)[0]
    with ThreadPoolExecutor(6) as pool:
        found = [*pool.map(lambda one: device.features_of(one[None])[0], images)]
    assert np.allclose(np.concatenate(found), expected, atol=1e-5)


def test_it_is_measured_beside_the_other_form(
    folder: Path, image_paths: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark.main([str(folder), str(image_paths[0].parent), "--count", "10"])
    _, names, _, *rows = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in (names, *rows)]
    first, second = (dict(zip(cells[0], row, strict=True)) for row in cells[1:])
    assert (first["runtime"], second["runtime"]) == ("onnx", "openvino")
    assert float(second["same answers"].rstrip("%")) >= 90 and float(second["other symbols"].rstrip("%")) < 0.1


def test_a_changed_file_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("head.xml", "head.bin"):
        shutil.copytree(folder, tmp_path / name)
        path = tmp_path / name / name
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        with pytest.raises(BundleError, match=rf"{name}: not the file that was exported"):
            Device(Bundle(tmp_path / name), 1, "openvino")
        Device(Bundle(tmp_path / name), 1)


def test_a_head_of_other_shapes_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "other")
    path = tmp_path / "other/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["feature_shape"] = [16, 8, 9]
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"head\.xml: is for .* export anew"):
        Bundle(tmp_path / "other").head(1, "openvino")


def test_a_bundle_without_it_says_how_to_get_it(bundle_folder: Path) -> None:
    assert parse([str(bundle_folder), "a.png", "--runtime", "openvino"]).runtime == "openvino"
    with pytest.raises(BundleError, match="has no head for openvino; export it anew with openvino=true"):
        Device(Bundle(bundle_folder), runtime="openvino")


def test_without_the_package_it_is_one_line_at_once(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def lacking(name: str, *given: Any, **named: Any) -> Any:
        if name == "openvino":
            raise ModuleNotFoundError("No module named 'openvino'")
        return real(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", lacking)
    monkeypatch.setattr("bottlenecks.runs.export.load_ladder", lambda *_: pytest.fail("something was done before"))
    with pytest.raises(UsageError, match=r"OpenVINO is not installed: pip install 'bottlenecks\[openvino\]'"):
        export(configure("export", trained, *TINY, "openvino=true", f"out={tmp_path / 'bundle'}"))


def test_what_is_no_flag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="openvino=maybe"):
        ExportPlan.of(configure("export", tmp_path, "openvino=maybe"))
