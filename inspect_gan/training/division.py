"""What of the normal images is held out, and which configuration they have room for."""

import math
from collections.abc import Iterable, Sequence

from inspect_gan.config import DEFAULT_DETECTOR, DEFAULT_RECIPE, Config, load_config
from inspect_gan.errors import InspectGanError
from inspect_gan.patches.holdout import Split, split
from inspect_gan.scoring.calibration import check_samples, comfortable_samples, independent_samples

HELD_OUT_FRACTIONS = (0.1, 0.15, 0.2, 0.25, 0.3)


def divide(sizes: Sequence[tuple[int, int]], patch: int, config: Config) -> Split:
    """Training and held-out regions of images of these sizes (height, width) in px, as are patches.

    Unless the fraction is set, the smallest usual one that supports the target false-alarm rate with comfort is held
    out, else the largest. Raises InspectGanError where none supports it: better before training than after.
    """
    data = config.data
    fractions = HELD_OUT_FRACTIONS if data.holdout_fraction is None else (data.holdout_fraction,)
    for fraction in fractions:
        division = split(sizes, patch, data.holdout, fraction, config.seed)
        samples = independent_samples([(region.height, region.width) for region in division.held_out], patch)
        if samples >= comfortable_samples(config.scoring.target_fpr):
            break
    check_samples(samples, config.scoring.target_fpr)
    return division


def default_config(sizes: Sequence[tuple[int, int]], overrides: Iterable[str] = ()) -> tuple[str, Config]:
    """Name and settings of what images of these sizes (height, width) are trained with unless told otherwise.

    The default recipe, or the plain configuration where they are too few or too small for the recipe's patches.
    """
    overrides = list(overrides)
    recipe = load_config(DEFAULT_RECIPE, overrides)
    try:
        divide(sizes, math.ceil(recipe.patches.size / recipe.patches.scale), recipe)
    except InspectGanError:
        return DEFAULT_DETECTOR, load_config(DEFAULT_DETECTOR, overrides)
    return DEFAULT_RECIPE, recipe
