"""Names on the Hugging Face hub, and what goes there and comes from there; its client is imported when one is used."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from bottlenecks.environment import prescribed, spare_loopback
from bottlenecks.errors import UsageError, reason
from bottlenecks.rates.manifest import CARD, CURVE, FIGURE, MANIFEST, PATTERN, is_shared, replaced_by

SCHEME = "hf://"  # before a name that is to be on the hub whatever lies here
NAME = re.compile(r"(?P<owner>\w[\w.-]*)/(?P<name>\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?", re.ASCII)
FILES = (MANIFEST, CARD, CURVE, FIGURE, PATTERN)
GITS_OWN = ".gitattributes"  # which the hub makes


@dataclass(frozen=True)
class HubName:
    """A repository on the hub.

    Attributes:
        repository: `owner/name`.
        revision: a branch, a tag or a commit; None for the newest.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


def hub_name(place: str | Path) -> HubName | None:
    """Tell a name on the hub from a folder.

    `owner/name` and `owner/name@revision` are names on the hub, unless a folder of that name, or one named `owner`, is
    here. `hf://owner/name` always is one. All else is a folder, and so is a `Path`.

    Args:
        place: as a user gave it.

    Returns:
        The name, None for a folder.

    Raises:
        UsageError: something else stands behind `hf://`.
    """
    if isinstance(place, Path):
        return None
    forced = place.startswith(SCHEME)
    found = NAME.fullmatch(place.removeprefix(SCHEME))
    if forced and found is None:
        raise UsageError(f"{place}: no name on the hub; expected {SCHEME}owner/name or {SCHEME}owner/name@revision")
    if found is None or (not forced and (Path(place).exists() or Path(found["owner"]).is_dir())):
        return None
    return HubName(f"{found['owner']}/{found['name']}", found["revision"])


def local_folder(place: str | Path) -> Path:
    """Return the folder of a ladder; one on the hub is fetched, unless it was before.

    Raises:
        UsageError: it cannot be fetched, or is no ladder.
    """
    name = hub_name(place)
    if name is None:
        return Path(place)
    hub = import_hub(str(name))
    with _one_line(f"{name}: no such folder, and the hub does not give it", f"or give a folder, ./{name.repository}"):
        folder = Path(hub.snapshot_download(name.repository, revision=name.revision, allow_patterns=[*FILES]))
    if not is_shared(folder):
        raise UsageError(f"{name}: no ladder, it has no {MANIFEST}; `bottlenecks push` writes one")
    return folder


def upload(folder: Path, name: HubName, title: str, private: bool = False, overwrite: bool = False) -> str:
    """Put a ladder on the hub, in one commit.

    Args:
        folder: of the ladder.
        name: of its repository, which is made where it is not there.
        title: of the commit.
        private: keep the repository from others.
        overwrite: take the place of what the repository holds; its earlier commits stay.

    Returns:
        The commit.

    Raises:
        UsageError: the hub cannot be reached or refuses, or the repository holds something else.
    """
    hub = import_hub(str(name))
    with _one_line(f"{name}: the hub does not take it", f"log in with hf auth login, or give a folder, ./{name}"):
        api = hub.HfApi()
        api.create_repo(name.repository, private=private or None, exist_ok=True)
        there = api.model_info(name.repository)
        if private and not there.private:
            raise UsageError(f"{name}: is there already, and public; leave out --private, or choose another name")
        files = {file.rfilename for file in there.siblings or ()} - {GITS_OWN}
        if files and not overwrite and (lost := _lost(hub, folder, name, there.sha, files)):
            raise UsageError(
                f"{name}: holds {lost}; --overwrite puts this one in its place, the earlier commits stay; or "
                "choose another name"
            )
        commit = api.upload_folder(
            repo_id=name.repository,
            folder_path=folder,
            commit_message=title,
            parent_commit=there.sha,  # what was looked at is what is replaced
            delete_patterns=[*FILES],  # an earlier ladder's, but for those that are uploaded
        )
    return str(commit.oid)


def import_hub(name: str) -> ModuleType:
    """Import the hub's client, which is optional.

    Raises:
        UsageError: it is not installed.
    """
    spare_loopback()
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise UsageError(
            f"{name}: a name on the hub, whose client is not installed; pip install 'bottlenecks[hub]', or give the "
            f"folder as ./{name}"
        ) from None


def _lost(hub: ModuleType, folder: Path, name: HubName, revision: str, files: set[str]) -> str | None:
    """Return what the newest commit would no longer have if a ladder took the place of this one."""
    if MANIFEST not in files:
        return f"{min(files)} already"
    there = hub.snapshot_download(name.repository, revision=revision, allow_patterns=[*FILES])
    return replaced_by(Path(there), folder)


@contextmanager
def _one_line(what: str, way_out: str) -> Iterator[None]:
    """Make one line of whatever goes wrong on the hub."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # of the network, of the hub, of its client: each release has others of its own
        why = f"{type(error).__name__}: {reason(error)}{prescribed()}"
        raise UsageError(f"{what} ({why}); connect to the network, {way_out}") from None
