"""Graphs of units hold each weight once, small, and nothing that only training needs."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bottlenecks.deploy.export import Side, decode, encode
from bottlenecks.deploy.onnx_form import store_narrowly, to_onnx
from bottlenecks.training.seeds import generator_for
from bottlenecks.units import ChannelUnit, FactorizedPart, TransformUnit
from tests.deploy.units import transform_unit

SHAPES = {"separable": (12, 21, 30), "joint": (32, 4, 4)}


def features_of(unit: TransformUnit, count: int) -> list[torch.Tensor]:
    return [torch.randn(count, *part.feature_shape, generator=generator_for(0)).relu() for part in unit.parts]


def run(graph: bytes, inputs: list[torch.Tensor]) -> list[np.ndarray]:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return session.run(None, {name: one.numpy() for name, one in zip(names, inputs, strict=True)})


@pytest.mark.slow
@pytest.mark.parametrize("any_rate", [False, True], ids=["one rate", "any rate"])
@torch.no_grad()
def test_graphs_of_a_unit_compute_what_it_does(any_rate: bool) -> None:
    structures = [*SHAPES] if any_rate else ["joint"]
    unit = transform_unit([SHAPES[one] for one in structures], structures, any_rate)
    multipliers = [torch.tensor([-20, -3, 0, 1, 9, 28, 0])] if any_rate else []
    few = [one[:2] for one in multipliers]
    features = features_of(unit, 7)
    found = run(to_onnx(Side(unit, encode), [*features_of(unit, 2), *few], "encoder"), [*features, *multipliers])
    symbols = [part.steps(one, *multipliers).int() for part, one in zip(unit.parts, features, strict=True)]
    for part, own, expected in zip(unit.parts, found, symbols, strict=True):
        coded = part.indices(part.own_size, *multipliers).gt(0).expand(expected.shape)
        assert 0 < coded.float().mean() < 1 and not own[~coded.numpy()].any()
        assert own.dtype == np.int32 and len(np.unique(own)) > 5
        assert (own != expected.numpy()).mean() < 1e-3  # the two round differently only on a boundary
    restored = run(
        to_onnx(Side(unit, decode), [*(one[:2] for one in symbols), *few], "decoder"), [*symbols, *multipliers]
    )
    for part, own, one in zip(unit.parts, restored, symbols, strict=True):
        assert np.allclose(own, part.reconstruct(one, part.own_size, *multipliers).numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@torch.no_grad()
def test_graphs_of_the_former_unit_compute_what_it_does() -> None:
    torch.manual_seed(0)
    unit = ChannelUnit([FactorizedPart((12, 8, 8), 6)]).eval()
    features = torch.randn(7, 12, 8, 8).relu()
    unit.start_from((features,))
    unit.finalise()
    (found,) = run(to_onnx(Side(unit, encode), [features[:2]], "encoder"), [features])
    (symbols,) = unit.symbols((features,))
    assert found.dtype == np.int32 and len(np.unique(found)) > 5
    assert (found != symbols).mean() < 1e-3
    latent = torch.as_tensor(symbols)
    (restored,) = run(to_onnx(Side(unit, decode), [latent[:2]], "decoder"), [latent])
    assert np.allclose(restored, unit.parts[0].reconstruct(latent, (8, 8)).numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_an_encoder_holds_little_but_its_weights() -> None:
    unit = transform_unit([SHAPES["separable"]], ["separable"])
    graph = onnx.load_from_string(to_onnx(Side(unit, encode), features_of(unit, 2), "encoder")).graph
    (part,) = unit.parts
    height, width = part.own_size
    held = {tensor.name: tensor for tensor in graph.initializer}
    weight = held["units.0.transform.project.weight.narrow"]
    assert np.array_equal(numpy_helper.to_array(weight), part.transform.project.weight.detach().numpy())
    others = sum(len(tensor.raw_data) for tensor in graph.initializer) - len(weight.raw_data)
    steps, coded = 4 * part.scales.numel(), part.scales.numel()
    cosines, places = 4 * (height**2 + width**2), 8 * (height + width)
    assert others <= steps + coded + cosines + places + 4 * part.rank + 64
    assert not {node.op_type for node in graph.node} & {"Exp", "Neg", "Round", "Div"}  # computed beforehand


def test_only_what_16_bits_hold_is_stored_in_them() -> None:
    rng = np.random.default_rng(0)
    constants = {
        "exact": rng.standard_normal(100).astype(np.float16).astype(np.float32),
        "fine": rng.standard_normal(100).astype(np.float32),
        "large": np.full(100, 1e5, np.float32),
        "few": np.ones(3, np.float32),
        "whole": np.arange(-50, 50),
        "wide": np.arange(2**15, 2**15 + 100),
        "small": np.ones(100, np.int32),
    }
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    outputs = [helper.make_tensor_value_info(f"{t.name}_out", t.data_type, t.dims) for t in tensors]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in constants]
    graph = helper.make_graph(nodes, "constants", [], outputs, tensors)
    store_narrowly(graph)
    narrow = (TensorProto.FLOAT16, TensorProto.INT16)
    assert [t.name for t in graph.initializer if t.data_type in narrow] == ["exact.narrow", "whole.narrow"]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    results = run(model.SerializeToString(), [])
    assert all(map(np.array_equal, results, constants.values()))
