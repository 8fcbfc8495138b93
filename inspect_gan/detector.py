"""What a detector is: sub-networks, training stages made of phases, and scores.

The engine trains and scores every detector through this interface and knows no particular one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from inspect_gan.errors import InspectGanError
from inspect_gan.objectives import Game, Objective, Optimizer, Role, TrickSettings, both
from inspect_gan.registry import Registry, did_you_mean
from inspect_gan.scoring import residuals
from inspect_gan.scoring.fusion import Mixture, column_spreads, standardised_square
from inspect_gan.settings import Settings

PATCH_SIZES = (32, 64, 128)
# Prefix of the buffers that hold what mixtures of scores standardise with.
SPREADS = "spreads_"

# Notes on a pairing of detector and objective, for `Detector.objectives`.
NATURAL = ""
UNCALIBRATED = "scores on the discriminator's output have no fixed zero; prefer the feature scores"
NO_BATCH_NORM = "the discriminator uses layer instead of batch normalisation"
DRIVES_D = "drives the discriminator; the generator matches features unless adv_mode is objective"
PAIR_ONLY = "applies to D_xz; D_xx and D_zz keep cross-entropy unless objective_all is set"
ONE_COEFFICIENT = "the gradient penalty interpolates x and z with one coefficient"
ADAPTED = "through the energy adapter, experimental"


@dataclass(frozen=True)
class PatchShape:
    """channels: 1 (grey) or 3 (RGB); size: side S in pixels, a power of two from 32 to 128."""

    channels: int = 1
    size: int = 32

    def __post_init__(self) -> None:
        if self.size not in PATCH_SIZES:
            near = min(PATCH_SIZES, key=lambda size: abs(size - self.size))
            raise InspectGanError(f"patch size {self.size} is not supported: use {near} (one of {PATCH_SIZES})")
        if self.channels not in (1, 3):
            raise InspectGanError(f"{self.channels} channels are not supported: use 1 (grey) or 3 (RGB)")


class Batch:
    """One training batch. x: (B, C, S, S) float32 in [-1, 1].

    `shared` carries tensors from one phase to the next phases of the same batch, so that what two phases both
    need (a generator pass) is computed once.
    """

    def __init__(self, x: Tensor):
        self.x = x
        self.shared: dict[str, Tensor] = {}

    def once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """What `shared` has under this name, made and kept there if it has nothing yet."""
        if name not in self.shared:
            self.shared[name] = make()
        return self.shared[name]

    def latent(self, nz: int) -> Tensor:
        """Fresh z ~ N(0, I), (B, nz)."""
        return torch.randn(self.x.shape[0], nz, device=self.x.device)


@dataclass(frozen=True)
class Phase:
    """One kind of optimiser step.

    trains: names of the sub-networks whose weights it changes; all others are frozen while it runs.
    loss: batch -> {"total": scalar to minimise, other names: scalars to log}.
    repeats: how often it runs per iteration, each time on a fresh batch but the first.
    after_step: called after each optimiser step with that step's logged losses, for weight clipping and the like.
    """

    name: str
    trains: tuple[str, ...]
    loss: Callable[[Batch], dict[str, Tensor]]
    optimizer: Optimizer
    repeats: int = 1
    after_step: Callable[[Mapping[str, Tensor]], None] | None = None


@dataclass(frozen=True)
class Stage:
    """A part of training. epochs: its published length. share: its part of a total budget in steps or minutes.

    Sub-networks that no phase of the stage trains are frozen and in eval mode while it runs.
    """

    name: str
    epochs: int
    phases: tuple[Phase, ...]
    share: float = 1.0

    @property
    def trains(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for phase in self.phases for name in phase.trains))


class View:
    """One batch as a detector sees it; each quantity is computed when first asked for and kept.

    x: (B, C, S, S) in [-1, 1].
    """

    def __init__(self, detector: "Detector", x: Tensor):
        self.detector = detector
        self.x = x

    @cached_property
    def x_rec(self) -> Tensor:
        """Reconstruction, (B, C, S, S)."""
        return self.detector.reconstruct(self.x)

    @cached_property
    def discriminated(self) -> tuple[Tensor, Tensor]:
        """The discriminator's raw output on x, (B,), and its features, (B, n_d)."""
        return self.detector.discriminate(self.x)

    @cached_property
    def doubt(self) -> Tensor:
        """How far the discriminator is from calling x real, (B,) or (B, 1, S, S), see `Detector.doubt`."""
        return self.detector.doubt(self.discriminated[0])

    @cached_property
    def features(self) -> Tensor:
        """Discriminator features of x, (B, n_d)."""
        return self.discriminated[1]

    @cached_property
    def features_rec(self) -> Tensor:
        """Discriminator features of the reconstruction, (B, n_d)."""
        return self.detector.features(self.x_rec)


