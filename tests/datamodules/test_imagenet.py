"""Folders of synsets get ImageNet's indices, in both layouts and in part."""

import subprocess
import sys
from pathlib import Path

import pytest

from bottlenecks.errors import UsageError
from datamodules.imagenet import synset_indices

SHARED = Path(__file__).parents[3] / "shared" / "data"
TENCH, CHURCH, TISSUE = "n01440764", "n03028079", "n15075141"


def test_some_synsets_in_one_folder(tree, load):
    pytest.importorskip("timm")
    data = load("imagenet", root=str(tree({TISSUE: 10, TENCH: 10, CHURCH: 10})))
    data.setup()
    assert [len(data.images(split)) for split in ("train", "val", "test")] == [16, 2, 12]
    indices = {TENCH: 0, CHURCH: 497, TISSUE: 999}
    for split in ("train", "val", "test"):
        images = data.images(split)
        assert images.targets.tolist() == [indices[name.split("/")[0]] for name in images.names]
    assert (data.labels, data.num_classes) == ("imagenet", 1000)
    assert [data.class_names[index] for index in indices.values()] == ["tench", "church", "toilet tissue"]


def test_the_usual_folders_evaluate_on_val(tree, load):
    pytest.importorskip("timm")
    folder = tree({f"train/{TENCH}": 10, f"train/{CHURCH}": 10, f"val/{CHURCH}": 2})
    (folder / "test").mkdir()  # ILSVRC's has no labels
    data = load("imagenet", root=str(folder))
    with pytest.warns(UserWarning, match="evaluated on val/; test/ is not used"):
        assert data.images("test").targets.tolist() == [497, 497]
    assert len(data.images("val")) == 2


def test_the_list_is_imagenets():
    pytest.importorskip("timm")
    indices = synset_indices()
    assert len(indices) == 1000
    assert list(indices) == sorted(indices)


def test_other_folders_are_named(tree, load):
    pytest.importorskip("timm")
    data = load("imagenet", root=str(tree({TENCH: 2, "cat": 1, "dog": 1})))
    with pytest.raises(
        UsageError, match=r"data\.root=.*2 folders in .* are not ImageNet synsets: cat, dog; .*data=image"
    ):
        data.setup()


def test_without_timm_a_plain_error(tree, load, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.data", None)
    with pytest.raises(UsageError, match=r"data=imagenet: .* comes with timm; pip install bottlenecks\[timm\]"):
        load("imagenet", root=str(tree({TENCH: 2}))).setup()


@pytest.mark.skipif(not (SHARED / "imagenet-sample.tar").exists(), reason="needs ../shared/data")
def test_the_sample_of_500_real_images(load, tmp_path):
    pytest.importorskip("timm")
    subprocess.run([SHARED / "unpack", tmp_path, "imagenet-sample"], check=True, capture_output=True)
    data = load("imagenet", root=str(tmp_path / "imagenet-sample"))
    data.setup()
    assert [len(data.images(split)) for split in ("train", "val", "test")] == [260, 40, 200]
    assert len(set().union(*(data.images(split).targets.tolist() for split in ("train", "val", "test")))) == 500
