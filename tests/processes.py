"""Two processes on this machine, as a launcher would start them, without a new interpreter for each test."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
import warnings
from collections.abc import Callable
from typing import Any

WAIT = 120.0  # seconds, after which a test has hung


def in_two(work: Callable[..., Any], *given: Any, **environment: str) -> list[Any]:
    """Run a function in two processes that may join; give what each returned, or its error's text.

    They are forks of a server that has imported the library and done nothing else.

    Args:
        work: of a module.
        given: its arguments.
        environment: variables beside a launcher's.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bottlenecks.runs.training", "bottlenecks.runs.evaluation"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    pipes, processes = [], []
    for rank in map(str, range(2)):
        receiver, sender = context.Pipe(duplex=False)
        own = {**common, **environment, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"}
        process = context.Process(target=_run, args=(sender, own, work, given))
        process.start()
        pipes.append(receiver)
        processes.append(process)
    try:
        assert all(pipe.poll(WAIT) for pipe in pipes), "a process waits for another that does not come"
        return [pipe.recv() for pipe in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _run(sender: Any, environment: dict[str, str], work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    import torch

    os.environ.update(environment)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        sender.send(work(*given))
    except BaseException:
        sender.send(traceback.format_exc())
