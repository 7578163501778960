"""The frozen network's work, done once instead of once an epoch."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_flatten_with_path, tree_leaves, tree_map, tree_unflatten

from bottlenecks.console.terminal import progress, say
from bottlenecks.errors import UsageError, reason
from bottlenecks.files import one_at_a_time, write_atomically
from bottlenecks.settings.training import GIB, CachePlan
from bottlenecks.shapes import flat
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.splitting.features import Features, all_finite, num_images
from bottlenecks.training.cached import CachedDataModule, CachedSplit, Rows
from bottlenecks.training.frozen import FrozenBatch, pass_frozen
from bottlenecks.training.images import ImageData, Split

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
PRECISIONS = {16: torch.float16, 32: torch.float32}
WAYS_OUT = (
    "ways out: training.cache_precision=16 halves it, fewer data.views or data.limit_train, "
    "larger training.cache_memory_gib or training.cache_disk_gib, or training.cache_features=false"
)


def cache_frozen(
    network: SplitNetwork, data: ImageData, device: torch.device, plan: CachePlan, key: Mapping[str, Any]
) -> CachedDataModule | None:
    """Pass every training and held-back image through the frozen network once.

    What fits is held in memory. The rest goes to files under the plan's folder, one folder for each thing the
    outputs depend on: `key`, the images, their views, the precision. They are checked when they are met again,
    written under another name and renamed, and made by one process at a time.

    Args:
        network: on `device`.
        data: gives the views.
        device: where to run.
        plan: how much may be kept, and where.
        key: all that the frozen network's outputs depend on, images excepted; JSON-able.

    Returns:
        The data, or None where it does not fit and the plan does not require it.

    Raises:
        UsageError: it cannot be kept and the plan requires it: new random views each epoch, too large, no room,
            no permission, a damaged or foreign file.
    """
    views = data.num_views
    if views is None:
        if not plan.required:
            return None
        raise UsageError(
            "training.cache_features=true: data.augment=true draws new views each epoch; data.views=4 keeps to four "
            "an image, data.augment=false to one, or training.cache_features=false"
        )
    counts: dict[Split, int] = {"train": views * len(data.images("train")), "val": len(data.images("val"))}
    example = _example(network, data, device)
    row = _row_bytes(example, plan.precision)
    size = row * sum(counts.values())
    held = size <= plan.memory
    if not held and not plan.required:
        return None
    text = _describe(sum(counts.values()), row)
    if not held and size > plan.disk:
        raise UsageError(
            f"training.cache_features=true: {text}, more than training.cache_memory_gib={plan.memory / GIB:g} (of a "
            f"process) and training.cache_disk_gib={plan.disk / GIB:g}; {WAYS_OUT}"
        )
    if held:
        say(f"Caching features in memory: {text}")
    splits: dict[Split, CachedSplit] = {}
    for split, count in counts.items():
        make = _Maker(network, data, split, device, count, example, plan.precision)
        rows = make.in_memory() if held else make.on_disk(plan.folder, key, _describe(count, row))
        splits[split] = CachedSplit(rows, len(data.images(split)), example.num_pixels)
    return CachedDataModule(data, splits)


class _Maker:
    """Computes the rows of one split."""

    def __init__(
        self,
        network: SplitNetwork,
        data: ImageData,
        split: Split,
        device: torch.device,
        count: int,
        example: FrozenBatch,
        precision: int,
    ) -> None:
        self.network, self.data, self.split, self.device = network, data, split, device
        self.precision = precision
        kept, self.structure = tree_flatten(_kept(example, precision))
        self.shapes = {
            name: ((count, *one.shape[1:]), one.dtype) for name, one in zip(_names(example), kept, strict=True)
        }

    def in_memory(self) -> Rows:
        rows = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in self.shapes.items()}
        self._fill(rows)
        return self._rows(rows)

    def _rows(self, rows: Mapping[str, Tensor]) -> Rows:
        return Rows(*tree_unflatten([*rows.values()], self.structure))

    def on_disk(self, root: Path, key: Mapping[str, Any], text: str) -> Rows:
        """Find the rows, or make them; only one process does, the others wait for it."""
        described = {**key, "split_of_data": self.split, "images": self.data.identity(self.split)}
        described |= {"shapes": {name: [list(shape), str(dtype)] for name, (shape, dtype) in self.shapes.items()}}
        described |= {"version": FORMAT_VERSION}
        name = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
        folder = root / f"{self.split}-{name}"
        try:
            with one_at_a_time(folder):
                for leftover in root.glob(f".{folder.name}.*.tmp"):  # of a process killed while writing
                    shutil.rmtree(leftover)
                if not folder.exists():
                    say(f"Caching features in {folder}: {text}")
                    self._write(folder, described)
                else:
                    say(f"Using the features cached in {folder}")
                return self._read(folder, described)
        except OSError as error:
            problem = "no room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or reason(error)
            raise UsageError(f"paths.cache={root}: {problem} for {text}; give another folder; {WAYS_OUT}") from None

    def _write(self, folder: Path, described: Mapping[str, Any]) -> None:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
        try:
            for name, (shape, dtype) in self.shapes.items():
                _reserve(temporary / name, max(1, _num_bytes(shape, dtype)))
            rows = self._map(temporary, shared=True)
            self._fill(rows)
            del rows
            sums = {name: _checksum(temporary / name) for name in self.shapes}
            write_atomically(temporary / MANIFEST, json.dumps({"key": described, "sums": sums}, indent=1).encode())
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _read(self, folder: Path, described: Mapping[str, Any]) -> Rows:
        anew = f"remove {folder} to make it anew, or training.cache_features=false"
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            key, sums = manifest["key"], dict(manifest["sums"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{folder}: damaged ({reason(error)}); {anew}") from None
        if key != json.loads(json.dumps(described)):
            raise UsageError(f"{folder}: made from other weights, images or settings than these; {anew}")
        for name in self.shapes:
            if _checksum(folder / name) != sums.get(name):
                raise UsageError(f"{folder}: damaged ({name} is not what was written); {anew}")
        return self._rows(self._map(folder, shared=False))

    def _map(self, folder: Path, shared: bool) -> dict[str, Tensor]:
        def view(name: str) -> Tensor:
            shape, dtype = self.shapes[name]
            size = _num_elements(shape)
            return torch.from_file(str(folder / name), shared=shared, size=size, dtype=dtype).view(shape)

        return {name: view(name) for name in self.shapes}

    def _fill(self, rows: Mapping[str, Tensor]) -> None:
        start = 0
        for batch in self._batches():
            end = start + num_images(batch.features)
            kept = _kept(batch, self.precision)
            if not all_finite(kept[0]):
                raise UsageError(
                    "training.cache_precision=16: the features are too large for it; use 32"
                    if self.precision == 16
                    else f"split={self.network.split}: the features there are not finite; are the weights sound?"
                )
            for own, values in zip(rows.values(), tree_leaves(kept), strict=True):
                own[start:end] = values.cpu()
            start = end

    def _batches(self) -> Iterable[FrozenBatch]:
        loaders = self.data.view_loaders(self.split)
        total = sum(map(len, loaders))
        flat = (batch for loader in loaders for batch in loader)
        for images, targets in progress(flat, f"Caching {self.split}", total):
            yield pass_frozen(self.network, images.to(self.device), targets)


def _example(network: SplitNetwork, data: ImageData, device: torch.device) -> FrozenBatch:
    images, targets = next(iter(data.val_dataloader()))
    return pass_frozen(network, images[:1].to(device), targets[:1])


def _kept(batch: FrozenBatch, precision: int) -> tuple[Features, Any, Tensor]:
    """Return what is kept of a batch: the features in this precision, the teacher's numbers in 32 bits."""
    features = tuple(tensor.to(PRECISIONS[precision]) for tensor in batch.features)
    teacher = tree_map(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor, batch.teacher)
    return features, teacher, batch.targets


