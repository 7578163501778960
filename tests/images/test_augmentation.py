"""Random views are torchvision's, and masks and boxes go with them."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms, tv_tensors
from torchvision.transforms import v2

from bottlenecks.images.geometry import follow_boxes
from bottlenecks.images.preprocessing import Preprocessing

SMALL, LARGE = (40, 48), (128, 112)
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
BOXES = np.array([[10.0, 20.0, 90.0, 70.0], [100.0, 5.0, 190.0, 140.0]])


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 200, 3)).astype(np.uint8))


def reference(size: tuple[int, int], antialias: bool) -> v2.Compose:
    """What torchvision's own transforms make of an image alone."""
    if size == SMALL:
        start = [] if antialias else [transforms.PILToTensor()]
        resize = transforms.Resize(size, antialias=antialias)
        crop = [*start, resize, v2.RandomCrop(size, [size[1] // 8, size[0] // 8])]
    else:
        crop = [v2.RandomResizedCrop(size, scale=(0.25, 1), antialias=True)]
    end = transforms.PILToTensor() if antialias or size == LARGE else torch.nn.Identity()
    return transforms.Compose([*crop, v2.RandomHorizontalFlip(), end, transforms.ConvertImageDtype(torch.float32)])


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("antialias", [True, False])
def test_images_are_bit_for_bit_torchvisions(size, antialias, photo):
    ours = Preprocessing(size, None, ZERO, ONE, antialias=antialias).augmented_transform()
    theirs = reference(size, antialias)
    for seed in range(6):
        torch.manual_seed(seed)
        expected = theirs(photo)
        torch.manual_seed(seed)
        assert torch.equal(ours(photo), expected)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_masks_and_boxes_go_with_the_image(size, photo):
    """Torchvision moves all three jointly; its resized boxes and shifted masks are the oracle."""
    transform = Preprocessing(size, None, ZERO, ONE).augmented_transform()
    boxes = tv_tensors.BoundingBoxes(torch.from_numpy(BOXES).float(), format="XYXY", canvas_size=(150, 200))
    for seed in range(6):
        torch.manual_seed(seed)
        _, steps = transform.placed(photo)
        torch.manual_seed(seed)
        if size == SMALL:
            shift = v2.RandomCrop(size, [size[1] // 8, size[0] // 8])
            jointly = v2.Compose([v2.Resize(size), shift, v2.RandomHorizontalFlip()])
        else:
            jointly = v2.Compose([v2.RandomResizedCrop(size, scale=(0.25, 1)), v2.RandomHorizontalFlip()])
        _, expected = jointly(photo, boxes)
        assert np.allclose(follow_boxes(BOXES, steps)[0], expected.numpy(), atol=1e-3)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_mask_lies_where_its_colours_lie(size):
    mask = np.kron(np.arange(1, 13).reshape(3, 4), np.ones((50, 50), int))
    drawn = Image.fromarray((mask * 20).astype(np.uint8)).convert("RGB")
    transform = Preprocessing(size, None, ZERO, ONE, "nearest").augmented_transform()
    for seed in range(6):
        torch.manual_seed(seed)
        image, steps = transform.placed(drawn)
        moved = mask
        for step in steps:
            moved = step.mask(moved)
        seen = (image[0].numpy() * 255 / 20).round()
        assert np.array_equal(np.where(moved < 0, 0, moved), seen)
        assert (size == SMALL) == bool((moved < 0).any())
