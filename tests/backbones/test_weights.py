"""Files of weights: every usual wrapper, no pickle's dangers, exact loading, reproducible writing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bottlenecks.backbones.weights import load_exactly
from bottlenecks.errors import UsageError
from bottlenecks.tensor_files import fingerprint, read_safetensors, read_weights, write_safetensors
from tests.networks import Tiny


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return Tiny().state_dict()


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
def test_usual_wrappers_and_prefixes_are_understood(
    state: dict[str, torch.Tensor], tmp_path: Path, wrapper: str | None, prefix: str
) -> None:
    content = {prefix + name: tensor for name, tensor in state.items()}
    torch.save(content if wrapper is None else {wrapper: content, "epoch": 3}, tmp_path / "w.pt")
    network = Tiny()
    load_exactly(network, read_weights(tmp_path / "w.pt"), "w.pt")
    assert fingerprint(network.state_dict()) == fingerprint_of(state)


def fingerprint_of(state: dict[str, torch.Tensor]) -> str:
    """Fingerprint a network that holds a state."""
    network = Tiny()
    network.load_state_dict(state)
    return fingerprint(network.state_dict())


def test_half_precision_files_are_converted(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file(half, tmp_path / "w.safetensors")
    network = Tiny()
    load_exactly(network, read_weights(tmp_path / "w.safetensors"), "w")
    assert network.classifier.weight.dtype == torch.float32
    assert torch.allclose(network.classifier.weight, state["classifier.weight"], atol=1e-3)


def test_what_does_not_fit_is_listed(state: dict[str, torch.Tensor]) -> None:
    del state["stem.0.weight"]
    state["extra"] = torch.zeros(1)
    state["classifier.bias"] = torch.zeros(7)
    message = (
        r"mine.pt does not fit the network; missing: stem.0.weight; surplus: extra; "
        r"of another shape: classifier.bias is \(7,\), expected \(10,\)"
    )
    with pytest.raises(UsageError, match=message):
        load_exactly(Tiny(), state, "mine.pt")


class Dangerous:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/should-not-exist",)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": Dangerous()}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"w.pt: not a readable file of weights"):
        read_weights(tmp_path / "w.pt")
    assert not Path("/tmp/should-not-exist").exists()


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors"])
def test_damaged_and_missing_files_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: no such file"):
        read_weights(tmp_path / name)
    (tmp_path / name).write_bytes(b"\x08\x00garbage")
    with pytest.raises(UsageError, match=f"{name}: (not a readable file|damaged)"):
        read_weights(tmp_path / name)


def test_a_file_without_tensors_is_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"expected tensors by name, plain or under one of state_dict"):
        read_weights(tmp_path / "w.pt")
    torch.save({**Tiny().state_dict(), "epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"expected tensors by name.*; it has epoch, a int; save its tensors alone"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("content", [b"<html>no weights</html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_what_torch_did_not_write_is_not_called_dangerous(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(UsageError, match=r"w.pt: not a readable file of weights \(torch did not write it\)"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore:.*TorchScript|.*torch.jit")
def test_a_compiled_network_says_how_to_save_its_tensors(tmp_path: Path) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "w.pt"))
    with pytest.raises(UsageError, match=r"more than tensors in it, .*torch\.save\(network\.state_dict\(\), FILE\)"):
        read_weights(tmp_path / "w.pt")


def test_the_same_content_gives_the_same_bytes(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    metadata = {name: index for index, name in enumerate("zyxwvutsrq")}
    for name in ("a", "b"):
        write_safetensors(tmp_path / name, state, metadata)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    tensors, read = read_safetensors(tmp_path / "a")
    assert read == metadata and all(torch.equal(tensors[name], state[name]) for name in state)


def test_a_fingerprint_changes_with_any_value_and_name() -> None:
    torch.manual_seed(0)
    network = Tiny()
    before = fingerprint(network.state_dict())
    assert fingerprint(network.state_dict()) == before and len(before) == 16
    with torch.no_grad():
        network.classifier.bias[0] += 1e-6
    assert fingerprint(network.state_dict()) != before
