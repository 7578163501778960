"""Preprocessing equals what torchvision and timm do themselves, and survives a file."""

import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision import models

from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing

HALF = (0.5, 0.5, 0.5)
IMAGENET = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(load_sample_image("china.jpg"))


@pytest.mark.parametrize(
    "weights",
    [
        models.ResNet50_Weights.IMAGENET1K_V1,
        models.ResNet50_Weights.IMAGENET1K_V2,
        models.EfficientNet_B0_Weights.DEFAULT,
        models.ViT_B_16_Weights.DEFAULT,
        models.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1,
        models.Swin_T_Weights.DEFAULT,
    ],
    ids=str,
)
def test_equals_torchvisions_own_transform(weights, photo):
    preprocessing = Preprocessing.from_torchvision(weights)
    ours, theirs = preprocessing.transform()(photo), weights.transforms()(photo)
    assert torch.equal(ours, theirs)
    assert ours.dtype == torch.float32
    assert preprocessing.input_shape == theirs.shape


def test_equals_torchvisions_own_transform_for_segmentation(photo):
    weights = models.segmentation.DeepLabV3_ResNet50_Weights.DEFAULT
    preprocessing = Preprocessing.from_torchvision(weights)
    assert torch.equal(preprocessing.transform()(photo), weights.transforms()(photo))
    assert preprocessing.input_shape is None


@pytest.mark.parametrize(
    "config",
    [
        {},  # tf_efficientnet_lite0's own: bicubic, crop_pct 0.875
        {"crop_pct": 0.9, "input_size": (3, 160, 160), "interpolation": "bilinear"},
        {"crop_mode": "squash", "crop_pct": 0.95},
        {"crop_mode": "squash", "input_size": (3, 96, 160)},
    ],
)
def test_equals_timms_own_transform(config, photo):
    timm = pytest.importorskip("timm")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.pretrained_cfg = {**network.pretrained_cfg, **config}
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(network))(photo)
    assert torch.equal(Preprocessing.from_timm(network).transform()(photo), theirs)


@pytest.mark.parametrize("config", [{"crop_mode": "border"}, {"input_size": (3, 96, 160)}, {"input_size": (1, 96, 96)}])
def test_refuses_what_timm_does_otherwise(config):
    timm = pytest.importorskip("timm")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.pretrained_cfg = {**network.pretrained_cfg, **config}
    with pytest.raises(UsageError, match=r"model\.name: timm's input .* with crop_mode=.* is not supported"):
        Preprocessing.from_timm(network)


def test_refuses_weights_of_another_kind():
    with pytest.raises(UsageError, match="OpticalFlow is not torchvision's transform for classif"):
        Preprocessing.from_torchvision(models.optical_flow.Raft_Small_Weights.DEFAULT)
    with pytest.raises(UsageError, match="SimpleNamespace"):
        Preprocessing.from_torchvision(SimpleNamespace(transforms=lambda: SimpleNamespace()))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_takes_images_of_any_mode(mode, photo):
    image = IMAGENET.transform()(photo.convert(mode))
    assert image.shape == (3, 224, 224)


def test_survives_json_and_pickle(photo):
    preprocessing = Preprocessing((40, 60), (32, 48), HALF, (0.1, 0.2, 0.3), "bicubic", antialias=False)
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing
    assert Preprocessing.from_dict(OmegaConf.create(preprocessing.to_dict())) == preprocessing
    for transform in (preprocessing.transform(), IMAGENET.transform()):
        assert torch.equal(pickle.loads(pickle.dumps(transform))(photo), transform(photo))
    pickle.loads(pickle.dumps(preprocessing.augmented_transform()))


