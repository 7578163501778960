"""Which images are nearest to which, by vectors of length 1."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

MOST_SIMILARITIES = 2**24  # that are held at once
NUM_VOTES = 5  # of the nearest images, on an image's class
TIE = 1e-3  # weight of the similarity beside the count of votes: it decides where classes have as many


def nearest_others(vectors: Tensor, gallery: Tensor) -> Tensor:
    """Return the image that is nearest to each, itself left out.

    Args:
        vectors: of N images, (N, D).
        gallery: of the same images in the same order, which they are compared with, (N, D).

    Returns:
        Numbers of images, (N,); of a single image its own.
    """
    return torch.cat([_without_own(own, start).argmax(1) for start, own in _similarities(vectors, gallery)])


def same_nearest(vectors: Tensor, gallery: Tensor) -> Tensor:
    """Return 1 where the nearest of the other images is the one that the gallery itself has there, else 0, (N,)."""
    return (nearest_others(vectors, gallery) == nearest_others(gallery, gallery)).float()


def ranks(vectors: Tensor, gallery: Tensor) -> Tensor:
    """Count the images of a gallery (N, D) that are nearer to each of vectors (N, D) than its own image is, (N,)."""
    found = []
    for start, own in _similarities(vectors, gallery):
        itself = own.diagonal(start)[:, None]
        found.append((own > itself).sum(1))
    return torch.cat(found)


def classes_of_neighbours(vectors: Tensor, gallery: Tensor, labels: Tensor) -> Tensor:
    """Return the class that most of the nearest other images have; of as many votes, those of the nearer count.

    Args:
        vectors: of N images, (N, D).
        gallery: of the same images, (N, D).
        labels: their classes, (N,), 0 or more.
    """
    num_votes, num_classes = min(NUM_VOTES, len(gallery) - 1), int(labels.max()) + 1
    found = []
    for start, own in _similarities(vectors, gallery):
        similarities, images = _without_own(own, start).topk(num_votes, 1)
        votes = own.new_zeros(len(own), num_classes).scatter_add_(1, labels[images], 1 + TIE * similarities)
        found.append(votes.argmax(1))
    return torch.cat(found)


def _similarities(vectors: Tensor, gallery: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the similarities of some vectors with the whole gallery at a time, and the number of the first of them."""
    size = max(1, MOST_SIMILARITIES // len(gallery))
    for start in range(0, len(vectors), size):
        yield start, F.linear(vectors[start : start + size], gallery)


def _without_own(similarities: Tensor, start: int) -> Tensor:
    """Take each image itself out of its similarities, where there are others."""
    if similarities.shape[1] > 1:
        similarities.diagonal(start).fill_(-torch.inf)
    return similarities
