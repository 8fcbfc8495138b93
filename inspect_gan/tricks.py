"""Every training trick as a named switch over settings, so that each can be ablated by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trick:
    """text: what it does. on, off: the settings (dotted keys) that switch it."""

    text: str
    on: Mapping[str, Any]
    off: Mapping[str, Any]


TRICKS: dict[str, Trick] = {
    "input_noise": Trick(
        "noise on what the discriminator sees, falling over the first ten epochs",
        {"tricks.input_noise": 0.75},
        {"tricks.input_noise": 0.0},
    ),
    "soft_labels": Trick(
        "discriminator targets up to 0.1 away from 1 and 0", {"tricks.soft_labels": 0.1}, {"tricks.soft_labels": 0.0}
    ),
    "label_noise": Trick(
        "one discriminator target in twenty exchanged", {"tricks.label_noise": 0.05}, {"tricks.label_noise": 0.0}
    ),
    "label_flipping": Trick(
        "real and generated exchange roles; by symmetry it changes nothing in distribution",
        {"tricks.flip_labels": True},
        {"tricks.flip_labels": False},
    ),
    "spectral_norm": Trick(
        "discriminator layers of spectral norm 1", {"detector.spectral_norm": True}, {"detector.spectral_norm": False}
    ),
    "ema": Trick("score with averaged weights", {"training.ema": 0.999}, {"training.ema": 0.0}),
    "feature_matching": Trick(
        "the generator matches discriminator features", {"detector.w_fm": 0.1}, {"detector.w_fm": 0.0}
    ),
    "minibatch_std": Trick(
        "the discriminator sees the variety of its batch",
        {"detector.minibatch_std": True},
        {"detector.minibatch_std": False},
    ),
    "ttur": Trick(
        "two time scales: the discriminator learns four times as fast",
        {"detector.lr_g": 1e-4, "detector.lr_d": 4e-4},
        {"detector.lr_g": None, "detector.lr_d": None},
    ),
    "critic_steps": Trick(
        "five discriminator steps per generator step", {"detector.critic_steps": 5}, {"detector.critic_steps": 1}
    ),
    "gradient_clipping": Trick(
        "gradients of a phase scaled to a norm of at most 1", {"training.clip_grad": 1.0}, {"training.clip_grad": None}
    ),
    "drawn_defects": Trick(
        "an autoencoder mends defects drawn on its input", {"tricks.drawn_defects": 0.7}, {"tricks.drawn_defects": 0.0}
    ),
    "augmentation": Trick(
        "flips and quarter turns of training patches", {"data.augment": "d4"}, {"data.augment": "none"}
    ),
}