def test_without_antialias_takes_bare_samples(photo):
    size = (photo.height // 2, photo.width // 2)
    halved = Preprocessing(size, None, (0, 0, 0), (1, 1, 1), "nearest", antialias=False).transform()(photo)
    samples = np.array(photo)[: 2 * size[0] : 2, : 2 * size[1] : 2]
    assert torch.equal(halved, torch.from_numpy(samples).permute(2, 0, 1) / 255)


@pytest.mark.parametrize(
    ("resize", "crop", "shape"),
    [(256, 224, (3, 224, 224)), ((8, 9), None, (3, 8, 9)), (64, None, None), (None, None, None)],
)
def test_input_shape_is_known_where_it_is_fixed(resize, crop, shape, photo):
    preprocessing = Preprocessing(resize, crop, HALF, HALF)
    assert preprocessing.input_shape == shape
    assert shape is None or preprocessing.transform()(photo).shape == shape


@pytest.mark.parametrize(
    ("before", "size", "after"),
    [
        ((256, 224), 128, (146, 128)),
        ((256, 224), (64, 112), (128, (64, 112))),
        (((256, 256), 224), 112, ((128, 128), 112)),
        (((64, 64), None), 32, ((32, 32), None)),
        ((64, None), 32, (32, 32)),
        ((None, 224), 64, (None, 64)),
    ],
)
def test_image_size_scales_the_resize_with_the_crop(before, size, after):
    changed = Preprocessing(*before, HALF, HALF).with_image_size(size)
    assert changed == Preprocessing(*after, HALF, HALF)
    assert changed.with_image_size(size) == changed


@pytest.mark.parametrize("preprocessing", [IMAGENET, IMAGENET.with_image_size((64, 48))])
def test_augmentation_keeps_the_shape_and_follows_torchs_generator(preprocessing, photo):
    transform = preprocessing.augmented_transform()
    images = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        images.append(transform(photo))
    assert images[0].shape == preprocessing.input_shape
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_augmentation_mirrors_only_where_it_may():
    image = Image.fromarray(np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[None], 32, axis=0))
    transform = Preprocessing(None, 32, HALF, HALF).augmented_transform(flip=False)
    mirrored = Preprocessing(None, 32, HALF, HALF).augmented_transform(flip=True)
    for seed in range(8):
        torch.manual_seed(seed)
        assert (transform(image)[:, 16, 4:28].diff() > 0).all()
    torch.manual_seed(0)
    assert any((mirrored(image)[:, 16, 4:28].diff() < 0).all() for _ in range(20))


def test_augmentation_needs_a_fixed_size():
    with pytest.raises(UsageError, match=r"data\.augment=true: needs inputs of one size"):
        Preprocessing(64, None, HALF, HALF).augmented_transform()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 3}, r"preprocessing\.size: unknown; there are resize, crop, mean"),
        ({"crop": 0}, r"preprocessing\.crop=0: must be a number of pixels above 0"),
        ({"resize": "64"}, r"preprocessing\.resize=64: must be a number of pixels"),
        ({"resize": [1, 2, 3]}, r"preprocessing\.resize=\[1, 2, 3\]: must be"),
        ({"mean": [0, 0, float("nan")]}, r"preprocessing\.mean=\[0, 0, nan\]: must be three numbers"),
        ({"mean": 0.5}, r"preprocessing\.mean=0\.5: must be three numbers"),
        ({"std": [1, 1, 0]}, r"preprocessing\.std=\[1\.0, 1\.0, 0\.0\]: each number must be above 0"),
        ({"interpolation": "cubic"}, r"preprocessing\.interpolation=cubic: unknown; there are nearest,"),
    ],
)
def test_refuses_bad_values_by_name(changes, message):
    with pytest.raises(UsageError, match=message):
        Preprocessing.from_dict({**IMAGENET.to_dict(), **changes})


def test_refuses_what_would_become_a_giant(photo) -> None:
    with pytest.raises(UsageError, match=r"an image of 100000x1 becomes 25600000x256: too long and thin"):
        IMAGENET.to_array(Image.new("L", (100_000, 1)))
    assert IMAGENET.to_array(photo).shape == (3, 224, 224)


def test_refuses_missing_values_and_bad_image_sizes():
    with pytest.raises(UsageError, match="preprocessing: mean, std must be given"):
        Preprocessing.from_dict({"resize": 256, "crop": 224})
    with pytest.raises(UsageError, match=r"data\.image_size=-1: must be"):
        IMAGENET.with_image_size(-1)


def test_sixteen_bits_keep_their_greys() -> None:
    ramp = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    preprocessing = Preprocessing.from_dict({"resize": None, "crop": None, "mean": [0] * 3, "std": [1] * 3})
    image = preprocessing.transform()(Image.fromarray(ramp))
    assert torch.allclose(image[0], torch.from_numpy(ramp / 65536).float(), atol=1 / 255)
    with pytest.raises(UsageError, match="floating-point"):
        preprocessing.transform()(Image.fromarray(np.zeros((4, 4), dtype=np.float32)))
