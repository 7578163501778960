"""How an image becomes a network's input: size, crop and normalisation, as data that a file can hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from bottlenecks.errors import UsageError
from bottlenecks.images.checks import check_channels, check_optional_size, check_size, square
from bottlenecks.images.geometry import Size, Step, centred, resized_sides
from bottlenecks.images.reading import to_rgb, upright

if TYPE_CHECKING:  # a device turns images into arrays without torch
    from torch import Tensor, nn

    from bottlenecks.images.augmentation import Augmentation

Transform: TypeAlias = "Callable[[Image.Image], Tensor]"

MAX_PIXELS = 2**26  # of a resized image
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "nearest-exact": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}  # torchvision's names


@dataclass(frozen=True)
class Preprocessing:
    """Resize, centre crop and normalise, in this order.

    Attributes:
        resize: length of the short side, or `(height, width)`, in pixels; None keeps the image's size.
        crop: side of the square, or `(height, width)`, cut from the centre in pixels; None keeps everything.
        mean: subtracted from red, green and blue, which lie in 0..1.
        std: what the result is then divided by.
        interpolation: one of torchvision's names, such as `bilinear`, `bicubic`, `nearest`.
        antialias: True resizes with Pillow, which smooths where it shrinks; False resizes the bare tensor.
        crop_down: round the crop's corner down, as transformers does; False rounds it as torchvision does.

    Raises:
        UsageError: A field has a value that is none of these.
    """

    resize: Size | None = None
    crop: Size | None = None
    mean: tuple[float, float, float] = ()  # type: ignore[assignment] # to be given, as the check below says
    std: tuple[float, float, float] = ()  # type: ignore[assignment]
    interpolation: str = "bilinear"
    antialias: bool = True
    crop_down: bool = False

    def __post_init__(self) -> None:
        for name, parse in _PARSERS.items():
            object.__setattr__(self, name, parse(f"preprocessing.{name}", getattr(self, name)))
        if min(self.std) <= 0:
            raise UsageError(f"preprocessing.std={list(self.std)}: each number must be above 0")
        if self.interpolation not in RESAMPLING:
            known = ", ".join(RESAMPLING)
            raise UsageError(f"preprocessing.interpolation={self.interpolation}: unknown; there are {known}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Build from a mapping of field names, such as a configuration or `to_dict`.

        Raises:
            UsageError: A key is unknown or missing, or a value is unusable.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(values, Mapping):
            raise UsageError(f"preprocessing={values}: expected {', '.join(known)}")
        if unknown := sorted(set(values) - set(known)):
            raise UsageError(f"preprocessing.{unknown[0]}: unknown; there are {', '.join(known)}")
        if missing := [name for name in known[:4] if name not in values]:
            raise UsageError(f"preprocessing: {', '.join(missing)} must be given")
        return cls(**values)

    @classmethod
    def from_torchvision(cls, weights: Any, detector: Any = None) -> Preprocessing:
        """Take over what torchvision's weights for classification, segmentation or detection were trained for.

        Args:
            weights: a member of a weights enum, such as `ResNet50_Weights.IMAGENET1K_V2`.
            detector: for detection, the detector's own `transform`, which is the one that knows. Torchvision also
                limits the long side, and does not smooth where it shrinks an image.

        Raises:
            UsageError: The weights come with another kind of transform.
        """
        preset = weights.transforms()
        kind = type(preset).__name__
        if kind == "ObjectDetection" and detector is not None:
            return cls(
                resize=detector.fixed_size or detector.min_size[-1],
                crop=None,
                mean=tuple(detector.image_mean),
                std=tuple(detector.image_std),
            )
        if kind not in ("ImageClassification", "SemanticSegmentation"):
            raise UsageError(
                f"model.weights={weights}: {kind} is not torchvision's transform for classification, segmentation or "
                "detection"
            )
        return cls(
            resize=square(preset.resize_size),
            crop=square(preset.crop_size) if kind == "ImageClassification" else None,
            mean=tuple(preset.mean),
            std=tuple(preset.std),
            interpolation=preset.interpolation.value,
        )

    @classmethod
    def from_timm(cls, network: nn.Module) -> Preprocessing:
        """Take over what timm's own evaluation transform does for this network.

        Args:
            network: a network made by timm, which carries its `pretrained_cfg`.

        Raises:
            UsageError: The network wants what has no equal here: borders, or a rectangle from the centre.
        """
        from timm.data import resolve_model_data_config

        config = resolve_model_data_config(network)
        channels, height, width = config["input_size"]
        squash = config["crop_mode"] == "squash"
        supported = squash or (config["crop_mode"] == "center" and height == width)
        if channels != 3 or not supported:
            shape, mode = tuple(config["input_size"]), config["crop_mode"]
            raise UsageError(f"model.name: timm's input {shape} with crop_mode={mode} is not supported; take another")
        scaled = int(height / config["crop_pct"]), int(width / config["crop_pct"])
        return cls(
            resize=scaled if squash else scaled[0],
            crop=(height, width),
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            interpolation=config["interpolation"],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain numbers, strings and lists, ready for JSON and for `from_dict`.

        `crop_down` is there where it is set: files of programs that did not know it stay as they are.
        """
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in values.items() if name != "crop_down" or value}

    @property
    def input_shape(self) -> tuple[int, int, int] | None:
        """Shape `(3, H, W)` of what comes out, or None where it follows the image."""
        size = self.crop if self.crop is not None else self.resize
        if size is None or (self.crop is None and isinstance(size, int)):
            return None
        return (3, *_pair(size))

    def with_image_size(self, size: Size) -> Preprocessing:
        """Return the same for another input size; what is resized stays in proportion to what is cropped.

        Args:
            size: side of the square, or `(height, width)`, in pixels.
        """
        size = check_size("data.image_size", size)
        if self.crop is None and isinstance(self.resize, tuple):
            return replace(self, resize=_pair(size))
        if self.crop is None:
            return replace(self, resize=max(_pair(size)), crop=size)
        scales = [new / old for new, old in zip(_pair(size), _pair(self.crop), strict=True)]
        if isinstance(self.resize, tuple):
            height, width = (round(side * scale) for side, scale in zip(self.resize, scales, strict=True))
            return replace(self, resize=(height, width), crop=size)
        return replace(self, resize=self.resize and round(self.resize * max(scales)), crop=size)

    def to_pixels(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Turn an image into pixels (H, W, 3) of the network's size, red first, with Pillow and numpy alone.

        Raises:
            UsageError: the image's values have no agreed white, or `antialias` is off: Pillow always smooths.
        """
        if not self.antialias:
            raise UsageError("preprocessing.antialias=false: needs torch; use a backbone that was trained with true")
        image = _crop(_resize(to_rgb(image), self.resize, RESAMPLING[self.interpolation]), self.crop, self.crop_down)
        return np.asarray(image)

    def to_array(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Turn an image into the network's input (3, H, W), with Pillow and numpy alone.

        Raises:
            UsageError: as `to_pixels` does.
        """
        values = self.to_pixels(image).transpose(2, 0, 1).astype(np.float32, order="C") / np.float32(255)
        mean, std = (np.array(three, dtype=np.float32)[:, None, None] for three in (self.mean, self.std))
        return (values - mean) / std

    def to_image(self, values: npt.NDArray[np.float32]) -> Image.Image:
        """Turn a network's input (3, H, W) back into an image, of the input's size."""
        mean, std = (np.array(three, dtype=np.float32)[:, None, None] for three in (self.mean, self.std))
        pixels = np.clip(np.rint((values * std + mean) * 255), 0, 255).astype(np.uint8)
        return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))

    def transform(self) -> Transform:
        """Return the picklable, deterministic transform from an image to a float tensor `(3, H, W)`."""
        import torch
        from torchvision import transforms

        if self.antialias:
            return transforms.Compose([self.to_array, torch.from_numpy])
        crop = [] if self.crop is None else [transforms.CenterCrop(_pair(self.crop))]
        return transforms.Compose([*self._resized(), *crop, *self._normalised()])

    def augmented_transform(self, flip: bool = True) -> Augmentation:
        """Return the transform for training a backbone: random crops, and mirroring.

        Args:
            flip: mirror half of the images; wrong where left and right matter, as in digits.

        Raises:
            UsageError: The size of the input is not fixed.
        """
        from torchvision import transforms

        from bottlenecks.images.augmentation import Augmentation

        if self.input_shape is None:
            raise UsageError("data.augment=true: needs inputs of one size; give preprocessing.crop or data.image_size")
        resized, normalised = transforms.Compose(self._resized()), transforms.Compose(self._normalised())
        size = self.input_shape[:0:-1]
        return Augmentation(size, self.resize, self.interpolation, resized, to_rgb, normalised, flip)

    def placed(self, image: Image.Image) -> tuple[Tensor, list[Step]]:
        """Apply `transform`, and give the steps that the image's pixels took."""
        image = upright(image)
        scaled = resized_sides(image.size, self.resize)
        window = scaled if self.crop is None else _pair(self.crop)[::-1]
        corner = centred(scaled, window, self.crop_down)
        return self.transform()(image), [Step(image.size, scaled, corner, window)]

    def _resized(self) -> list[Callable]:
        if self.resize is None:
            return [to_rgb]
        from torchvision import transforms
        from torchvision.transforms import InterpolationMode

        mode = InterpolationMode(self.interpolation)
        resize = transforms.Resize(self.resize, interpolation=mode, antialias=self.antialias)
        return [to_rgb, resize] if self.antialias else [to_rgb, transforms.PILToTensor(), resize]

    def _normalised(self) -> list[Callable]:
        import torch
        from torchvision import transforms

        # v1's ConvertImageDtype, as in torchvision's presets: v2's ToDtype differs in the last bit
        return [
            _to_tensor,
            transforms.ConvertImageDtype(torch.float32),
            transforms.Normalize(self.mean, self.std),
        ]


def _resize(image: Image.Image, size: Size | None, resampling: Image.Resampling) -> Image.Image:
    width, height = sides = resized_sides(image.size, size)
    if width * height > MAX_PIXELS and size is not None:
        raise UsageError(f"an image of {image.width}x{image.height} becomes {width}x{height}: too long and thin")
    return image if image.size == sides else image.resize(sides, resampling)


def _crop(image: Image.Image, size: Size | None, down: bool) -> Image.Image:
    """Cut from the centre; what is missing is black."""
    if size is None:
        return image
    height, width = _pair(size)
    left, top = centred(image.size, (width, height), down)
    return image.crop((left, top, left + width, top + height))


def _to_tensor(image: Image.Image | Tensor) -> Tensor:
    from torchvision.transforms.functional import pil_to_tensor

    return pil_to_tensor(image) if isinstance(image, Image.Image) else image


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


_PARSERS = {"resize": check_optional_size, "crop": check_optional_size, "mean": check_channels, "std": check_channels}
