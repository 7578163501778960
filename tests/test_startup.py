"""What the configuration alone can tell is told before torch is imported."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from bottlenecks.console.cli import CONFIGS
from bottlenecks.settings.data import kind_of
from tests.conftest import REPOSITORY

# Runs many command lines in one process: what the first of them imported, none of the later ones takes back.
PROGRAM = """
import contextlib, io, json, runpy, sys, traceback
sys.path.insert(0, sys.argv.pop(1))
for line in json.loads(sys.stdin.read()):
    out, program, status = io.StringIO(), line[0], 0
    sys.argv = line
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            if program.endswith(".py"):
                runpy.run_path(program, run_name="__main__")
            else:
                runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        status = stop.code or 0
    except Exception:
        status = 1
        out.write(traceback.format_exc())
    heavy = [name for name in ("torch", "compressai", "matplotlib") if name in sys.modules]
    print(json.dumps([status, out.getvalue(), heavy]), flush=True)
"""

HELPS = [
    [program, "--help"]
    for program in (
        "train.py",
        "evaluate.py",
        "export.py",
        "bottlenecks.split",
        "bottlenecks.run",
        "bottlenecks.push",
        "bottlenecks.evaluation.compare",
        "bottlenecks.deploy.client",
        "bottlenecks.deploy.server",
        "benchmarks.deploy",
    )
]
REFUSED = {
    "train.py": [
        ("model=resnet51", "model=resnet51: no such model"),
        ("colour=red", "colour: no such setting here"),
        ("model=custom model.name=mine split=x", "model.factory._target_: missing"),
        ("model=custom model.name=m model.factory._target_=no_module.Net split=x", "there is no module no_module"),
        ("model.task=naming", "model.task=naming: no such task; there are classification"),
        ("model.weights=/nowhere/w.pt", "model.weights=/nowhere/w.pt: no such file"),
        ("split=a/b", "split=a/b: expected a name"),
        ("task=detection model=resnet50", "task=detection: model=resnet50 is for classification"),
        ("data=voc data.root=.", "data=voc: its labels are for segmentation, model=resnet50 is for classification"),
        ("lambda=nan", "lambda=nan: expected a number above 0"),
        ("unit.range=true", "unit.range=true takes both ends of its range"),
        ("target.loss=1 lambda=0.1", "lambda=0.1 would be found"),
        ("unit.architecture=spicy", "unit.architecture=spicy: no such unit; there are spic"),
        ("unit=factorized unit.kernel_size=2", "unit.kernel_size=2: expected an odd number"),
        ("unit=factorized +unit.colour=red", "unit: factorized was given"),
        ("loss.kd=0", "loss: every weight is 0"),
        ("training.cache_precision=8", "training.cache_precision=8: expected 32"),
        ("trainer.devices=foo", "trainer.devices=foo: expected auto, how many (-1 for all), or their numbers"),
        ("trainer.devices=-2", "trainer.devices=-2: expected auto"),
        ("data=pictures data.root=/a${b}", "data.root: Interpolation key 'b' not found"),
        ("trainer.precision=8", "trainer.precision=8: rates are counted in 32 bits"),
        ("trainer.accelerator=gppu", "trainer.accelerator=gppu: expected one of auto, cpu, gpu"),
        ("logger=wandb logger.mode=sometimes", "logger.mode=sometimes: expected one of auto, online"),
        ("stage=backbone backbone.lr=fast", "backbone.lr=fast: expected a number"),
        ("stage=backbone data=pictures data.root=.", "data=pictures has no labels to train on"),
        ("data.held_back=1.5", "data.held_back=1.5: must be a number of images or a share"),
        ("data.preprocessing.std=[1,1]", "preprocessing.std=[1, 1]: must be three numbers"),
        ("data.root=/a=b", "data.root=/a=b: cannot be read ("),
        ("data=pictures data.root=[x]", "data.root=['x']: expected a folder; quote its name, as"),
        ("data=image_folder data.root=/nowhere", "data.root=/nowhere: no such folder"),
    ],
    "evaluate.py": [
        ("model=resnet51", "model=resnet51: no such model"),
        ("codecs=[jpg]", "codecs=jpg: no baseline (jpeg"),
        ("anchor=jpeg", "anchor=jpeg: not among the codecs that are evaluated, unit"),
        ("framing=wire", "framing=wire: expected frame or session"),
        (
            "framing=session codecs=[jpeg]",
            "framing=session: units are sent in sessions, of codecs=['jpeg'] none is one",
        ),
        ("device=cdua", "device=cdua: expected one of auto, cpu, cuda"),
        ("split=[layer3,layer3]", "split=['layer3', 'layer3']: expected one or several split points, each once"),
        ("paths.checkpoints=/nowhere", "no rate checkpoints (lambda=*.safetensors); train some with train.py"),
    ],
    "export.py": [
        ("paths.checkpoints=/nowhere", "no rate checkpoints (lambda=*.safetensors); train some with train.py"),
    ],
    "bottlenecks.split": [
        ("model=resnet51", "model=resnet51: no such model"),
        ("image_size=0", "image_size=0: expected a whole number of at least 1"),
    ],
    "bottlenecks.run": [
        ("/nowhere docs/seven.png", "/nowhere: no rate checkpoints"),
        ("/nowhere a.png b/a.png --out kept", "--out=kept: some images have the same name"),
    ],
    "bottlenecks.push": [
        ("/nowhere owner/name", "/nowhere: no rate checkpoints"),
        ("/nowhere owner/name@v1", "owner/name@v1: a revision is made by pushing; give owner/name alone"),
        ("/nowhere ./there --private", "--private: ./there is a folder"),
        ("/nowhere ./there --license MIT!", "--license=MIT!: expected an identifier"),
    ],
    "bottlenecks.evaluation.compare": [("/nowhere.json", "/nowhere.json: no readable curve")],
    "bottlenecks.deploy.client": [
        ("/nowhere docs/seven.png", "/nowhere/manifest.json: no such file"),
    ],
    "bottlenecks.deploy.server": [
        ("/nowhere", "/nowhere/manifest.json: no such file"),
        ("/nowhere --port 70000", "--port=70000: expected a whole number from 0 to 65535"),
    ],
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, int, str, list[str]]]:
    """For each command line what it should say, its status, what it said, and what was imported by then."""
    folder = tmp_path_factory.mktemp("startup")
    quiet = ["logger=none", f"hydra.run.dir={folder}"]
    lines, expected = [*HELPS], [""] * len(HELPS)
    for program, refused in REFUSED.items():
        for arguments, message in refused:
            more = quiet if program.endswith(".py") else []
            more = [one for one in more if one.partition("=")[0] not in arguments]
            lines.append([program, *more, *arguments.split()])
            expected.append(message)
    lines = [[str(REPOSITORY / line[0]) if line[0].endswith(".py") else line[0], *line[1:]] for line in lines]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(REPOSITORY)],
        input=json.dumps(lines),
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    titles = [" ".join([Path(line[0]).name, *line[1:]]) for line in lines]
    return [(title, message, *answer) for title, message, answer in zip(titles, expected, said, strict=True)]


def test_help_is_given_before_torch_is_imported(answers: list[tuple[str, str, int, str, list[str]]]) -> None:
    for title, _, status, text, heavy in answers[: len(HELPS)]:
        assert (status, heavy) == (0, []), title
        assert len(text) > 200, title


def test_what_the_configuration_tells_is_refused_before_torch_is_imported(
    answers: list[tuple[str, str, int, str, list[str]]],
) -> None:
    for title, message, status, text, heavy in answers[len(HELPS) :]:
        assert message in text, f"{title}: {text}"
        assert status == 2 and text.startswith("error: ") and text.count("\n") == 1, f"{title}: {text}"
        assert not heavy, f"{title}: {heavy}"


@pytest.mark.parametrize("path", sorted((CONFIGS / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_is_known_of_a_dataset_is_what_its_class_says(path: Path) -> None:
    settings = OmegaConf.merge(OmegaConf.load(path), {"seed": 0})
    dataset = instantiate(settings)
    assert kind_of(OmegaConf.to_container(settings)) == (dataset.task, dataset.labels)


@pytest.mark.parametrize("package", ["bottlenecks.units", "bottlenecks.tasks", "bottlenecks.split"])
def test_a_name_that_a_package_does_not_have_is_no_attribute(package: str) -> None:
    with pytest.raises(AttributeError, match=r"module bottlenecks.* has no attribute Colour"):
        importlib.import_module(package).Colour  # noqa: B018
