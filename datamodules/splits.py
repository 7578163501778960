"""Which images are for training, which are held back from it, and which are for evaluation alone."""

import numpy as np

from bottlenecks.errors import UsageError
from bottlenecks.settings.data import check_limit, check_part

from .source import Images

SPLIT_SEED = 0  # never the run's seed: runs with different seeds are evaluated on the same images


def stratified_order(targets: np.ndarray) -> np.ndarray:
    """Shuffle so that each stretch of the order has nearly the classes' own shares.

    The members of a class are spread evenly over the order, in random sequence, from a random start. A class
    may have a single member.

    Args:
        targets: int64 `(N,)`, the classes.

    Returns:
        A permutation, int64 `(N,)`: always the same for the same targets.
    """
    random = np.random.RandomState(SPLIT_SEED)  # unlike Generator's, its stream is promised not to change
    shuffled = random.permutation(len(targets))
    members = shuffled[np.argsort(targets[shuffled], kind="stable")]
    _, starts, counts = np.unique(targets[members], return_index=True, return_counts=True)
    rank = np.arange(len(targets)) - np.repeat(starts, counts)
    place = (rank + np.repeat(random.random_sample(len(counts)), counts)) / np.repeat(counts, counts)
    return members[np.argsort(place, kind="stable")]


def shuffle(images: Images) -> Images:
    """Return the same images in `stratified_order`."""
    return images.select(stratified_order(images.classes))


def divide(images: Images, part: float, argument: str) -> tuple[Images, Images]:
    """Take a part out of some images, with the same shares of the classes where the counts allow it.

    Args:
        images: at least two.
        part: a whole number of images, or a share between 0 and 1.
        argument: the setting that `part` comes from, for the error.

    Returns:
        The rest and the part, without a common image, each in `stratified_order`.

    Raises:
        UsageError: The part or the rest would be empty, or `part` is neither a number nor a share.
    """
    total = len(images)
    check_part(argument, part)
    count = round(part * total) if isinstance(part, float) and part <= 1 else int(part)
    if not 0 < count < total:
        raise UsageError(
            f"{argument}={part}: takes {count} of {total} images; both the part and the rest must keep some"
        )
    order = stratified_order(images.classes)
    return images.select(order[count:]), images.select(order[:count])


def limit(images: Images, count: int | None, argument: str) -> Images:
    """Keep the first images, for a quick look.

    Args:
        images: in `stratified_order`, so that the first ones are of many classes.
        count: how many; None keeps all, and so does a number above theirs.
        argument: the setting that `count` comes from, for the error.

    Raises:
        UsageError: Nothing would be left.
    """
    if count is None:
        return images
    check_limit(argument, count)
    return images.select(range(min(int(count), len(images))))
