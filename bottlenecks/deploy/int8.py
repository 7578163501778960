"""A convolutional graph in 8 bits: static, one scale a channel, calibrated on images; and a graph that takes pixels."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

Array = npt.NDArray[Any]
BATCH = 8  # images that are looked at together
PLACES = 64  # of each image, at which a convolution's inputs are looked at
DAMPING = 1e-2  # of the inputs' mean energy
BLOCK = 128  # weights that are rounded before the others hear of it


def to_int8(graph: bytes, images: Array) -> bytes:
    """Quantise a graph of images; its input and outputs stay float32, and the same images give the same bytes.

    Activations have 8 bits and the range that the images show. Weights have 7, depthwise ones 8: processors without
    instructions for it add two products of 8 bits in 16, which overflow. Each convolution's weights are rounded one
    after the other, and those that are left make up for the error, as in Frantar et al., "GPTQ", ICLR 2023.

    Args:
        graph: ONNX, of one input.
        images: that it is calibrated on, (N, 3, H, W).
    """
    with tempfile.TemporaryDirectory() as folder:
        plain, quantised = Path(folder, "plain.onnx"), Path(folder, "quantised.onnx")
        model = _with_plain_weights(graph, plain)
        depthwise = [node.input[1] for node in model.graph.node if node.op_type == "Conv" and _groups(node) > 1]
        whole = {"quant_type": QuantType.QInt8, "axis": 0, "reduce_range": False, "symmetric": True}
        with _quiet():
            quantize_static(
                str(plain),
                str(quantised),
                _Images(images, model.graph.input[0].name),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"TensorQuantOverrides": {name: [whole] for name in depthwise}},
            )
        result = onnx.load(str(quantised))
    _round_well(result.graph, model, images)
    _shorten(result.graph)
    for content in (result, result.graph):
        content.ClearField("doc_string")
    result.ClearField("metadata_props")
    onnx.checker.check_model(result)
    return result.SerializeToString(deterministic=True)


def take_pixels(graph: bytes, mean: Sequence[float], std: Sequence[float]) -> bytes:
    """Let a graph of images take their pixels (N, H, W, 3) uint8, red first: normalised as `Preprocessing` does.

    Args:
        graph: ONNX, takes (N, 3, H, W) float32.
        mean: of each channel.
        std: of each channel.
    """
    model = onnx.load_from_string(graph)
    own, (given,) = model.graph, model.graph.input
    rows, channels, height, width = given.type.tensor_type.shape.dim
    shape = [rows.dim_param, height.dim_value, width.dim_value, channels.dim_value]
    constants = {"white": [255.0], "mean": mean, "std": std}
    own.initializer.extend(
        numpy_helper.from_array(np.array(three, np.float32)[:, None, None], f"pixels.{name}")
        for name, three in constants.items()
    )
    steps = [
        helper.make_node("Transpose", ["pixels"], ["pixels.first"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["pixels.first"], ["pixels.float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels.float", "pixels.white"], ["pixels.share"]),
        helper.make_node("Sub", ["pixels.share", "pixels.mean"], ["pixels.centred"]),
        helper.make_node("Div", ["pixels.centred", "pixels.std"], [given.name]),
    ]
    nodes = [*steps, *own.node]
    own.ClearField("node")
    own.node.extend(nodes)
    given.CopyFrom(helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape))
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _with_plain_weights(graph: bytes, path: Path) -> onnx.ModelProto:
    """Write a graph whose constants are computed, and small operations are one, into a file; return it as well."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return onnx.load(str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what ONNX Runtime's quantiser tells of single channels from the terminal; it speaks as the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


class _Images(CalibrationDataReader):
    def __init__(self, images: Array, name: str) -> None:
        self.batches = ({name: batch} for batch in _batches(images))

    def get_next(self) -> dict[str, Array] | None:
        return next(self.batches, None)


def _batches(images: Array) -> Iterator[Array]:
    return (np.ascontiguousarray(images[start : start + BATCH]) for start in range(0, len(images), BATCH))


def _round_well(graph: onnx.GraphProto, plain: onnx.ModelProto, images: Array) -> None:
    """Round the weights of a quantised graph anew, by what its convolutions see."""
    held = {tensor.name: tensor for tensor in graph.initializer}
    made = {node.output[0]: node for node in graph.node}
    of_plain = {tensor.name: tensor for tensor in plain.graph.initializer}
    weights, moments = {node.name: node.input[1] for node in _convolutions(plain.graph)}, _moments(plain, images)
    for node in graph.node:
        source = made.get(node.input[1]) if node.name in weights else None
        if source is None or source.op_type != "DequantizeLinear":
            continue
        whole, scale = (numpy_helper.to_array(held[name]) for name in source.input[:2])
        exact = numpy_helper.to_array(of_plain[weights[node.name]])
        steps = (exact / scale.reshape(-1, 1, 1, 1)).reshape(len(exact), -1)
        rounded = round_together(steps, moments[weights[node.name]], int(np.abs(whole.astype(int)).max()))
        content = numpy_helper.from_array(rounded.reshape(whole.shape).astype(whole.dtype), source.input[0])
        held[source.input[0]].CopyFrom(content)