class EncodedView(View):
    """Of detectors with an `encoder` E and a `generator` G: the code, and the reconstruction G(E(x))."""

    detector: Any  # a detector with these two networks; subclasses name theirs

    @cached_property
    def z(self) -> Tensor:
        """E(x), (B, nz)."""
        return self.detector.encoder(self.x)

    @cached_property
    def x_rec(self) -> Tensor:
        return self.detector.generator(self.z)


@dataclass(frozen=True)
class SharedNetwork:
    """How a score follows from one feed-forward network, whose work overlapping patches of a map can then share.

    network: detector -> x (B, C, S, S) to (B, n), None where there is no such network. reduce: (detector, its outputs)
    -> (B,).
    """

    network: Callable[[Any], nn.Module | None]
    reduce: Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Score:
    """compute: view -> (B,) or a per-pixel map (B, 1, S, S), higher = more anomalous. text: its formula in words.
    shared: another way to the same numbers."""

    text: str
    compute: Callable[[Any], Tensor]
    shared: SharedNetwork | None = None


@dataclass
class Scores:
    """patch: {name: (B,)} for every score; maps: {name: (B, 1, S, S)} for those that have one. Float32."""

    patch: dict[str, Tensor] = field(default_factory=dict)
    maps: dict[str, Tensor] = field(default_factory=dict)


class DetectorSettings(Settings):
    """Settings every detector has.

    preset: selects the defaults of the others, those of the paper or of the thesis. nz: latent size. width: channels of
    the first stage. lr_g, lr_d: learning rates of generator and discriminator, None: what the objective needs, else the
    detector's published ones. critic_steps: discriminator steps per generator step, None: what the objective
    needs. spectral_norm: on the discriminator's layers but the last. minibatch_std: the
    discriminator also sees how much the features vary within the batch.
    """

    preset: Literal["default", "thesis"] = "default"
    nz: int = Field(256, ge=1, le=2**16)
    width: int = Field(64, ge=1, le=2**10)
    lr_g: float | None = Field(None, gt=0)
    lr_d: float | None = Field(None, gt=0)
    critic_steps: int | None = Field(None, ge=1)
    spectral_norm: bool = False
    minibatch_std: bool = False


