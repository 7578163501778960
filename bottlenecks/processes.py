"""Which of several processes this one is; all answers are those of a single process where there is one."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from bottlenecks.errors import UsageError

if TYPE_CHECKING:  # what only asks who it is needs no torch
    import torch
    from torch import Tensor, nn

M = TypeVar("M", bound="nn.Module")
T = TypeVar("T")
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


class Share(NamedTuple):
    """The part of the work that is this process's.

    Attributes:
        rank: number of this process, from 0.
        world_size: how many there are.
    """

    rank: int
    world_size: int


def own_share() -> Share:
    """Return this process's share among those that have joined."""
    import torch.distributed as dist

    return Share(dist.get_rank(), dist.get_world_size()) if _joined() else Share(0, 1)


def is_main() -> bool:
    """Whether this process is the one that writes and speaks, joined or not yet."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)


def join(device: torch.device) -> torch.device:
    """Join the processes that a launcher such as torchrun started; alone where there is none.

    Args:
        device: that a single process would use.

    Returns:
        The device for this one.

    Raises:
        UsageError: processes of this machine would share a device, or it has too few.
    """
    import torch
    import torch.distributed as dist

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not _joined():
        if device.type != "cpu":
            device = _own_device(device)
            torch.get_device_module(device).set_device(device)
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return device


def _own_device(device: torch.device) -> torch.device:
    """Choose the device of this process among those of the machine."""
    import torch

    rank, count = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.index is not None and count > 1:
        raise UsageError(f"device={device}: {count} processes would share it; give device={device.type}")
    there = torch.get_device_module(device).device_count()
    if count > there:
        raise UsageError(f"device={device}: {count} processes and {there} devices; start fewer, or device=cpu")
    return device if device.index is not None else torch.device(device.type, rank)


def leave() -> None:
    """Leave the others, once all are here."""
    import torch.distributed as dist

    if _joined():
        dist.barrier()
        dist.destroy_process_group()


def from_main(make: Callable[[], T]) -> T:
    """Let the main process make something, and give it to all of them."""
    import torch.distributed as dist

    if not _joined():
        return make()
    found = [make() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(found)
    return cast(T, found[0])


def add_up(values: Tensor) -> Tensor:
    """Sum a tensor over all processes."""
    import torch.distributed as dist

    if _joined():
        dist.all_reduce(values)
    return values


def synchronise_batch_norm(module: M, device: torch.device) -> M:
    """Let BatchNorm see all processes' batches, where there are several and the device can."""
    from torch import nn

    several = own_share().world_size > 1 and device.type != "cpu"
    return nn.SyncBatchNorm.convert_sync_batchnorm(module) if several else module


def average_buffers(module: nn.Module) -> None:
    """Let every process have the mean of all processes' statistics (BatchNorm's, say)."""
    import torch.distributed as dist

    if not _joined():
        return
    for buffer in module.buffers():
        if buffer.is_floating_point() and buffer.numel():
            dist.all_reduce(buffer)
            buffer /= dist.get_world_size()


def _joined() -> bool:
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()
