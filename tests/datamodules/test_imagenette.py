"""Imagenette's layouts, its labels, and what happens without a network."""

from pathlib import Path
from urllib.error import URLError

import pytest
from torchvision import datasets

from bottlenecks.errors import UsageError
from datamodules.imagenet import synset_indices
from datamodules.imagenette import INDICES
from datamodules.layout import DatasetNotFoundError

COUNTS = {"train/n01440764": 6, "train/n03888257": 6, "val/n03888257": 3}


def test_indices_are_imagenets():
    pytest.importorskip("timm")
    known = synset_indices()
    assert {synset: known[synset] for synset in INDICES} == INDICES
    assert set(INDICES) == set(datasets.Imagenette._WNID_TO_CLASS)


@pytest.mark.parametrize("place", ["", "imagenette2-320/"])
def test_an_unpacked_copy_needs_no_network(place, tree, load, monkeypatch):
    monkeypatch.setattr(datasets, "Imagenette", None)
    data = load("imagenette", root=str(tree({place + name: count for name, count in COUNTS.items()})))
    data.prepare_data()
    data.setup()
    assert data.images("test").targets.tolist() == [701] * 3
    assert sorted(set(data.images("train").targets.tolist())) == [0, 701]
    assert (data.labels, data.num_classes, data.class_names[701]) == ("imagenet", 1000, "parachute")


def test_what_is_fetched_is_there_whole_or_not_at_all(tree, load, monkeypatch, tmp_path):
    def download(root: str, size: str, download: bool) -> None:
        unpacked = Path(root).relative_to(tmp_path) / "imagenette2-160"
        tree({str(unpacked / name): count for name, count in COUNTS.items()})

    monkeypatch.setattr(datasets, "Imagenette", download)
    data = load("imagenette", root=str(tmp_path / "new"), size="160px")
    data.setup("test")
    assert len(data.images("test")) == 3
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["imagenette2-160"]


@pytest.mark.parametrize("failure", [URLError("no route to host"), RuntimeError("File not found or corrupted.")])
def test_no_network_is_one_plain_error(failure, load, monkeypatch, tmp_path):
    def download(root: str, size: str, download: bool) -> None:
        raise failure

    monkeypatch.setattr(datasets, "Imagenette", download)
    with pytest.raises(
        DatasetNotFoundError, match=r"Imagenette is not there and could not be fetched \(.*data=dig"
    ) as error:
        load("imagenette", root=str(tmp_path / "new")).setup()
    assert str(error.value).startswith(f"data.root={tmp_path / 'new'}: ")
    assert not (tmp_path / "new").exists()


def test_unknown_sizes_and_classes_are_refused(tree, load):
    with pytest.raises(Exception, match=r"data\.size=64px: there are full, 320px, 160px"):
        load("imagenette", size="64px")
    data = load("imagenette", root=str(tree({"train/n01440764": 2, "train/n01443537": 2, "val/n01440764": 1})))
    with pytest.raises(UsageError, match="are not classes of Imagenette: n01443537"):
        data.setup()
