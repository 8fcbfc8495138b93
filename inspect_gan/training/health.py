"""Is a trained detector alive? Figures on held-out normal patches, a verdict, advice."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from inspect_gan.detector import Detector, View
from inspect_gan.errors import UnhealthyTraining
from inspect_gan.imaging import atomic_text

# Below these, relative to real patches or to the scores' own mean, nothing is left to tell patches apart.
DEAD_DIVERSITY, WEAK_DIVERSITY = 0.02, 0.2
DEAD_SPREAD = 1e-5
# A discriminator whose outputs have the right sign nearly always has won; its gradients may teach little.
WON = 0.98
# Mean slope of D's loss of penalty samples below which they teach it nothing.
INERT = 0.01
# Relative change of a network's weights below which it has not learned; one step at a rate of 1e-6 makes 1e-5.
UNMOVED = 1e-7
TOO_SHORT = 100


@dataclass(frozen=True)
class Health:
    """What a run looked like at its end.

    real_positive, fake_positive: share of real and of generated patches that the discriminator takes for real, running
    means over training, None where its outputs are energies or, as with Wasserstein losses, have no fixed zero.
    reconstruction_error: mean |x - x'|. diversity: mean over pixels of the standard deviation of reconstructions,
    relative to that of the patches; generated_diversity: the same of generated patches, None without a prior.
    score_spread: standard deviation of the score over its mean. not_finite: NaN and infinite values among scores and
    weights. unmoved: sub-networks whose weights are still the initial ones. penalty_real: mean slope of the
    discriminator's last loss of samples of RCGAN's penalty distribution, of a cross-entropy the probability it gave
    them; None without one.
    """

    verdict: Literal["healthy", "suspect", "collapsed"]
    findings: tuple[str, ...]
    real_positive: float | None
    fake_positive: float | None
    reconstruction_error: float
    diversity: float
    generated_diversity: float | None
    score_spread: float
    not_finite: int
    unmoved: tuple[str, ...]
    penalty_real: float | None


@torch.no_grad()
def assess(
    view: View,
    initial: Detector,
    score: str,
    signs: Mapping[str, float],
    iterations: int,
    losses: Mapping[str, float],
) -> Health:
    """Examine a detector in eval mode.

    view: the detector's, of held-out normal patches (n, C, S, S) in [-1, 1]. initial: the same detector with the
    weights training began with. score: the run's score. signs: running shares taken for real, "real" and "fake".
    iterations: of the last stage; a run of under 100 is not called collapsed for being dull. losses: the last logged
    means, by "phase/name".
    """
    detector, x = view.detector, view.x
    values = detector.scores_of(view, [score]).patch[score]
    # A discriminator that learns on drawn defects needs no generator; it may be dull where the score needs none either.
    dispensable = getattr(detector.settings, "penalty", "none") == "drawn" and not _reconstructs(detector, score, x)
    x_rec = view.x_rec
    generated = detector.generate(len(x))
    not_finite = sum(int((~torch.isfinite(t)).sum()) for t in (values, x_rec, *detector.state_dict().values()))
    real_std = float(x.std(dim=0).mean())
    diversity = _diversity(x_rec, real_std)
    generated_diversity = None if generated is None else _diversity(generated, real_std)
    spread = float(values.std() / values.abs().mean().clamp_min(1e-12))
    before = dict(initial.named_children())
    unmoved = tuple(name for name, network in detector.named_children() if _change(network, before[name]) < UNMOVED)
    fatal, doubtful = [], []
    if not_finite:
        fatal.append(f"{not_finite} values are NaN or infinite: lower the learning rates or set training.clip_grad=1")
    for kind, value in (("reconstructions", diversity), ("generated patches", generated_diversity)):
        if value is None:
            continue
        if value < DEAD_DIVERSITY and dispensable:
            doubtful.append(f"all {kind} are alike (diversity {value:.3f}): score {score} does not use them")
        elif value < DEAD_DIVERSITY:
            fatal.append(f"all {kind} are alike (diversity {value:.3f}): train longer, or with another objective")
        elif value < WEAK_DIVERSITY:
            doubtful.append(f"{kind} vary little (diversity {value:.2f}): train longer")
    if not spread > DEAD_SPREAD:
        fatal.append(f"score {score} is the same for all patches: train longer, or choose another score")
    if unmoved:
        fatal.append(f"{', '.join(unmoved)} never learned: its learning rate is too low or its stage had no step")
    if iterations < TOO_SHORT and not (not_finite or unmoved):
        fatal, doubtful = [], [f"only {iterations} iterations: too short to judge", *fatal, *doubtful]
    real, fake = signs.get("real"), signs.get("fake")
    if detector.plays_on_output and real is not None and fake is not None and real > WON and fake < 1 - WON:
        doubtful.append("the discriminator has won: try tricks.input_noise=0.75 or detector.spectral_norm=true")
    penalty_real = next((value for key, value in losses.items() if key.endswith("/penalty_real")), None)
    if penalty_real is not None and penalty_real < INERT:
        doubtful.append(
            f"the penalty no longer acts: its samples are known at sight (mean slope {penalty_real:.1g}); independent "
            f"noise is far from images, compare with detector.penalty=none before crediting it"
        )
    return Health(
        verdict="collapsed" if fatal else "suspect" if doubtful else "healthy",
        findings=(*fatal, *doubtful),
        real_positive=real,
        fake_positive=fake,
        reconstruction_error=float((x - x_rec).abs().mean()),
        diversity=diversity,
        generated_diversity=generated_diversity,
        score_spread=spread,
        not_finite=not_finite,
        unmoved=unmoved,
        penalty_real=penalty_real,
    )


@torch.no_grad()
def varies(detector: Detector, x: Tensor, reconstructs: bool) -> bool:
    """Whether the patches that a detector in eval mode makes differ from one another at all; quick, for checkpoints.

    x: real patches (n, C, S, S) in [-1, 1]. reconstructs: whether it can be asked for reconstructions, too, which some
    detectors learn last.
    """
    made = [detector.generate(len(x))]
    if reconstructs and not detector.searches:
        made.append(detector.reconstruct(x))
    real_std = float(x.std(dim=0).mean())
    return all(_diversity(patches, real_std) >= DEAD_DIVERSITY for patches in made if patches is not None)


def write_health(path: Path, health: Health) -> None:
    """Write health.json; figures that are not finite become null."""
    plain = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in asdict(health).items()}
    atomic_text(path, json.dumps(plain, indent=1, allow_nan=False) + "\n")


def require_alive(health: Health, before: Path | None = None) -> None:
    """Raises UnhealthyTraining with the findings of a collapsed detector. before: where its last checkpoint before the
    collapse is, if there was one."""
    if health.verdict == "collapsed":
        kept = f"; the last checkpoint before is kept as {before}" if before is not None and before.is_file() else ""
        raise UnhealthyTraining(f"training collapsed: {'; '.join(health.findings)}{kept}")


def _reconstructs(detector: Detector, score: str, x: Tensor) -> bool:
    """Whether a score is made of reconstructions, tried on two patches. The view at hand may have some for others."""
    view = detector.view_class(detector, x[:2])
    detector.scores_of(view, [score])
    return "x_rec" in vars(view)


def _change(network: nn.Module, before: nn.Module) -> float:
    """||weights - weights before|| / ||weights before||."""
    now, then = (torch.cat([p.detach().cpu().flatten() for p in m.parameters()]) for m in (network, before))
    return float((now - then).norm() / then.norm().clamp_min(1e-12))


def _diversity(patches: Tensor, real_std: float) -> float:
    return float(patches.float().std(dim=0).mean()) / max(real_std, 1e-12)