class Detector(nn.Module, ABC):
    """Base class of all detectors.

    Subclasses register with `@detectors.register(name)`, create their sub-networks in `__init__` (weights at
    `width` channels times powers of two) and implement `stages`, `reconstruct`, `discriminate` and `own_scores`.
    `objectives` names those it can be trained with, each with a note on what changes ("" for a natural pair).
    `pair_objectives`: the same for discriminators of pairs whose objective is chosen apart.
    `plays_on_output`: whether its generator learns from the discriminator's output, not from its features alone.
    `searches`: whether it optimises at inference, for every patch.
    """

    name: ClassVar[str]
    settings: DetectorSettings
    settings_class: ClassVar[type[DetectorSettings]] = DetectorSettings
    view_class: ClassVar[type[View]] = View
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}, "thesis": {}}
    objectives: ClassVar[Mapping[str, str]]
    pair_objectives: ClassVar[Mapping[str, str]] = {}
    default_objective: ClassVar[Mapping[str, str]]
    default_score: ClassVar[Mapping[str, str]]
    plays_on_output: bool = True
    searches: ClassVar[bool] = False
    published_optimizers: ClassVar[Mapping[Role, Optimizer]] = both(Optimizer())

    def __init__(
        self,
        shape: PatchShape,
        settings: DetectorSettings,
        objective: Objective,
        tricks: TrickSettings | None = None,
    ):
        super().__init__()
        self.settings = settings
        if settings.minibatch_std and getattr(settings, "critic", "patch") == "pixels":
            raise InspectGanError(
                "a discriminator of pixels has no last layer that could see the spread of a batch: set "
                "detector.minibatch_std=false or detector.critic=patch"
            )
        self.check_objective(objective.name)
        self.shape = shape
        self.objective = objective
        self.game = Game(objective, tricks or TrickSettings())
        for name, (number, _) in self._spreads().items():
            self.register_buffer(SPREADS + name, torch.tensor([0.0, 1.0]).repeat(number, 1))

    @classmethod
    def check_objective(cls, name: str) -> None:
        """Raises InspectGanError unless the detector can be trained with the objective."""
        if name not in cls.objectives:
            raise InspectGanError(
                f"{cls.name} cannot be trained with objective '{name}': use one of {', '.join(cls.objectives)}"
            )

    @classmethod
    def make_settings(cls, values: Mapping[str, Any]) -> DetectorSettings:
        """Settings from user values laid over the preset they name."""
        preset = values.get("preset", "default")
        return cls.settings_class(**{**cls.presets.get(preset, {}), **values})

    @abstractmethod
    def stages(self) -> tuple[Stage, ...]:
        """Training stages in order."""

    @abstractmethod
    def reconstruct(self, x: Tensor) -> Tensor:
        """(B, C, S, S) in [-1, 1] -> the nearest normal patch, same shape and range."""

    @abstractmethod
    def discriminate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, S, S) -> the discriminator's raw output (B,) on real patches, and its features (B, n_d), the
        activations that feed its last layer."""

    @abstractmethod
    def own_scores(self) -> dict[str, Score | Mixture]:
        """The scores its paper and the thesis define. Which, depends on settings and shape alone."""

    def features(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> discriminator features (B, n_d)."""
        return self.discriminate(x)[1]

    def doubt(self, out: Tensor) -> Tensor:
        """The discriminator's raw outputs -> how far it is from calling x real, of the same shape; see `Game.doubt`."""
        return self.game.doubt(out)

    def generate(self, n: int) -> Tensor | None:
        """n samples of the generator (n, C, S, S) in [-1, 1], None where there is no prior to sample from."""
        return None

    def score_table(self) -> dict[str, Score | Mixture]:
        """Every score by name: the detector's own, then those all have."""
        of_codes = CODE_SCORES if issubclass(self.view_class, EncodedView) else {}
        return self.own_scores() | of_codes | SHARED_SCORES

    @torch.no_grad()
    def fit_scores(self, view: View) -> None:
        """Fit what some scores standardise with, (0, 1) before. view: held-out normal patches."""
        for name, (_, spreads) in self._spreads().items():
            self.get_buffer(SPREADS + name).copy_(spreads(view))

    def _spreads(self) -> dict[str, tuple[int, Callable[[Any], Tensor]]]:
        """What is standardised, by score: how many numbers, and view -> their spreads."""
        table = self.score_table()
        found: dict[str, tuple[int, Callable[[Any], Tensor]]] = {
            name: (len(score.parts), score.spreads) for name, score in table.items() if isinstance(score, Mixture)
        }
        if "code" in table:
            found["code"] = self.settings.nz, lambda view: column_spreads(view.z)
        return found

    def patch_critic(self) -> nn.Module | None:
        """The discriminator as a network x -> raw output (B, 1), where it sees nothing but the patch."""
        return None

    def score_name(self, wanted: str) -> str:
        """The name of a score, "default" replaced by the published one; raises InspectGanError for an unknown one."""
        name = self.published_score() if wanted == "default" else wanted
        self.check_score(name)
        return name

    def published_score(self) -> str:
        """The score of the paper, or of the thesis under its preset."""
        return self.default_score[self.settings.preset]

    def check_score(self, name: str) -> None:
        """Raises InspectGanError with the nearest name unless the detector has the score."""
        table = self.score_table()
        if name not in table:
            raise InspectGanError(f"{self.name} has no score '{name}': {did_you_mean(name, table)}")

    def scores(self, x: Tensor, names: Iterable[str] | None = None) -> Scores:
        """Scores of a batch; call in eval mode.

        x: (B, C, S, S) in [-1, 1]. names: which scores (default: all); only what they need is computed.
        Raises InspectGanError for an unknown name. A map's patch score is its mean over the patch.
        """
        return self.scores_of(self.view_class(self, x), names)

    def scores_of(self, view: View, names: Iterable[str] | None = None) -> Scores:
        """`scores` of a batch whose view is at hand, with what was already computed for it."""
        table = self.score_table()
        result = Scores()
        for name in table if names is None else names:
            self.check_score(name)
            score = table[name]
            if isinstance(score, Mixture):
                value = score.compute(view, self.get_buffer(SPREADS + name))
            else:
                value = score.compute(view).float()
            if value.dim() == 4:
                result.maps[name] = value
                value = value.mean(dim=(1, 2, 3))
            result.patch[name] = value
        return result

    def critic_head(self) -> dict[str, bool]:
        """How the discriminator ends, as keyword arguments of `networks.Critic`. A loss that a common offset of all
        outputs leaves as it is could never train a last bias."""
        return {"minibatch_std": self.settings.minibatch_std, "bias": self.objective.sees_offset}

    def critic_phase(
        self,
        name: str,
        loss: Callable[[Batch], dict[str, Tensor]],
        game: Game | None = None,
        repeats: int | None = None,
    ) -> Phase:
        """The phase of the discriminator `name`. game: the one it plays, repeats: its steps; None: the detector's."""
        played = game or self.game
        return Phase(
            name,
            (name,),
            loss,
            self.optimizer("discriminator"),
            repeats=self.critic_steps() if repeats is None else repeats,
            after_step=lambda _: played.after_critic_step(getattr(self, name)),
        )

    def critic_steps(self) -> int:
        own = self.settings.critic_steps
        return self.objective.critic_steps if own is None else own

    def optimizer(self, role: Role) -> Optimizer:
        """The objective's optimiser, else the detector's published one, at the user's learning rate if given."""
        published = self.objective.optimizers.get(role, self.published_optimizers[role])
        lr = self.settings.lr_g if role == "generator" else self.settings.lr_d
        return published if lr is None else replace(published, lr=lr)


