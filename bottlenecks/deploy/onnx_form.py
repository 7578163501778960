"""A module of tensors as an ONNX graph: small, without traces of where it was made, and the same each time."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript import ir, optimizer
from torch import Tensor, nn
from torch.fx import GraphModule

from bottlenecks.errors import UsageError

OPSET = 18
LAYING_OUT = ("Gather", "GatherND", "Expand", "Tile")  # what makes large constants of small ones
FEW = 64  # elements of a constant, such as a shape, whose size does not matter
NARROW = {TensorProto.FLOAT: np.float16, TensorProto.INT64: np.int16}


@torch.no_grad()
def to_onnx(module: nn.Module, example: Sequence[Tensor], name: str) -> bytes:
    """Write a module of tensors as ONNX, any number of rows at once; the same module gives the same bytes.

    What follows from the weights alone is computed now, but where a runtime can lay it out itself as it loads.
    What 16 bits hold exactly is stored in them.

    Args:
        module: takes tensors, gives tensors.
        example: of what it takes.
        name: of the file, for the message.

    Raises:
        UsageError: the exporter cannot.
    """
    for talkative in ("onnxscript", "onnx_ir"):  # each pass of theirs is a line
        logging.getLogger(talkative).setLevel(logging.WARNING)
    rows = tuple({0: torch.export.Dim("N")} for _ in example)  # a module of *tensors has one argument for all
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*shares the same shape constraints", UserWarning)  # N is N for all
            program = torch.onnx.export(
                module.eval(),
                tuple(example),
                dynamo=True,
                dynamic_shapes=(rows if isinstance(module, GraphModule) else (rows,)),
                opset_version=OPSET,
                verbose=False,
                optimize=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise UsageError(f"{name}: torch cannot write this part of the network as ONNX ({error})") from None
    assert program is not None
    optimizer.optimize_ir(program.model, should_fold=_should_fold)
    proto = program.model_proto
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        part.ClearField("metadata_props")  # where the exporter notes this machine's paths
        part.ClearField("doc_string")
    proto.ClearField("metadata_props")
    store_narrowly(proto.graph)
    return proto.SerializeToString(deterministic=True)


def store_narrowly(graph: onnx.GraphProto) -> None:
    """Store the constants of a graph in 16 bits where that loses nothing; runtimes widen them as they load."""
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type not in NARROW or values.size < FEW:
            continue
        with np.errstate(over="ignore"):
            narrow = values.astype(NARROW[tensor.data_type])
        if np.array_equal(narrow.astype(values.dtype), values):
            wide, data_type = tensor.name, tensor.data_type
            tensor.CopyFrom(numpy_helper.from_array(narrow, f"{wide}.narrow"))
            casts.append(helper.make_node("Cast", [tensor.name], [wide], to=data_type))
    nodes = [*casts, *graph.node]
    graph.ClearField("node")
    graph.node.extend(nodes)


def _should_fold(node: ir.Node) -> bool | None:
    """Return whether a node of constants becomes a constant; None for as usual."""
    constant = node.inputs[0].const_value if node.inputs and node.inputs[0] is not None else None
    return False if node.op_type in LAYING_OUT and constant is not None and constant.size > FEW else None