def round_together(weights: Array, moments: Array, most: int) -> Array:
    """Round the weights of linear functions so that their outputs change little.

    Args:
        weights: in steps, (functions, inputs).
        moments: of the inputs, (inputs, inputs): the mean of their outer products, or a multiple.
        most: largest magnitude.

    Returns:
        Whole numbers (functions, inputs).
    """
    energy = moments.diagonal().copy()
    damped = moments + np.diag(np.where(energy == 0, 1.0, 0.0) + DAMPING * (energy.mean() or 1.0))
    order = np.argsort(-energy, kind="stable")
    left, count = weights[:, order].astype(np.float64), weights.shape[1]
    spread = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    rounded = np.zeros_like(left)
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        errors = np.zeros((len(left), end - start))
        for at in range(start, end):
            rounded[:, at] = np.rint(left[:, at]).clip(-most, most)
            errors[:, at - start] = (left[:, at] - rounded[:, at]) / spread[at, at]
            left[:, at + 1 : end] -= np.outer(errors[:, at - start], spread[at, at + 1 : end])
        left[:, end:] -= errors @ spread[start:end, end:]
    result = np.empty_like(rounded)
    result[:, order] = rounded
    return result


def _moments(model: onnx.ModelProto, images: Array) -> Mapping[str, Array]:
    """Add up the outer products of what each convolution's weights are multiplied with, by the weights' names."""
    convolutions, given = _convolutions(model.graph), model.graph.input[0].name
    names = list(dict.fromkeys(node.input[0] for node in convolutions if node.input[0] != given))
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {one.name for one in watched.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    run = _runner(watched)
    totals: dict[str, Array] = {}
    for batch in _batches(images):
        seen = {given: batch, **dict(zip(names, run(names, {given: batch}), strict=True))}
        for node in convolutions:
            columns = _columns(node, seen[node.input[0]])
            own = (columns.T @ columns).astype(np.float64)
            totals[node.input[1]] = totals.get(node.input[1], 0) + own
    return totals


def _runner(model: onnx.ModelProto) -> Callable[[Sequence[str], Mapping[str, Array]], Sequence[Array]]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda names, inputs: session.run(list(names), dict(inputs)) if names else []


def _columns(node: onnx.NodeProto, features: Array) -> Array:
    """Return what a convolution's weights are multiplied with at some places of features (N, C, H, W), a row each."""
    said = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    (top, left, bottom, right), (down, across) = said.get("pads", [0] * 4), said.get("strides", [1, 1])
    (tall, wide), kernel = said.get("dilations", [1, 1]), said["kernel_shape"]
    padded = np.pad(features, ((0, 0), (0, 0), (top, bottom), (left, right)))
    sides = [(size - 1) * step + 1 for size, step in zip(kernel, (tall, wide), strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, sides, (2, 3))  # type: ignore[call-overload]
    windows = windows[:, :, ::down, ::across, ::tall, ::wide]
    height, width = windows.shape[2:4]
    places = np.unique(np.linspace(0, height * width - 1, PLACES).round().astype(int))
    chosen = windows[:, :, places // width, places % width]  # (N, C, places, kh, kw)
    return chosen.transpose(0, 2, 1, 3, 4).reshape(len(features) * len(places), -1)


def _convolutions(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    constant = {tensor.name for tensor in graph.initializer}
    return [
        node
        for node in graph.node
        if node.op_type == "Conv"
        and _groups(node) == 1
        and node.input[1] in constant
        and any(one.name == "kernel_shape" and len(one.ints) == 2 for one in node.attribute)
    ]


def _groups(node: onnx.NodeProto) -> int:
    return next((one.i for one in node.attribute if one.name == "group"), 1)


def _shorten(graph: onnx.GraphProto) -> None:
    """Leave out of a quantised graph what a runtime finds by itself, and give it short names.

    That is zero points of 0, and the scales of biases: the product of those of the input and of the weights.
    """
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in held and not held[node.input[2]].any():
            del node.input[2]
    products = []
    for node in graph.node:
        sources = [made.get(name) for name in node.input] if node.op_type == "Conv" and len(node.input) == 3 else []
        if not sources or any(one is None or one.op_type != "DequantizeLinear" for one in sources):
            continue
        seen, weights, bias = (one.input for one in sources if one is not None)
        if np.allclose(held[bias[1]], held[seen[1]] * held[weights[1]], rtol=1e-6, atol=0):
            name = f"{bias[1]}.product"
            products.append(helper.make_node("Mul", [seen[1], weights[1]], [name]))
            bias[1] = name
    nodes = [*products, *graph.node]
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    for field in ("node", "initializer", "value_info"):
        graph.ClearField(field)
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    ends, names = {"", *(one.name for one in (*graph.input, *graph.output))}, dict[str, str]()

    def short(name: str) -> str:
        return name if name in ends else names.setdefault(name, f"{len(names):x}_")

    for node in graph.node:
        node.name = ""
        node.input[:] = map(short, node.input)
        node.output[:] = map(short, node.output)
    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
