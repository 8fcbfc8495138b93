"""Objectives and penalty distribution on rows of a table, with the papers' protocols.

She & Fan, "From MIM-based GAN to anomaly detection", Tables III to V: the detector `anogan` with each objective, its
score `s_test`, trained on unlabelled rows. Yang, Bozchalooi & Darve (RCGAN, ECAI 2020), Tables 1 and 3: the detectors
`alad` and `rcgan`, trained on normal rows. The detectors are trained as they are, with their own losses and scores;
only their networks are exchanged for perceptrons on rows.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import inspect_gan
from inspect_gan.detector import Batch
from inspect_gan.imaging import atomic_text
from inspect_gan.models import networks
from inspect_gan.toys import gaussian, penalty, rows
from inspect_gan.toys.exchange import bare_detector, iterate, optimize_phases
from inspect_gan.toys.rows import Split
from inspect_gan.toys.side_by_side import seeded, spread

NUMBERS = "tabular.json"
REPEATS = 5  # seeds, each with its own split and first weights
BATCH = 64  # rows per step
LR = 1e-4  # of She & Fan, for all objectives
# The four of She & Fan, and the forms of two of them whose generator does not play the zero-sum game.
RIVALS = ("minimax", "lsgan", "wgan", "mim", "nonsaturating", "mim, generator=heuristic")
CYCLES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "alad": ("alad", {}),
    **{f"rcgan, penalty {name}": ("rcgan", settings) for name, settings in penalty.VARIANTS.items()},
}
CYCLE_SCORES = ("logits", "features")  # logits: a rising function of eq. 11; features: eq. 12, of ALAD its L1 form
BASELINE = "distance to the mean"


@dataclass(frozen=True)
class Protocol:
    """split: table -> rows to train and to test with. score: label of `labels`, split, steps -> (N,) by score.
    figures: split, (N,) -> figures by name."""

    split: Callable[[rows.Table], Split]
    labels: tuple[str, ...]
    score: Callable[[str, Split, int], dict[str, np.ndarray]]
    figures: Callable[[Split, np.ndarray], dict[str, float]]


def run_tabular(file: Path, out: Path, seed: int, steps: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Both experiments on a MAT file of the ODDS collection, `steps` generator steps each; writes `NUMBERS` to `out`.

    progress: called with a line at a time. Returns what `NUMBERS` holds: by protocol, label and score the figures over
    `REPEATS` seeds from `seed` on. Raises InspectGanError for a file that `read_odds` refuses or an unwritable `out`.
    """
    table = rows.read_odds(file)
    seeds = range(seed, seed + REPEATS)
    numbers: dict[str, Any] = {
        "version": inspect_gan.__version__,
        "file": file.name,
        "rows": len(table.x),
        "attributes": table.x.shape[1],
        "anomalous": int(table.anomalous.sum()),
        "seeds": list(seeds),
        "steps": steps,
    }
    for name, protocol in PROTOCOLS.items():
        numbers[name] = {}
        for label in (*protocol.labels, BASELINE):
            progress(f"{file.name}, {name}: {label}")
            repeats = [_repeat(protocol, label, table, one, steps) for one in seeds]
            numbers[name][label] = {
                score: {
                    figure: spread(torch.tensor([repeat[score][figure] for repeat in repeats])) for figure in figures
                }
                for score, figures in repeats[0].items()
            }
    atomic_text(out / NUMBERS, json.dumps(numbers, indent=1) + "\n")
    return numbers


def _repeat(protocol: Protocol, label: str, table: rows.Table, seed: int, steps: int) -> dict[str, dict[str, float]]:
    """Figures by score. One seed: the same split for all labels."""
    with seeded(seed):
        split = protocol.split(table)
        scores = _distances(split) if label == BASELINE else protocol.score(label, split, steps)
    return {
        name: {**rows.ranking(split.anomalous, values), **protocol.figures(split, values)}
        for name, values in scores.items()
    }


def score_objective(label: str, split: Split, steps: int) -> dict[str, np.ndarray]:
    """Train `anogan` with an objective of `gaussian.RIVALS`; its score `s_test` of the test rows, (N,)."""
    n = split.train.shape[1]
    nz, width = _sizes(n)
    detector = bare_detector("anogan", {"nz": nz, "lr_g": LR, "lr_d": LR}, gaussian.make_rival(label))
    made = networks.perceptron([nz, width, width, width], 0)
    detector.generator = nn.Sequential(made, nn.Linear(width, n), nn.Tanh())
    body = networks.perceptron([n, width, width, width], 0)
    detector.discriminator = networks.Critic(body, width, **detector.critic_head())
    detector.search_batch = len(split.test)
    return _train_and_score(detector, split, steps, ("s_test",))


def score_cycle(label: str, split: Split, steps: int) -> dict[str, np.ndarray]:
    """Train a detector of `CYCLES`; the `CYCLE_SCORES` of the test rows, each (N,)."""
    name, settings = CYCLES[label]
    n = split.train.shape[1]
    nz, width = _sizes(n)
    detector = bare_detector(name, {"nz": nz, **settings}, gaussian.make_rival("nonsaturating"))
    detector.generator = nn.Sequential(networks.perceptron([nz, width, width], 0), nn.Linear(width, n))
    detector.encoder = nn.Sequential(networks.perceptron([n, width, width], 0), nn.Linear(width, nz))
    detector.discriminator_xz, detector.discriminator_xx = _pair_critic(n + nz, width), _pair_critic(2 * n, width)
    if detector.discriminator_zz is not None:
        detector.discriminator_zz = _pair_critic(2 * nz, width)
    return _train_and_score(detector, split, steps, CYCLE_SCORES)


def _train_and_score(detector: Any, split: Split, steps: int, scores: tuple[str, ...]) -> dict[str, np.ndarray]:
    phases = optimize_phases(detector)
    for _ in range(steps):
        iterate(detector, phases, lambda: Batch(split.train[torch.randint(len(split.train), (BATCH,))]))
    with torch.inference_mode():
        found = detector.eval().scores(split.test, scores)
    return {name: values.numpy() for name, values in found.patch.items()}


def _distances(split: Split) -> dict[str, np.ndarray]:
    """What needs no training: how many standard deviations a row is away from the mean."""
    return {"norm": split.test.norm(dim=1).numpy()}


def _pair_critic(n: int, width: int) -> networks.Critic:
    body = networks.PairBody(nn.Identity(), nn.Identity(), networks.perceptron([n, width, width], 0))
    return networks.Critic(body, width)


def _sizes(n: int) -> tuple[int, int]:
    """Latent size and width of the hidden layers for n attributes. The widths are those of She & Fan ("MIM-based GAN")
    for Thyroid and Cardio and for Musk; neither paper gives a latent size."""
    return min(max(n // 2, 1), 64), 64 if n < 100 else 256


PROTOCOLS = {
    "mim": Protocol(
        rows.unlabelled_split,
        RIVALS,
        score_objective,
        lambda split, scores: rows.normal_positive(split.anomalous, scores),
    ),
    "rcgan": Protocol(
        rows.normal_split,
        tuple(CYCLES),
        score_cycle,
        lambda split, scores: rows.known_share(split.anomalous, scores, split.share),
    ),
}
