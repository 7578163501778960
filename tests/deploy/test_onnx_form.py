"""Graphs of units hold each weight once, small, and nothing that only training needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bottlenecks.deploy.export import Decoder, Encoder
from bottlenecks.deploy.onnx_form import store_in_halves, to_onnx
from bottlenecks.training.seeds import generator_for
from bottlenecks.units import TransformUnit

PARTS: dict[str, dict[str, Any]] = {
    "separable": {"feature_shape": (12, 21, 30), "structure": "separable", "rank": 10, "block": (8, 8), "restorer": 0},
    "joint": {"feature_shape": (32, 4, 4), "structure": "joint", "rank": 9, "block": (4, 4), "restorer": 16},
}


def make_unit(*structures: str) -> TransformUnit:
    """A unit with random weights, some of whose coefficients are not coded."""
    torch.manual_seed(0)
    unit = TransformUnit([{**PARTS[name], "nonnegative": True, "rounding": 0.42} for name in structures])
    for part in unit.parts:
        part.scales.data = torch.linspace(-20, 120, part.scales.numel()).view_as(part.scales)
        for logarithm in part.transform.logarithms():
            torch.nn.init.uniform_(logarithm, -2, 0)
        for weight in part.transform.linear_parameters():
            torch.nn.init.normal_(weight)
    unit.finalise()
    return unit


def features_of(unit: TransformUnit, count: int) -> list[torch.Tensor]:
    return [torch.randn(count, *part.feature_shape, generator=generator_for(0)).relu() for part in unit.parts]


def run(graph: bytes, inputs: list[torch.Tensor]) -> list[np.ndarray]:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return session.run(None, {name: one.numpy() for name, one in zip(names, inputs, strict=True)})


@pytest.mark.parametrize("structures", [("separable",), ("joint",), ("separable", "joint")], ids="+".join)
@torch.no_grad()
def test_graphs_of_a_unit_compute_what_it_does(structures: tuple[str, ...]) -> None:
    unit = make_unit(*structures)
    features = features_of(unit, 7)
    found = run(to_onnx(Encoder(unit), features_of(unit, 2), "encoder"), features)
    symbols = [part.steps(one).int() for part, one in zip(unit.parts, features, strict=True)]
    for part, own, expected in zip(unit.parts, found, symbols, strict=True):
        coded = part.indices(part.own_size).gt(0).expand(expected.shape)
        assert 0 < coded.float().mean() < 1 and not own[~coded.numpy()].any()
        assert own.dtype == np.int32 and len(np.unique(own)) > 10
        assert (own != expected.numpy()).mean() < 1e-3  # the two round differently only on a boundary
    restored = run(to_onnx(Decoder(unit), [one[:2] for one in symbols], "decoder"), symbols)
    for part, own, one in zip(unit.parts, restored, symbols, strict=True):
        assert np.allclose(own, part.reconstruct(one, part.own_size).numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("structure", PARTS)
def test_an_encoder_holds_little_but_its_weights(structure: str) -> None:
    unit = make_unit(structure)
    graph = onnx.load_from_string(to_onnx(Encoder(unit), features_of(unit, 2), "encoder")).graph
    (part,) = unit.parts
    height, width = part.own_size
    held = {tensor.name: tensor for tensor in graph.initializer}
    weight = held["units.0.transform.project.weight.half"]
    assert np.array_equal(numpy_helper.to_array(weight), part.transform.project.weight.detach().numpy())
    others = sum(len(tensor.raw_data) for tensor in graph.initializer) - len(weight.raw_data)
    steps, numbers = 4 * part.scales.numel(), part.scales.numel()
    cosines, places = 4 * (height**2 + width**2), 8 * (height + width)
    assert others <= steps + numbers + cosines + places + 4 * part.rank + 64
    assert not {node.op_type for node in graph.node} & {"Exp", "Neg", "Round", "Div"}  # computed beforehand


def test_only_what_half_precision_holds_is_stored_in_it() -> None:
    rng = np.random.default_rng(0)
    constants = {
        "exact": rng.standard_normal(100).astype(np.float16).astype(np.float32),
        "fine": rng.standard_normal(100).astype(np.float32),
        "large": np.full(100, 1e5, np.float32),
        "few": np.ones(3, np.float32),
        "whole": np.ones(100, np.int64),
    }
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    outputs = [helper.make_tensor_value_info(f"{t.name}_out", t.data_type, t.dims) for t in tensors]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in constants]
    graph = helper.make_graph(nodes, "constants", [], outputs, tensors)
    store_in_halves(graph)
    assert [t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT16] == ["exact.half"]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    results = run(model.SerializeToString(), [])
    assert all(map(np.array_equal, results, constants.values()))
