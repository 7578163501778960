"""One command for all: bottlenecks train model=resnet50 split=layer3 lambda=0.01."""

from __future__ import annotations

import sys
from runpy import run_module

from bottlenecks import __version__
from bottlenecks.errors import UsageError, closest, run

COMMANDS = {
    "train": ("bottlenecks.commands.train", "train units at a split point, or the network itself"),
    "evaluate": ("bottlenecks.commands.evaluate", "measure units and other codecs on real bytes"),
    "export": ("bottlenecks.commands.export", "write what a device and a server run"),
    "split": ("bottlenecks.split", "list where a network can be cut"),
    "run": ("bottlenecks.run", "images to bytes to predictions, without a server"),
    "push": ("bottlenecks.push", "share trained units, on the Hugging Face hub or in a folder"),
    "serve": ("bottlenecks.deploy.server", "answer what devices send"),
    "send": ("bottlenecks.deploy.client", "send images to a server, as a device"),
    "compare": ("bottlenecks.evaluation.compare", "put curves of several evaluations together"),
}  # name -> module, which `python -m` runs as well, and what it does


def usage() -> str:
    """Return what `--help` prints."""
    lines = [f"  {name:<9} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: bottlenecks COMMAND …", "", *lines, "", "bottlenecks COMMAND --help says what it takes."])


def main() -> None:
    """Run the command that the first argument names, with the others as its arguments."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
    elif name in ("-V", "--version"):
        print(__version__)
    elif name not in COMMANDS:
        run(lambda: _refuse(name))
    else:
        sys.argv = [name, *rest]
        run_module(COMMANDS[name][0], run_name="__main__", alter_sys=True)


def _refuse(name: str) -> None:
    raise UsageError(f"{name}: no such command; there are {', '.join(COMMANDS)}; closest: {closest(name, [*COMMANDS])}")


if __name__ == "__main__":
    main()