def _names(batch: FrozenBatch) -> list[str]:
    """Name the tensors of a batch in order, such as `features` and `teacher.out`."""
    parts = {"features": flat(batch.features), "teacher": batch.teacher, "targets": batch.targets}
    paths = [path for path, _ in tree_flatten_with_path(parts)[0]]
    return [".".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path) for path in paths]


def _row_bytes(example: FrozenBatch, precision: int) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tree_leaves(_kept(example, precision)))


def _describe(count: int, row_bytes: int) -> str:
    return f"{count} rows of {row_bytes / 1024:,.0f} KiB, {count * row_bytes / GIB:.2f} GiB"


def _num_elements(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())


def _num_bytes(shape: Sequence[int], dtype: torch.dtype) -> int:
    return _num_elements(shape) * dtype.itemsize


def _reserve(path: Path, size: int) -> None:
    """Make a file and take its room now: writing to a mapped file that has none left kills the process."""
    with open(path, "wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        elif shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        else:
            file.truncate(size)


def _checksum(path: Path) -> int:
    value, chunk = 0, 2**24
    with open(path, "rb") as file:
        total = -(-path.stat().st_size // chunk)
        for data in progress(iter(lambda: file.read(chunk), b""), "Checking", total):
            value = zlib.crc32(data, value)
    return value
