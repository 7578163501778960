"""README.md and docs/: their commands compose, parse and run, their Python runs, and so do the examples."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import sys
from collections import OrderedDict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bottlenecks as bn
from bottlenecks.__main__ import COMMANDS, main
from bottlenecks.baselines import BASELINES
from bottlenecks.settings import commands as settings
from bottlenecks.settings.composed import composed
from bottlenecks.units import UNITS
from tests.conftest import REPOSITORY, configure
from tests.networks import block

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
INDENTED = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
INLINE = re.compile(r"(?<!`)`((?:python|bottlenecks) [^`]+)`(?!`)")
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
CHECKS = {
    "train": settings.read_training,
    "evaluate": settings.read_evaluation,
    "export": settings.read_export,
    "split": settings.check_listing,
}  # what each command of Hydra refuses before it begins
SCRIPTS = {f"{name}.py": name for name in CHECKS} | {module: name for name, (module, _) in COMMANDS.items()}
NOT_HERE = (
    r"no rate checkpoints|no such folder|no such file|there is no module package"  # files and names of a reader's
)


def commands() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Give every command of the documentation: its page, its name and its arguments, without the `…` among them."""
    for page in PAGES:
        text = page.read_text()
        lines = [line for shown in INDENTED.findall(text) for line in lines_of(shown)]
        for words in [*lines, *map(words_of, INLINE.findall(text))]:
            yield from ((page.name, *found) for found in command_of(words))


def lines_of(shown: str) -> Iterator[list[str]]:
    """Give the lines of a block as a shell reads them: continued lines as one, variables as what they stand for."""
    variables: dict[str, str] = {}
    for line in shown.replace("\\\n", "").splitlines():
        words = words_of(re.sub(r"\$([A-Z])\b", lambda name: variables.get(name[1], name[0]), line))
        if len(words) == 1 and re.match(r"[A-Z]=", words[0]):
            variables[words[0][0]] = words[0][2:]
        yield words


def words_of(line: str) -> list[str]:
    """Divide a line as a shell does; what is no line for one is empty."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []


def command_of(words: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give the command that a line runs, through whatever launcher, and its arguments; nothing where it is not ours."""
    for at, word in enumerate(words):
        after = words[at + 1 :]
        name = after.pop(0) if word == "bottlenecks" and after else SCRIPTS.get(word)
        if name in COMMANDS:
            yield name, tuple(one.rstrip("…") for one in after if not re.search(r"(^|[=\[])…", one))
            return


ALL = [*commands()]
EACH = sorted({(name, arguments) for _, name, arguments in ALL})


def titled(value: object) -> str | None:
    return " ".join(value) if isinstance(value, tuple) else None


def test_every_command_is_shown() -> None:
    assert {name for _, name, _ in ALL} == set(COMMANDS)
    assert {page for page, _, _ in ALL} >= {"README.md", "index.md", "training.md", "evaluation.md", "dense.md"}
    assert len(EACH) > 70


def single_runs(arguments: tuple[str, ...]) -> Iterator[list[str]]:
    """Give the overrides of each run: several where `-m` sweeps."""
    given = [one for one in arguments if not one.startswith(("-", "hydra/"))]  # launchers have packages of their own
    overrides = OverridesParser.create().parse_overrides(given)
    sweeps = [one for one in overrides if one.is_sweep_override()]
    assert "-m" in arguments or not sweeps
    fixed = [str(one.input_line) for one in overrides if one not in sweeps]
    choices = [[f"{one.get_key_element()}={value}" for value in one.sweep_string_iterator()] for one in sweeps]
    yield from ([*fixed, *chosen] for chosen in itertools.product(*choices))


def test_commands_compose_and_lack_nothing_but_what_a_reader_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {one.removeprefix("unit.name=") for _, arguments in EACH for one in arguments if "unit.name=" in one}
    codecs, refused = {"unit", *UNITS, *BASELINES, *given}, {}
    for name, run in [(name, run) for name, arguments in EACH if name in CHECKS for run in single_runs(arguments)]:
        try:
            cfg = configure(name, tmp_path, *run) if name != "split" else composed(name, run)
            assert {*cfg.get("codecs", ())} <= codecs, run
            CHECKS[name](cfg)
        except (bn.UsageError, HydraException) as error:
            refused[" ".join([name, *run])] = str(error)
    assert {line: why for line, why in refused.items() if not re.search(NOT_HERE, why)} == {}


@pytest.mark.parametrize(("name", "arguments"), [one for one in EACH if one[0] not in CHECKS and one[1]], ids=titled)
def test_a_command_parses(name: str, arguments: tuple[str, ...]) -> None:
    import_module(COMMANDS[name][0]).parse(arguments)


@pytest.mark.slow
def test_the_listing_of_split_points_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ("split", ("model=resnet50",)) in EACH
    monkeypatch.setattr(sys, "argv", ["bottlenecks", "split", "model=resnet50"])
    monkeypatch.delitem(sys.modules, "bottlenecks.split", raising=False)  # another test's, which runpy warns of
    main()
    assert "layer3" in capsys.readouterr().out


def test_figures_of_the_first_screen_are_those_of_the_results() -> None:
    results = (REPOSITORY / "docs/results.md").read_text()
    rows = re.findall(
        r"^\|[^|]+bytes [^|]+\| ([\d.,]+) \| ([\d.,]+) ", (REPOSITORY / "README.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 5
    assert [figure for figure in itertools.chain(*rows) if not re.search(rf"[| ]{figure}[ ,]", results)] == []


@pytest.mark.usefixtures("brief_fits")
@pytest.mark.parametrize("page", ["README.md", pytest.param("docs/python.md", marks=pytest.mark.slow)])
def test_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = nn.Sequential(block(3, 4), block(4, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    model = nn.Sequential(OrderedDict(layer3=model[0], rest=model[1:]))
    images, labels = torch.randn(40, 3, 16, 16), torch.arange(40) % 10
    loader = DataLoader(TensorDataset(images, labels), batch_size=16)
    names = {"model": model, "images": images[:8], "train_loader": loader, "test_loader": loader}
    (code,) = FENCED.findall((REPOSITORY / page).read_text())
    exec(code, names)
    assert names["curve"].codecs == ["unit", "lightweight"]  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.usefixtures("brief_fits")
def test_the_notebook_runs_and_keeps_no_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads((REPOSITORY / "examples/notebook.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    names: dict[str, object] = {}
    for cell in code:
        exec("".join(cell["source"]), names)
    assert capsys.readouterr().out.count("bytes an image") == 2
    names["curve"].plot().savefig(tmp_path / "curve.png")  # type: ignore[attr-defined]
