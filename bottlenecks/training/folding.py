"""BatchNorm taken into the convolution before it: the same function of a frozen network, in fewer passes."""

from __future__ import annotations

import copy
from collections import Counter

from torch import nn
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(module: GraphModule) -> GraphModule:
    """Fold every BatchNorm that alone follows a convolution into that convolution's weights.

    Args:
        module: in eval mode, and never to be trained; it is left as it is.

    Returns:
        A module that gives the same up to rounding, and shares what was not folded.
    """
    folded = GraphModule(module, copy.deepcopy(module.graph))
    calls = Counter(node.target for node in module.graph.nodes if node.op == "call_module")
    for norm in list(folded.graph.nodes):
        if not _is(folded, norm, nn.BatchNorm2d) or not isinstance(norm.args[0], Node):
            continue
        before = norm.args[0]
        alone = len(before.users) == 1 and calls[before.target] == calls[norm.target] == 1
        if not alone or not _is(folded, before, nn.Conv2d):
            continue
        conv, bn = (folded.get_submodule(str(node.target)) for node in (before, norm))
        assert isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d)
        if bn.training or not bn.track_running_stats:
            continue
        _replace(folded, str(before.target), fuse_conv_bn_eval(conv, bn).requires_grad_(False))
        norm.replace_all_uses_with(before)
        folded.graph.erase_node(norm)
    folded.delete_all_unused_submodules()
    folded.recompile()
    return folded


def _is(module: GraphModule, node: Node, kind: type[nn.Module]) -> bool:
    return node.op == "call_module" and type(module.get_submodule(str(node.target))) is kind


def _replace(module: GraphModule, name: str, new: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, new)
