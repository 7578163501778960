"""ImageNet-1k or any part of it, in the usual folders."""

from collections.abc import Mapping
from functools import cached_property

from bottlenecks.backbones.pretrained import imagenet_classes
from bottlenecks.errors import UsageError

from .base import ImageDataModule
from .folders import labelled_parts
from .layout import existing_folder
from .source import Images


def synset_indices() -> Mapping[str, int]:
    """Return synset, such as `n01440764` -> index of the class, from timm's list.

    Raises:
        UsageError: timm is not installed.
    """
    try:
        from timm.data import ImageNetInfo
    except ImportError as error:
        raise UsageError(
            "data=imagenet: ImageNet's list of classes comes with timm; pip install bottlenecks[timm]"
        ) from error
    return {synset: index for index, synset in enumerate(ImageNetInfo().label_names())}


class ImageNet(ImageDataModule):
    """Images with ImageNet's labels; folders of some of the 1,000 classes are enough.

    `root` holds `{train,val}/<synset>/*`, evaluated on `val/`, or `<synset>/*`, with `test_part` evaluated on.
    """

    labels = "imagenet"

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """ImageNet's 1,000 names, however many classes are there."""
        return imagenet_classes()

    def _sources(self) -> tuple[Images, Images | None]:
        root = existing_folder(self.root, "{train,val}/<synset>/* or <synset>/*")
        return labelled_parts(root, synset_indices(), "ImageNet synsets", parts=["val"])
