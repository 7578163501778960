"""Your own images with a mask each: class numbers, or colours of a list."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bottlenecks.errors import UsageError

from .annotations import Annotations
from .mask_files import Colour, ColourMaskFiles, MaskFiles, number_of
from .pairs import PairedFolders, Pairs

MOST_CLASSES = 2**16
LOOKED_AT = 50  # masks to train on


class MaskFolder(PairedFolders):
    """Images in `images/` with a mask of the same name each in `masks/`.

    `root` holds `{train,val}/{images,masks}`, or both folders themselves.

    Args:
        classes: names in the order of the class numbers; or name -> [red, green, blue], for masks of these colours;
            None takes the numbers from 0 to the largest in the masks to train on.
        void: the number, or the colour, of pixels without a class; None where each has one.
        **settings: as for `ImageDataModule`.

    Raises:
        UsageError: `classes` or `void` cannot be used.
    """

    task = "segmentation"
    labels = "own"
    kind, suffixes = "masks", (".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".jpg", ".jpeg")

    def __init__(
        self,
        *,
        classes: Sequence[str] | Mapping[str, Sequence[int]] | None = None,
        void: int | Sequence[int] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.names = None if classes is None else _names(classes)
        self.colours: list[Colour] = []
        if isinstance(classes, Mapping):
            self.colours = [_colour(f"data.classes.{name}", colour) for name, colour in classes.items()]
            if twice := [colour for colour in self.colours if self.colours.count(colour) > 1]:
                raise UsageError(f"data.classes={dict(classes)}: {list(twice[0])} is the colour of two classes")
        self.void = None if void is None else _void(void, bool(self.colours))

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names given, or the numbers found.

        Raises:
            DatasetNotFoundError: They are to be found in files that are not there.
        """
        if self.names is not None:
            return self.names
        root, parts = self._pairs
        masks = MaskFiles(np.array(parts[0].annotations), str(root), MOST_CLASSES, self.void)
        return tuple(map(str, range(1 + max(map(masks.largest, range(len(masks)))))))

    def _annotations(self, root: Path, parts: list[Pairs]) -> list[Annotations]:
        masks, num_classes = [np.array(part.annotations) for part in parts], len(self.class_names)
        if self.colours:
            colours = tuple(self.colours)
            return [ColourMaskFiles(names, str(root), num_classes, self.void, colours) for names in masks]
        files = [MaskFiles(names, str(root), num_classes, self.void) for names in masks]
        _warn_of_one_class(files[0])
        return [*files]


def _warn_of_one_class(masks: MaskFiles) -> None:
    """Warn where the first masks have no class but 0: 255 is the object itself as often as it is none."""
    count = min(len(masks), LOOKED_AT)
    if masks.void is not None and max(map(masks.largest, range(count)), default=1) == 0:
        warnings.warn(
            f"data.void={masks.void}: the first {count} masks have no class but 0 beside it; where {masks.void} is a "
            "class, give data.void=null and 'data.classes={background:[0,0,0],object:[255,255,255]}'",
            stacklevel=2,
        )


def _names(classes: Any) -> tuple[str, ...]:
    names = [] if isinstance(classes, str) else [str(name) for name in classes]
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(
            f"data.classes={classes}: expected two names or more, each once, as [road,car] in the order of the class "
            "numbers, or with their colours, as {road:[128,64,128],car:[0,0,142]}"
        )
    return tuple(names)


def _void(void: Any, coloured: bool) -> int:
    if coloured:
        return int(number_of(np.array(_colour("data.void", void))))
    if isinstance(void, bool) or not isinstance(void, int):
        raise UsageError(f"data.void={void}: expected the number of pixels without a class, or null")
    return void


def _colour(argument: str, value: Any) -> Colour:
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(numbers) != 3 or not all(isinstance(one, int) and 0 <= one <= 255 for one in numbers):
        raise UsageError(f"{argument}={value}: expected red, green and blue, each from 0 to 255, as [128,64,128]")
    red, green, blue = numbers
    return red, green, blue
