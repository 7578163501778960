"""What a server counts, as Prometheus reads it from /metrics; several workers' counts are added up."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # the folder in which workers keep their counts; before the first import
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
BYTES = (8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384, 65536, 262144)
FRAMES = (1, 2, 4, 8, 16, 32, 64)

REQUESTS = Counter("bottlenecks_requests", "Requests and messages of sessions that were answered.", ["endpoint"])
REFUSALS = Counter("bottlenecks_refusals", "What was not answered, and why.", ["reason"])
FRAME_BYTES = Histogram("bottlenecks_frame_bytes", "Bytes of a frame.", buckets=BYTES)
BATCH_FRAMES = Histogram("bottlenecks_batch_frames", "Frames that went through the tail together.", buckets=FRAMES)
ANSWER_SECONDS = Histogram("bottlenecks_answer_seconds", "From a frame to its answer.", buckets=SECONDS)
UNDER_WAY = Gauge("bottlenecks_under_way", "Requests under way.", multiprocess_mode="livesum")
SESSIONS = Gauge("bottlenecks_sessions", "Sessions that are open.", multiprocess_mode="livesum")

REASONS = {
    400: "damaged", 401: "token", 403: "path", 404: "path", 405: "method", 408: "slow", 413: "large", 429: "rate",
    499: "gone", 500: "failed", 503: "busy",
}  # fmt: skip


def refuse(reason: str) -> None:
    """Count something that was not answered.

    Args:
        reason: `damaged`, `token`, `path`, `method`, `slow`, `large`, `rate`, `failed` or `busy` as statuses have them;
            `gone` where the client left, `head` where no whole head of a request came, `malformed` where it is none.
    """
    REFUSALS.labels(reason).inc()


def render() -> tuple[bytes, str]:
    """Return the counts of all workers, and the type of that content."""
    registry = REGISTRY
    if SHARED in os.environ:
        _forget_the_killed(Path(os.environ[SHARED]))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _forget_the_killed(counts: Path) -> None:
    """Take workers that were killed, and could not leave themselves, out of what is under way."""
    for process in {int(path.stem.rpartition("_")[2]) for path in counts.glob("gauge_live*.db")}:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            mark_process_dead(process)


def leave() -> None:
    """Take a worker that ends out of what is under way."""
    if SHARED in os.environ:
        mark_process_dead(os.getpid())
