"""Files of tensors: read any of the usual wrappers without pickle's dangers, write all or nothing."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialise
from torch import Tensor

from bottlenecks.errors import UsageError, reason
from bottlenecks.files import metadata_of, opened, write_atomically

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "model_ema")
SAVED = (b"PK", b"\x80")  # how a file of torch.save, or of pickle, begins
ALONE = "save its tensors alone: torch.save(network.state_dict(), FILE)"


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
    except Exception as error:  # damaged files end in errors of many kinds
        raise UsageError(f"model.weights={path}: not a readable file of weights {_why(error, path)}") from None
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


def _why(error: Exception, path: Path) -> str:
    """Say why torch could not read a file; its own message proposes to run whatever the file holds."""
    if not isinstance(error, pickle.UnpicklingError) and "weights_only" not in str(error):
        return f"({reason(error)})"
    with path.open("rb") as file:
        saved = file.read(2).startswith(SAVED)
    if not saved:
        return "(torch did not write it)"
    return f"(more than tensors in it, which could run code); load it where you trust it, and {ALONE}"


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return dict(content)
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    entries = content.items() if isinstance(content, Mapping) else ()
    others = [f"{name}, a {type(one).__name__}" for name, one in entries if not isinstance(one, Tensor)]
    found = f"; it has {others[0]}" if others else ""
    raise UsageError(
        f"model.weights={path}: expected tensors by name, plain or under one of {', '.join(WRAPPERS)}{found}; {ALONE}"
    )
