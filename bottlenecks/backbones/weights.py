"""Weights and the network that they are for: names, shapes, and what fits."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from torch import Tensor, nn

from bottlenecks.errors import UsageError

PREFIXES = ("module.", "_orig_mod.", "model.")
AUXILIARY = "aux_classifier."  # a second output of torchvision's segmentation networks, for training alone


def load_exactly(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict that must fit.

    Names become the network's, as `own_names` says, and tensors of another precision are converted.

    Args:
        network: receives the weights.
        state: tensors by name.
        source: what the state came from, for the message.

    Raises:
        UsageError: names are missing or surplus, or shapes differ; the message lists them.
    """
    expected = network.state_dict()
    state = own_names(network, state)
    shapes = [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    # Counters of BatchNorm came with torch 0.4.1; files from before lack them and lose nothing.
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    surplus = [name for name in state if name not in expected]
    complaints = [
        f"{label}: {_shorten(names)}"
        for label, names in (("missing", missing), ("surplus", surplus), ("of another shape", shapes))
        if names
    ]
    if complaints:
        raise UsageError(f"{source} does not fit the network; {'; '.join(complaints)}")
    network.load_state_dict(state, strict=False)


def own_names(network: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Name tensors as a network does.

    Prefixes that wrappers leave on every name (`module.` of DataParallel, …) are taken off; a network that knows other
    names for its tensors, such as a detector, translates them itself (`network.own_names`); an auxiliary classifier
    that the network does without is left out.

    Args:
        network: whose names are wanted.
        state: tensors by name.
    """
    expected = network.state_dict()
    state = _strip_prefixes(state, expected)
    translate = getattr(network, "own_names", None)
    state = translate(state) if translate else state
    return {name: state[name] for name in state if name in expected or not name.startswith(AUXILIARY)}


def without(modules: Sequence[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the tensors of some modules.

    Args:
        modules: their names.
        state: tensors by name.
    """
    prefixes = tuple(f"{module}." for module in modules)
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}


def fitting(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Choose the tensors that a network can begin its training from, under its own names.

    Where the state is that of another network which is a part of this one, such as a classification network under a
    detector, its names get that part's path in front.

    Args:
        network: whose names and shapes decide.
        state: tensors by name.

    Returns:
        Those that have the name and the shape of one of the network's; empty where none has.
    """
    expected, state = network.state_dict(), own_names(network, state)
    first = next(iter(state), "")
    paths = ["", *(name.removesuffix(first) for name in expected if name.endswith(f".{first}"))]
    choices = [
        {path + name: tensor for name, tensor in state.items() if _fits(tensor, expected.get(path + name))}
        for path in paths
    ]
    return max(choices, key=len)


def _strip_prefixes(state: Mapping[str, Tensor], expected: Container[str]) -> Mapping[str, Tensor]:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) and name not in expected for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _fits(tensor: Tensor, expected: Tensor | None) -> bool:
    return expected is not None and tensor.shape == expected.shape


def _shorten(names: list[str], most: int = 6) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
