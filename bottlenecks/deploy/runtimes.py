"""What runs a bundle's graphs: ONNX Runtime, or OpenVINO for a head in its own form."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
import onnxruntime as ort

from bottlenecks.errors import UsageError
from bottlenecks.shapes import Shape

Arrays = tuple[npt.NDArray[Any], ...]
Graph = Callable[[Arrays], Arrays]
ONNX, OPENVINO = "onnx", "openvino"


class Loaded(NamedTuple):
    """A graph of arrays that threads may share.

    Attributes:
        takes: shapes of one image's inputs; () of a number.
        gives: the same of its outputs.
        run: the graph.
    """

    takes: list[Shape]
    gives: list[Shape]
    run: Graph


def load_onnx(content: bytes, threads: int | None) -> Loaded:
    """Load a graph into ONNX Runtime.

    Args:
        content: of the file.
        threads: None for one a core.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    session = ort.InferenceSession(content, options, providers=ort.get_available_providers())
    names = [node.name for node in session.get_inputs()]

    def run(values: Arrays) -> Arrays:
        return tuple(session.run(None, dict(zip(names, values, strict=True))))

    ends = (session.get_inputs(), session.get_outputs())
    takes, gives = ([tuple(node.shape[1:]) for node in nodes] for nodes in ends)
    return Loaded(takes, gives, run)


def load_openvino(content: bytes, weights: bytes, threads: int | None) -> Loaded:
    """Load a graph in OpenVINO's form, to compute in 32 bits what has no fewer.

    Args:
        content: of the `.xml`.
        weights: of the `.bin` beside it.
        threads: None for one a core.

    Raises:
        UsageError: OpenVINO is not installed.
    """
    openvino = import_openvino()
    core = openvino.Core()
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    compiled = core.compile_model(core.read_model(content, weights), "CPU", options)
    own = threading.local()  # a request serves one thread

    def run(values: Arrays) -> Arrays:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        return tuple(own.request.infer(list(values)).to_tuple())

    takes, gives = (
        [tuple(size.get_length() for size in list(port.partial_shape)[1:]) for port in ports]
        for ports in (compiled.inputs, compiled.outputs)
    )
    return Loaded(takes, gives, run)


def to_openvino(content: bytes) -> tuple[bytes, bytes]:
    """Convert an ONNX graph by OpenVINO's own reader; weights keep their bits.

    Returns:
        The `.xml`, and the `.bin` beside it.

    Raises:
        UsageError: OpenVINO is not installed.
    """
    openvino = import_openvino()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        openvino.save_model(openvino.Core().read_model(content), path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def import_openvino() -> Any:
    """Import OpenVINO.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import openvino
    except ModuleNotFoundError:
        raise UsageError("OpenVINO is not installed: pip install 'bottlenecks[openvino]'") from None
    return openvino
