"""A vision transformer of about a million weights, for small images and no pretrained weights."""

from __future__ import annotations

from torchvision.models import VisionTransformer


def small_vit(num_classes: int = 10, image_size: int = 32, patch_size: int = 4) -> VisionTransformer:
    """Build it: eight layers of 128 channels, torchvision's, whose names they have (`encoder.layers.encoder_layer_3`).

    Args:
        num_classes: number of outputs.
        image_size: side of the images in pixels.
        patch_size: side of what one token stands for, in pixels.
    """
    return VisionTransformer(
        image_size, patch_size, num_layers=8, num_heads=4, hidden_dim=128, mlp_dim=256, num_classes=num_classes
    )
