"""Files of weights: read any of the usual wrappers without pickle's dangers, load exactly, write all or nothing."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialise
from torch import Tensor, nn

from bottlenecks.errors import UsageError, reason
from bottlenecks.files import metadata_of, opened, write_atomically

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "model_ema")
PREFIXES = ("module.", "_orig_mod.", "model.")
AUXILIARY = "aux_classifier."  # a second output of torchvision's segmentation networks, for training alone


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a `.pt`, `.pth`, `.ckpt`, `.bin` or `.safetensors` file.

    Common wrappers (`{"state_dict": …}`) are opened.

    Args:
        path: the file.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        UsageError: no such file, or nothing that can be read as named tensors without running code.
    """
    if not path.is_file():
        raise UsageError(f"model.weights={path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return read_safetensors(path)[0]
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except pickle.UnpicklingError:  # torch's message proposes to run whatever the file holds
        raise UsageError(
            f"model.weights={path}: not a readable file of weights (more than tensors in it, which could run code); "
            "load it where you trust it, and save its tensors alone: torch.save(network.state_dict(), FILE)"
        ) from None
    except Exception as error:  # damaged files end in errors of many kinds
        raise UsageError(f"model.weights={path}: not a readable file of weights ({reason(error)})") from None
    return _unwrap(content, path)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a safetensors file: its tensors, and its metadata with every value decoded from JSON.

    Raises:
        UsageError: the file is missing or damaged.
    """
    with opened(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, metadata_of(file)


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able metadata, so that `path` is at any moment absent, the old file or the new one."""
    # Copies, since the format has no tensors that share their memory, as tied weights do.
    content = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    data = serialise(content, {key: json.dumps(value, sort_keys=True) for key, value in metadata.items()})
    write_atomically(path, _sort_header(data))


def load_exactly(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict that must fit.

    Names become the network's, as `own_names` says, and tensors of another precision are converted.

    Args:
        network: receives the weights.
        state: tensors by name.
        source: what the state came from, for the message.

    Raises:
        UsageError: names are missing or surplus, or shapes differ; the message lists them.
    """
    expected = network.state_dict()
    state = own_names(network, state)
    shapes = [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    # Counters of BatchNorm came with torch 0.4.1; files from before lack them and lose nothing.
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    surplus = [name for name in state if name not in expected]
    complaints = [
        f"{label}: {_shorten(names)}"
        for label, names in (("missing", missing), ("surplus", surplus), ("of another shape", shapes))
        if names
    ]
    if complaints:
        raise UsageError(f"{source} does not fit the network; {'; '.join(complaints)}")
    network.load_state_dict(state, strict=False)


def own_names(network: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Name tensors as a network does.

    Prefixes that wrappers leave on every name (`module.` of DataParallel, …) are taken off; a network that knows other
    names for its tensors, such as a detector, translates them itself (`network.own_names`); an auxiliary classifier
    that the network does without is left out.

    Args:
        network: whose names are wanted.
        state: tensors by name.
    """
    expected = network.state_dict()
    state = _strip_prefixes(state, expected)
    translate = getattr(network, "own_names", None)
    state = translate(state) if translate else state
    return {name: state[name] for name in state if name in expected or not name.startswith(AUXILIARY)}


def fitting(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Choose the tensors that a network can begin its training from, under its own names.

    Where the state is that of another network which is a part of this one, such as a classification network under a
    detector, its names get that part's path in front.

    Args:
        network: whose names and shapes decide.
        state: tensors by name.

    Returns:
        Those that have the name and the shape of one of the network's; empty where none has.
    """
    expected, state = network.state_dict(), own_names(network, state)
    first = next(iter(state), "")
    paths = ["", *(name.removesuffix(first) for name in expected if name.endswith(f".{first}"))]
    choices = [
        {path + name: tensor for name, tensor in state.items() if _fits(tensor, expected.get(path + name))}
        for path in paths
    ]
    return max(choices, key=len)


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Identify tensors: 16 hexadecimal digits of a SHA-256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _sort_header(data: bytes) -> bytes:
    """Put the header's keys in order, so that the same content gives the same bytes: the library shuffles them."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return dict(content)
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    raise UsageError(f"model.weights={path}: expected tensors by name, plain or under one of {', '.join(WRAPPERS)}")


def _strip_prefixes(state: Mapping[str, Tensor], expected: Container[str]) -> Mapping[str, Tensor]:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) and name not in expected for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _fits(tensor: Tensor, expected: Tensor | None) -> bool:
    return expected is not None and tensor.shape == expected.shape


def _shorten(names: list[str], most: int = 6) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
