"""Each way a detector can die is forced, found and named."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from inspect_gan.config import load_config
from inspect_gan.detector import Detector
from inspect_gan.errors import UnhealthyTraining
from inspect_gan.imaging import Image
from inspect_gan.training.fit import Source, fit_run
from inspect_gan.training.health import Health, assess, require_alive, write_health

TINY = ["detector.nz=8", "detector.width=4"]


def built(name: str, *settings: str) -> tuple[Detector, Detector]:
    """(a detector that differs from its beginning in every network and whose outputs vary, its beginning)."""
    torch.manual_seed(0)
    initial = load_config(None, [f"detector.name={name}", *TINY, *settings]).build(1).eval()
    detector = copy.deepcopy(initial)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return detector, initial


def examined(
    detector: Detector,
    initial: Detector,
    iterations: int = 1000,
    losses: dict[str, float] | None = None,
    x: Tensor | None = None,
    score: str = "res_l1",
    **signs: float,
) -> Health:
    torch.manual_seed(1)
    view = detector.view_class(detector, torch.rand(64, 1, 32, 32) * 2 - 1 if x is None else x)
    with torch.random.fork_rng():
        return assess(view, initial, score, signs, iterations, losses or {})


@pytest.mark.parametrize("name", ["ganomaly", "fanogan"])
def test_a_living_detector_is_not_called_collapsed(name: str) -> None:
    health = examined(*built(name), real=0.7, fake=0.4)
    assert health.verdict != "collapsed"
    assert (health.unmoved, health.not_finite) == ((), 0)
    require_alive(health)


def test_nan_weights() -> None:
    detector, initial = built("ganomaly")
    with torch.no_grad():
        next(detector.decoder.parameters()).fill_(float("nan"))
    health = examined(detector, initial)
    assert health.not_finite > 0
    with pytest.raises(UnhealthyTraining, match=r"NaN or infinite.*clip_grad"):
        require_alive(health)


def test_reconstructions_that_are_all_alike() -> None:
    detector, initial = built("ganomaly")
    with torch.no_grad():
        for parameter in detector.decoder.parameters():
            parameter.mul_(1e-6)
    health = examined(detector, initial)
    assert health.diversity < 0.01
    with pytest.raises(UnhealthyTraining, match="all reconstructions are alike"):
        require_alive(health)


def test_a_generator_that_has_collapsed_to_one_picture() -> None:
    detector, initial = built("fanogan")
    with torch.no_grad():
        detector.generator[0].weight.zero_()
    health = examined(detector, initial)
    assert health.generated_diversity is not None
    assert health.generated_diversity < 0.01
    assert any("all generated patches are alike" in finding for finding in health.findings)
    assert health.verdict == "collapsed"


@pytest.mark.parametrize(
    ("score", "penalty", "verdict"),
    [("doubt", "drawn", "suspect"), ("res_l1", "drawn", "collapsed"), ("doubt", "none", "collapsed")],
)
def test_a_dead_generator_is_fatal_unless_neither_score_nor_discriminator_needs_it(
    score: str, penalty: str, verdict: str
) -> None:
    detector, initial = built("bigan", f"detector.penalty={penalty}", "detector.critic=pixels")
    with torch.no_grad():
        detector.generator[0].weight.zero_()
    torch.manual_seed(1)
    view = detector.view_class(detector, torch.rand(64, 1, 32, 32) * 2 - 1)
    detector.fit_scores(view)  # of which some are made of reconstructions
    health = assess(view, initial, score, {}, 1000, {})
    assert any("all generated patches are alike" in finding for finding in health.findings)
    assert health.verdict == verdict


def test_a_constant_score() -> None:
    detector, initial = built("ganomaly")
    x = torch.zeros(64, 1, 32, 32)
    x[:, :, ::2] = 1
    health = examined(detector, initial, x=x)
    assert health.score_spread < 1e-5
    assert any("same for all patches" in finding for finding in health.findings)


def test_a_discriminator_that_never_learned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [Image(rng.random((64, 160, 1), dtype=np.float32), 32) for _ in range(2)]
    sources = [Source(f"image {i}", lambda image=image: image) for i, image in enumerate(images)]
    settings = [*TINY, "training.batch_size=8", "training.steps=3", "scoring.target_fpr=0.3", "detector.lr_d=1e-30"]
    with pytest.raises(UnhealthyTraining, match="discriminator never learned"):
        fit_run(sources, load_config(None, settings), tmp_path / "run")
    health = json.loads((tmp_path / "run" / "health.json").read_text())
    assert health["verdict"] == "collapsed"
    assert health["unmoved"] == ["discriminator"]
    # Nothing that was made is lost.
    assert (tmp_path / "run" / "weights.safetensors").is_file()


def test_a_discriminator_that_has_won_makes_a_run_suspect() -> None:
    health = examined(*built("fanogan"), real=0.999, fake=0.001)
    assert any("has won" in finding for finding in health.findings)
    assert examined(*built("fanogan"), real=0.9, fake=0.001).findings != health.findings


def test_who_matches_features_does_not_mind_a_discriminator_that_has_won() -> None:
    assert not any("has won" in finding for finding in examined(*built("ganomaly"), real=1.0, fake=0.0).findings)
    detector, initial = built("ganomaly", "detector.adv_mode=objective")
    assert any("has won" in finding for finding in examined(detector, initial, real=1.0, fake=0.0).findings)


def test_a_penalty_that_no_longer_acts_makes_a_run_suspect() -> None:
    pair = built("rcgan")
    acting = examined(*pair, losses={"discriminator_xz/penalty_real": 0.2})
    inert = examined(*pair, losses={"discriminator_xz/penalty_real": 0.001})
    assert acting.penalty_real == 0.2
    assert not any("penalty" in finding for finding in acting.findings)
    assert any("penalty no longer acts" in finding for finding in inert.findings)
    assert inert.verdict != "healthy"


def test_a_very_short_run_is_not_judged() -> None:
    detector, initial = built("ganomaly")
    with torch.no_grad():
        for parameter in detector.decoder.parameters():
            parameter.mul_(1e-6)
    health = examined(detector, initial, iterations=5)
    assert health.verdict == "suspect"
    assert "too short to judge" in health.findings[0]


def test_the_file_is_strict_json(tmp_path: Path) -> None:
    detector, initial = built("ganomaly")
    with torch.no_grad():
        next(detector.decoder.parameters()).fill_(float("nan"))
    write_health(tmp_path / "health.json", examined(detector, initial))
    written = json.loads((tmp_path / "health.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert written["reconstruction_error"] is None
