"""The hub, as far as it can be had without a network: a stand-in that takes what the client takes, and none at all."""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import bottlenecks as bn
from bottlenecks.push import main as push
from bottlenecks.rates.manifest import read_manifest
from bottlenecks.run import main as run_images
from bottlenecks.sharing.hub import HubName, hub_name
from tests.conftest import REPOSITORY

hub = pytest.importorskip("huggingface_hub")
DIGITS = "checkpoints/tiny/body/digits"


class Hub:
    """Repositories in a folder, every commit of each kept; calls are held against the client's own signatures.

    Args:
        folder: of the repositories.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.public: dict[str, bool] = {}

    def commits(self, name: str) -> list[Path]:
        return sorted((self.folder / name).iterdir())

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> None:
        assert exist_ok
        self.public.setdefault(repo_id, not private)
        if not (self.folder / repo_id).exists():
            (self.folder / repo_id / "0").mkdir(parents=True)
            (self.folder / repo_id / "0" / ".gitattributes").touch()

    def model_info(self, repo_id: str) -> SimpleNamespace:
        newest = self.commits(repo_id)[-1]
        siblings = [SimpleNamespace(rfilename=path.name) for path in newest.iterdir()]
        return SimpleNamespace(private=not self.public[repo_id], sha=newest.name, siblings=siblings)

    def upload_folder(self, **given: Any) -> SimpleNamespace:
        old = self.commits(given["repo_id"])[-1]
        assert old.name == given["parent_commit"] and given["commit_message"] == "Units for tiny at body"
        new = old.with_name(str(int(old.name) + 1))
        left = [path for path in old.iterdir() if not any(fnmatch(path.name, one) for one in given["delete_patterns"])]
        shutil.copytree(given["folder_path"], new)
        for path in left:
            shutil.copy(path, new)
        return SimpleNamespace(oid=new.name)

    def snapshot_download(self, repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        if not (self.folder / repo_id).exists():
            raise RuntimeError("404 Client Error.\nRepository Not Found")
        commit = self.commits(repo_id)[-1] if revision is None else self.folder / repo_id / revision
        got = self.folder / "cache" / repo_id / commit.name
        got.mkdir(parents=True, exist_ok=True)
        for path in commit.iterdir():
            if any(fnmatch(path.name, one) for one in allow_patterns):
                shutil.copy(path, got)
        return str(got)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub that stands in for the real one."""
    own = Hub(tmp_path / "hub")

    def held(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            inspect.signature(real).bind(
                *([None] if "self" in inspect.signature(real).parameters else []), *given, **named
            )
            return getattr(own, name)(*given, **named)

        return call

    methods = ("create_repo", "model_info", "upload_folder")
    api = SimpleNamespace(**{name: held(name, getattr(hub.HfApi, name)) for name in methods})
    monkeypatch.setattr(hub, "snapshot_download", held("snapshot_download", hub.snapshot_download))
    monkeypatch.setattr(hub, "HfApi", lambda: api)
    monkeypatch.chdir(tmp_path)
    return own


def test_a_ladder_goes_to_the_hub_and_comes_back(
    there: Hub, trained: Path, owned: bn.CutNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    push([str(trained / DIGITS), "someone/tiny", "--license", "apache-2.0"])
    assert "bottlenecks.load('someone/tiny@1', network=network) loads this very commit" in capsys.readouterr().out
    assert there.public == {"someone/tiny": True}
    net = bn.load("someone/tiny", network=owned)
    assert [*net.ladder] == [0.003, 0.03]
    assert 'bn.load("someone/tiny", network=network)' in (there.commits("someone/tiny")[1] / "README.md").read_text()
    push([str(trained / DIGITS), "someone/tiny", "--license", "apache-2.0"])  # the same once more
    (there.commits("someone/tiny")[2] / "lambda=0.03.safetensors").write_bytes(b"other")
    with pytest.raises(bn.UsageError, match=r"lambda=0\.03\.safetensors: not what was pushed"):
        run_images(["someone/tiny", str(REPOSITORY / "docs/seven.png")])
    assert bn.load("someone/tiny@1", network=owned).ladder


def test_another_ladder_is_replaced_only_where_that_is_said(there: Hub, trained: Path, tmp_path: Path) -> None:
    push([str(trained / DIGITS), "someone/tiny", "--private"])
    assert there.public == {"someone/tiny": False}
    coarse = tmp_path / "coarse"
    coarse.mkdir()
    shutil.copy(trained / DIGITS / "lambda=0.003.safetensors", coarse)
    with pytest.raises(bn.UsageError, match="someone/tiny: holds another ladder already; --overwrite puts this one in"):
        push([str(coarse), "someone/tiny"])
    push([str(coarse), "hf://someone/tiny", "--overwrite"])
    newest = there.commits("someone/tiny")[-1]
    names = {path.name for path in newest.iterdir()}
    assert names == {".gitattributes", "README.md", "ladder.json", "lambda=0.003.safetensors"}
    assert read_manifest(newest).keys() == names - {".gitattributes", "ladder.json"}


def test_a_card_that_was_changed_there_is_left_alone(there: Hub, trained: Path) -> None:
    push([str(trained / DIGITS), "someone/tiny"])
    (there.commits("someone/tiny")[-1] / "README.md").write_text("mine")
    with pytest.raises(bn.UsageError, match=r"holds a ladder that was changed since .*\(README\.md\); --overwrite"):
        push([str(trained / DIGITS), "someone/tiny"])
    assert len(there.commits("someone/tiny")) == 2


def test_what_is_public_or_holds_something_else_is_left_alone(there: Hub, trained: Path) -> None:
    there.create_repo("someone/else", private=False, exist_ok=True)
    (there.commits("someone/else")[0] / "model.safetensors").touch()
    with pytest.raises(bn.UsageError, match="someone/else: is there already, and public; leave out --private"):
        push([str(trained / DIGITS), "someone/else", "--private"])
    with pytest.raises(bn.UsageError, match=r"someone/else: holds model.safetensors already; --overwrite"):
        push([str(trained / DIGITS), "someone/else"])
    assert len(there.commits("someone/else")) == 1


def test_a_repository_that_is_no_ladder_is_refused(there: Hub) -> None:
    there.create_repo("someone/else", private=False, exist_ok=True)
    (there.commits("someone/else")[0] / "lambda=0.1.safetensors").touch()
    with pytest.raises(bn.UsageError, match=r"someone/else: no ladder, it has no ladder\.json"):
        bn.load("someone/else")
    with pytest.raises(bn.UsageError, match=r"nobody/nothing: .* the hub does not give it \(RuntimeError: 404"):
        bn.load("nobody/nothing")


@pytest.mark.parametrize("place", ["", "@main"])
def test_without_a_network_it_is_one_line(
    place: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        bn.UsageError, match=r"someone/tiny.*: no such folder, and the hub does not give it \("
    ) as caught:
        bn.load(f"someone/tiny{place}")
    assert "\n" not in str(caught.value) and "connect to the network, or give a folder" in str(caught.value)
    if not place:
        with pytest.raises(bn.UsageError, match=r"someone/tiny: the hub does not take it \(OfflineModeIsEnabled"):
            push([str(trained / DIGITS), "someone/tiny"])


def test_without_its_client_the_extra_is_named(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pushed: Path, owned: bn.CutNetwork
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    message = r"someone/tiny: .* not installed; pip install 'bottlenecks\[hub\]', or give the folder as ./someone/tiny"
    with pytest.raises(bn.UsageError, match=message):
        bn.load("someone/tiny")
    with pytest.raises(bn.UsageError, match=message):
        push([str(trained / DIGITS), "someone/tiny"])
    assert bn.load(pushed, network=owned).ladder  # a folder needs none


def test_what_is_a_folder_and_what_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rates").mkdir()
    folders = ["rates", "rates/tiny", "./owner/name", "owner/name/", "/owner/name", "a/b/c", "name", "../a", "~/a", ""]
    assert [place for place in folders if hub_name(place)] == []
    assert hub_name(Path("owner/name")) is None
    assert hub_name("owner/name") == HubName("owner/name") == hub_name("hf://owner/name")
    assert hub_name("hf://rates/tiny") == HubName("rates/tiny")
    assert hub_name("some-one.2/n_a.m-e@v1/x") == HubName("some-one.2/n_a.m-e", "v1/x")
    with pytest.raises(bn.UsageError, match="hf://name: no name on the hub"):
        hub_name("hf://name")
    with pytest.raises(bn.UsageError, match="owner/name@v1: a revision is made by pushing; give owner/name alone"):
        push(["rates", "owner/name@v1"])