class PriorDetector(Detector):
    """Base class of detectors whose `generator` makes patches of codes z ~ N(0, I), (B, nz)."""

    generator: nn.Module

    def generate(self, n: int) -> Tensor:
        device = next(self.generator.parameters()).device
        return self.generator(torch.randn(n, self.settings.nz, device=device))


CODE_SCORES: dict[str, Score | Mixture] = {
    "code": Score(
        "mean square of E(x), standardised on held-out normal patches",
        lambda v: standardised_square(v.z, v.detector.get_buffer(SPREADS + "code")),
        SharedNetwork(lambda d: d.encoder, lambda d, codes: standardised_square(codes, d.get_buffer(SPREADS + "code"))),
    ),
}

SHARED_SCORES: dict[str, Score | Mixture] = {
    "res_l1": Score("|x - x'| per pixel", lambda v: residuals.l1(v.x, v.x_rec)),
    "res_l2": Score("(x - x')² per pixel", lambda v: residuals.l2(v.x, v.x_rec)),
    "res_ssim": Score("1 - SSIM(x, x') per pixel", lambda v: residuals.ssim(v.x, v.x_rec)),
    "res_structure": Score(
        "1 - structure factor of SSIM(x, x') per pixel", lambda v: residuals.structure(v.x, v.x_rec)
    ),
    "res_contrast": Score("|x - x'| / local contrast of x", lambda v: residuals.contrast(v.x, v.x_rec)),
    "res_feature": Score(
        "mean squared difference of discriminator features of x and x'",
        lambda v: residuals.mse(v.features, v.features_rec),
    ),
    "doubt": Score(
        "doubt of the discriminator about x: -log sigmoid(D(x)) of a logit, -D(x) of a critic, else the energy",
        lambda v: v.doubt,
        SharedNetwork(lambda d: d.patch_critic(), lambda d, out: d.doubt(out.squeeze(1))),
    ),
    # Lu et al., "MIM-GAN-based anomaly detection for multivariate time series data", eqs 16-21; the average over
    # overlapping patches, their eq. 21, is the stitcher's. They give no weights.
    "dire": Mixture(
        "|x - x'| per pixel / 2 + doubt / 2, each standardised on held-out normal patches",
        ((0.5, lambda v: residuals.l1(v.x, v.x_rec)), (0.5, lambda v: v.doubt)),
    ),
}

detectors: Registry[Detector] = Registry("detector", "inspect_gan.models")
