"""Rate checkpoints: exact, complete, all or nothing, and refused by name where they do not fit."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from bottlenecks.network import BottleneckNetwork
from bottlenecks.rates.ladder import Ladder
from bottlenecks.rates.places import CheckpointError, find_rates, rate_path
from bottlenecks.rates.rate import Rate, load_rate, save_rate
from bottlenecks.run import main as send
from bottlenecks.tensor_files import read_safetensors, write_safetensors
from evaluate import evaluate
from tests.conftest import REPOSITORY, TINY, configure


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained ladder, backbone beside it, that a test may spoil."""
    shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints")
    return tmp_path / "checkpoints" / "tiny" / "body" / "digits"


def edit(path: Path, **changes: object) -> None:
    """Write a file again with other metadata."""
    tensors, metadata = read_safetensors(path)
    write_safetensors(path, tensors, {**metadata, **changes})


def test_files_are_named_by_their_lambda(folder: Path) -> None:
    assert [path.name for path in find_rates(folder)] == ["lambda=0.003.safetensors", "lambda=0.03.safetensors"]
    assert rate_path(folder, 1e-5).name == "lambda=1e-05.safetensors"


def test_a_file_holds_exactly_the_unit_its_tables_and_what_is_needed_to_use_it(folder: Path) -> None:
    path = rate_path(folder, 0.03)
    rate = load_rate(path)
    with safe_open(path, framework="pt") as file:
        names, metadata = set(file.keys()), file.metadata()
    expected = {f"unit.{name}" for name in rate.unit.state_dict()}
    assert names == expected | {"tables.frequencies", "tables.lengths", "tables.offsets"}
    required = {"format_version", "model", "backbone_fingerprint", "split", "feature_shape", "unit", "lambda", "data"}
    assert required | {"training_hash", "metrics"} <= set(metadata)
    assert metadata["lambda"] == "0.03" and metadata["split"] == '"body"' and metadata["feature_shape"] == "[16, 8, 8]"


def test_saving_and_loading_changes_no_byte_on_the_wire(folder: Path, tmp_path: Path) -> None:
    rate = load_rate(rate_path(folder, 0.03))
    save_rate(tmp_path / "again.safetensors", rate)
    again = load_rate(tmp_path / "again.safetensors")
    features = (torch.rand(4, 16, 8, 8),)
    assert rate.unit.compress(features) == again.unit.compress(features)
    assert again.info == rate.info
    assert (tmp_path / "again.safetensors").read_bytes() == rate_path(folder, 0.03).read_bytes()


