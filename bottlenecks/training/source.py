"""Images that can be asked for by number, whatever they were given as."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from bottlenecks.console.terminal import progress
from bottlenecks.errors import UsageError, reason
from bottlenecks.training.given_batch import BatchCheck

BATCH_SIZE = 32  # of what comes without one


@dataclass(frozen=True)
class Source:
    """Images that can be asked for by number.

    Attributes:
        dataset: of images, or of (image, target, …).
        batch_size: of a batch.
        num_workers: processes that load.
        collate: puts items together.
        indices: those of the dataset that count.
        check: makes (images, targets) of what `collate` gives for so many items, or refuses it.
    """

    dataset: Dataset[Any]
    batch_size: int
    num_workers: int
    collate: Callable[[list[Any]], Any]
    indices: np.ndarray
    check: BatchCheck

    @classmethod
    def of(cls, images: Any, check: BatchCheck) -> Source:
        """Read a tensor (N, C, H, W), a tuple of images and targets, a dataset or a DataLoader.

        Raises:
            UsageError: it is none of these, or empty; the message names the argument.
        """
        argument, loader = check.argument, images if isinstance(images, DataLoader) else None
        if loader is not None:
            images = loader.dataset
        elif isinstance(images, Tensor):
            images = _tensors([images], argument)
        elif isinstance(images, (tuple, list)) and images and all(isinstance(one, Tensor) for one in images):
            images = _tensors(images, argument)
        by_number = hasattr(images, "__getitem__") and hasattr(images, "__len__")
        if not by_number or isinstance(images, (IterableDataset, Mapping, str, bytes)):
            raise UsageError(
                f"{argument}: expected a tensor (N, C, H, W), (images, targets), a dataset with a length or a "
                f"DataLoader of one, got {type(images).__name__}"
            )
        indices = np.arange(len(images)) if loader is None else drawn(loader, argument)
        if len(indices) == 0:
            raise UsageError(f"{argument}: there are no images in it")
        if loader is None:
            return cls(images, BATCH_SIZE, 0, default_collate, indices, check)
        batch_size = getattr(loader.batch_sampler, "batch_size", None) or BATCH_SIZE
        return cls(images, batch_size, loader.num_workers, loader.collate_fn, indices, check)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def names(self) -> tuple[str, ...]:
        """Each image's number in the dataset."""
        return tuple(map(str, self.indices.tolist()))

    def select(self, indices: np.ndarray) -> Source:
        """Return the same source with some of its images."""
        return replace(self, indices=self.indices[indices])

    @cached_property
    def identity(self) -> str:
        """Identify the images and targets by all of them, whatever the batches; 16 hexadecimal digits."""
        digests = [hashlib.blake2b(digest_size=8) for _ in range(2)]
        for batch in progress(self.loader(range(len(self))), f"Reading {self.check.argument}"):
            for digest, tensor in zip(digests, batch, strict=True):
                digest.update(tensor.detach().cpu().contiguous().numpy())
        return hashlib.blake2b(b"".join(digest.digest() for digest in digests), digest_size=8).hexdigest()

    def loader(self, sampler: Any, drop_last: bool = False) -> DataLoader:
        """Return batches of (images, targets) in an order."""
        return _Loader(
            _Chosen(self),
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.num_workers,
            collate_fn=self._batch,
            generator=torch.Generator(),  # else each pass would move the global one on
        )

    def _batch(self, items: list[Any]) -> tuple[Tensor, Tensor] | UsageError:
        try:
            return self.check(self._collated(items), len(items))
        except UsageError as error:
            return error

    def _collated(self, items: list[Any]) -> Any:
        try:
            return self.collate(items)
        except Exception as error:
            raise UsageError(
                f"{self.check.argument}: {len(items)} of its items make no batch ({reason(error)}); each has to be "
                "an image of one size, or (image, target), that collate_fn keeps"
            ) from error


class _Loader(DataLoader[Any]):
    """Raises here what a loading process found wrong, which would bury it in a traceback."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, UsageError):
                raise batch
            yield batch


class _Chosen(Dataset[Any]):
    """The items of a source, at an index or at the `(view, index)` of `EpochSampler`."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | tuple[int, int]) -> Any:
        index = key[1] if isinstance(key, tuple) else key
        return self.source.dataset[int(self.source.indices[index])]


def drawn(loader: DataLoader[Any], argument: str) -> np.ndarray:
    """Return which images a DataLoader reads, in their order in the dataset; `drop_last` leaves none out.

    Raises:
        UsageError: it reads some twice, others each time, or makes no batches.
    """
    own = loader.batch_sampler
    if own is None:
        raise UsageError(f"{argument}: a DataLoader with batch_size=None; give one that makes batches of single images")
    most = len(loader.dataset) + 1  # type: ignore[arg-type]

    def draw() -> list[int]:
        indices = own.sampler if type(own) is BatchSampler else chain.from_iterable(own)
        return sorted(map(int, islice(indices, most)))

    with torch.random.fork_rng(devices=[]):
        first, second = draw(), draw()
    if len({*first}) < len(first) or first != second:
        how = "other images each time" if first != second else "an image more than once"
        raise UsageError(
            f"{argument}: the sampler of this DataLoader draws {how}, and each image is read once; choose "
            "images by torch.utils.data.Subset"
        )
    return np.array(first, dtype=np.int64)


def _tensors(tensors: Sequence[Tensor], argument: str) -> TensorDataset:
    if len({one.shape[:1] for one in tensors}) > 1 or not tensors[0].dim():
        shapes = ", ".join(str(tuple(one.shape)) for one in tensors[:4])
        raise UsageError(
            f"{argument}: expected images (N, C, H, W) and as many targets, got tensors {shapes}; if these are batches "
            "of images, put them together by torch.cat"
        )
    return TensorDataset(*tensors)