def test_a_failed_write_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rate_path(folder, 0.03)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_rate(path, load_rate(path))
    assert path.read_bytes() == before
    assert [entry.name for entry in folder.iterdir() if entry.name.endswith(".tmp")] == []


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(folder: Path, kept: int) -> None:
    path = rate_path(folder, 0.03)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"lambda=0\.03\.safetensors: damaged"):
        Ladder.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 99}, r"format version 99, this program reads 1"),
        ({"lambda": "abc"}, r"damaged metadata \(lmbda='abc'\)"),
        ({"feature_shape": [16, 8, 10**9]}, r"damaged metadata \(feature_shape=\[16, 8, 1000000000\]\)"),
        ({"split": None}, r"damaged metadata \(split=None\)"),
        ({"class_names": 5}, r"damaged metadata \(class_names=5\)"),
        ({"tensors": "0" * 16}, r"damaged, its tensors are not those that were written"),
        ({"colour": "red"}, r"damaged metadata \(.*colour"),
        ({"unit": {"architecture": "factorized", "config": {"feature_shape": [16, 8, 8]}}}, r"do not fit each other"),
        ({"unit": {}}, r"do not fit each other \('architecture'\)"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(folder: Path, changes: dict[str, object], message: str) -> None:
    path = rate_path(folder, 0.03)
    edit(path, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_rate(path)


def test_other_safetensors_are_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="no rate checkpoint"):
        load_rate(folder.parent.parent / "backbone" / "digits.safetensors")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no rate checkpoints .*train some with train.py"):
        Ladder.load(tmp_path)


def test_a_flipped_bit_in_a_weight_is_noticed(folder: Path) -> None:
    path = rate_path(folder, 0.03)
    content = bytearray(path.read_bytes())
    content[-2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="its tensors are not those that were written"):
        load_rate(path)


def test_a_renamed_rate_is_refused(folder: Path) -> None:
    rate_path(folder, 0.03).rename(rate_path(folder, 0.5))
    with pytest.raises(CheckpointError, match=r"lambda=0.5.safetensors: holds lambda=0.03; name it so"):
        Ladder.load(folder)


def test_rates_for_features_of_another_size_are_refused(trained: Path, tmp_path: Path) -> None:
    overrides = [*TINY, "logger=none", "data.image_size=48", f"paths.checkpoints={trained / 'checkpoints'}"]
    with pytest.raises(CheckpointError, match=r"for features of \(16, 8, 8\), split=body gives \(16, 12, 12\)"):
        evaluate(configure("evaluate", tmp_path, *overrides))


@pytest.mark.parametrize("key", ["backbone_fingerprint", "split"])
def test_rates_that_do_not_belong_together_are_refused(folder: Path, key: str) -> None:
    edit(rate_path(folder, 0.03), **{key: "another"})
    with pytest.raises(CheckpointError, match=f"lambda=0.03 has {key} another, lambda=0.003 has .* no ladder"):
        Ladder.load(folder)


def collapse(folder: Path) -> None:
    """Put a second rate with the tables of the finest one into a folder."""
    rate = load_rate(rate_path(folder, 0.03))
    save_rate(rate_path(folder, 0.1), Rate(rate.unit, replace(rate.info, lmbda=0.1)))


SAME = r"lambda=0.03 and lambda=0.1: their tables have one fingerprint, \w{4}, .* move all but one of them away"


def test_two_rates_with_the_same_tables_are_named_and_the_rest_is_evaluated(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collapse(folder)
    overrides = [*TINY, "logger=none", f"paths.checkpoints={tmp_path / 'checkpoints'}", "data.limit_test=20"]
    curve = evaluate(configure("evaluate", tmp_path, *overrides))
    assert [point["lambda"] for point in curve.points] == [0.003]
    assert re.search(f"Left out {SAME}", capsys.readouterr().out)


def test_two_rates_with_the_same_tables_leave_the_others_to_send_with(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collapse(folder)
    send([str(folder), str(REPOSITORY / "docs/seven.png")])
    output = capsys.readouterr().out
    assert re.search(f"Left out {SAME}", output) and "0.003" in output.splitlines()[-2]
    with pytest.raises(CheckpointError, match=r"lambda=0.03: no such rate; there are 0.003"):
        send([str(folder), "--lambda", "0.03", str(REPOSITORY / "docs/seven.png")])


def test_two_rates_with_the_same_tables_alone_are_refused(folder: Path) -> None:
    collapse(folder)
    rate_path(folder, 0.003).unlink()
    with pytest.raises(CheckpointError, match=SAME):
        Ladder.load(folder)


def test_a_ladder_is_a_mapping_from_coarse_to_fine(folder: Path) -> None:
    ladder = Ladder.load(folder)
    assert list(ladder) == [0.003, 0.03] and len(ladder) == 2 and 0.03 in ladder
    with pytest.raises(CheckpointError, match=r"lambda=0.5: no such rate; there are 0.003, 0.03"):
        ladder[0.5]


def test_another_backbone_is_refused_by_name(folder: Path) -> None:
    backbone = folder.parent.parent / "backbone" / "digits.safetensors"
    tensors, metadata = read_safetensors(backbone)
    tensors["classifier.bias"] += 1
    write_safetensors(backbone, tensors, metadata)
    with pytest.raises(
        CheckpointError, match=r"this is backbone [0-9a-f]{16}, but .* around tiny [0-9a-f]{16}; give the"
    ):
        BottleneckNetwork.load(folder)


def test_a_ladder_moved_to_another_split_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, folder.parent.parent / "stem" / "digits")
    overrides = [*TINY[:-1], "split=stem", "logger=none", f"paths.checkpoints={tmp_path / 'checkpoints'}"]
    with pytest.raises(CheckpointError, match="split=stem: these rates were trained for split=body"):
        evaluate(configure("evaluate", tmp_path, *overrides))


def test_swapping_rates_leaves_the_network_and_decodes_any_mix(folder: Path) -> None:
    network = BottleneckNetwork.load(folder)
    assert network.lmbda == 0.03
    tail = network.network.tail
    before = {name: tensor.clone() for name, tensor in network.network.state_dict().items()}
    images = torch.rand(3, 3, 32, 32)
    fine = network.encode(images)
    network.lmbda = 0.003
    coarse = network.encode(images)
    assert coarse != fine and sum(map(len, coarse)) <= sum(map(len, fine))
    mixed = network.decode([fine[0], coarse[1], fine[2]])
    assert torch.equal(mixed[1], network.decode(coarse)[1])
    assert torch.allclose(mixed[0], network.decode(fine)[0])
    assert network.network.tail is tail
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.network.state_dict().items())
