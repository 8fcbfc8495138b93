"""From normal images to a finished run directory."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from inspect_gan.base_inspector import to_image
from inspect_gan.config import Config, DataSettings, differences
from inspect_gan.errors import CannotResume, InspectGanError, first_line, printable
from inspect_gan.hardware import (
    deterministic,
    free_memory,
    full_float32,
    is_out_of_memory,
    resolve_device,
    resolve_precision,
)
from inspect_gan.imaging import Image, make_folder, to_samples
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.locks import locked
from inspect_gan.patches.holdout import Region, Split
from inspect_gan.patches.sampling import RandomPatches
from inspect_gan.patches.store import PatchStore
from inspect_gan.run import (
    CONFIG,
    EXAMINED_PATCHES,
    HEALTH,
    HEALTHY_STATE,
    HELD_OUT,
    LOCK,
    STATE,
    WEIGHTS,
    Weights,
    held_out_patches,
    load_held_out,
    load_record,
    save_config,
    save_held_out,
    save_weights,
)
from inspect_gan.scoring.calibration import check_samples, comfortable_samples, independent_samples
from inspect_gan.training.division import divide
from inspect_gan.training.health import assess, require_alive, write_health
from inspect_gan.training.loop import Trainer
from inspect_gan.training.monitor import Monitor

# Held-out patches for health and spreads where each costs a search.
SEARCHED_PATCHES = 32
# Held-out material beyond this many pixels only slows calibration, unless the target false-alarm rate needs it.
HELD_OUT_PIXELS = 16_000_000
# May differ between the parts of a resumed run: how long it lasts, what it shows, how its maps are scored.
FREE_ON_RESUME = ("training.steps", "training.minutes", "training.checkpoint_minutes", "scoring.")


@dataclass(frozen=True)
class Source:
    """A normal image that can be read again: its name for messages and `load`."""

    name: str
    load: Callable[[], Image]


def source_of(path: Path, data: DataSettings) -> Source:
    """A normal image in a file, read as the settings say."""
    return Source(printable(path), partial(to_image, path, data.page, data.info_bar))


@dataclass(frozen=True)
class _Facts:
    """What the first pass over the images found."""

    preprocess: Preprocess
    split: Split
    fingerprint: list[dict[str, Any]]
    info_bars: list[int]  # rows cut off each image
    divided_for: float  # target false-alarm rate


def fit_run(
    sources: Sequence[Source],
    config: Config,
    out: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> None:
    """Train a detector on normal images and leave a run directory at `out`.

    resume: go on in `out` from the last checkpoint, from the beginning where there is none yet.

    Raises InspectGanError when `out` already holds a run and `resume` is off, when another process trains there, when a
    resumed run differs in configuration or images, for unusable images, for a device that is not there and for want of
    memory; Interrupted when stopped by a signal.
    """
    console = console or Console(quiet=True)
    training = config.training
    precision = resolve_precision(training.precision, resolve_device(training.device))
    with ExitStack() as held:
        if resume and (out / CONFIG).is_file():
            held.enter_context(_reserved(out))
            trained_on, divided_by = _check_resumable(out, config)
            begun = any((out / name).is_file() for name in (STATE, WEIGHTS))
            facts = _survey(sources, divided_by if begun else config)
            if begun:
                if _contents(trained_on) != _contents(facts.fingerprint):
                    raise CannotResume(
                        f"{out} belongs to other training images: resume with the same images, or train into a new "
                        f"folder"
                    )
                facts = replace(facts, fingerprint=trained_on)  # the checkpoint knows them by the names they had
                held_out = [(region.height, region.width) for region in load_held_out(out / HELD_OUT)]
                check_samples(independent_samples(held_out, facts.preprocess.footprint), config.scoring.target_fpr)
        else:
            _check_free(out)
            facts = _survey(sources, config)
            held.enter_context(_reserved(out))
            _check_free(out)  # nobody else began meanwhile
            begun = False
        console.print(_summary(facts, config))
        if resume and not begun:
            console.print(f"{out} has no checkpoint yet: the training begins")
        with _memory_errors(out, config), deterministic(training.deterministic), full_float32(precision):
            _train(sources, facts, config, out, begun, console)


def _train(sources: Sequence[Source], facts: _Facts, config: Config, out: Path, resume: bool, console: Console) -> None:
    training_pixels = [partial(_training_pixels, sources, region, facts.preprocess) for region in facts.split.train]
    torch.manual_seed(config.seed)
    detector = config.build(facts.preprocess.channels)
    trainer = Trainer(
        detector,
        batches(training_pixels, facts.preprocess, config),
        config.training,
        config.seed,
        out / STATE,
        Monitor(out, console),
        _digest(facts),
    )
    if resume:
        trainer.load()
    make_folder(out)
    save_config(out / CONFIG, config, facts.fingerprint, facts.divided_for)  # not that of a resume that was refused
    if not resume:
        save_held_out(out / HELD_OUT, list(_held_out(sources, facts, config.seed)))
    trainer.fit()
    trained = trainer.averages.shadow
    most = SEARCHED_PATCHES if trained.searches else EXAMINED_PATCHES
    patches = facts.preprocess.tensor(held_out_patches(load_held_out(out / HELD_OUT), facts.preprocess, most))
    view = trained.view_class(trained, patches.to(next(trained.parameters()).device))
    torch.manual_seed(config.seed)  # not where training happened to end: a resumed one may have no step left
    trained.fit_scores(view)
    save_weights(out / WEIGHTS, Weights(trained, facts.preprocess, config))
    torch.manual_seed(config.seed)
    health = assess(
        view,
        config.build(facts.preprocess.channels),
        trained.score_name(config.scoring.score),
        {kind: float(share) for kind, share in trainer.detector.game.signs.items()},
        trainer.position.iteration,
        trainer.latest,
    )
    write_health(out / HEALTH, health)
    console.print(f"health: {health.verdict}{''.join(f'; {finding}' for finding in health.findings)}")
    require_alive(health, out / HEALTHY_STATE)


def batches(
    images: Iterable[np.ndarray | Callable[[], np.ndarray]], preprocess: Preprocess, config: Config
) -> Callable[[int], Tensor]:
    """What a trainer draws: number of the batch -> (B, C, S, S), random patches of images that `preprocess` made.

    The images are moved to the training's device once and patches are cut there, unless they would take more than
    data.memory_mb or half of the device's free memory: then each batch is cut on the host.
    """
    store = PatchStore(images, config.data.memory_mb)
    device = resolve_device(config.training.device)
    fits = not store.on_disk and store.pixels.nbytes <= free_memory(device) / 2
    patches = RandomPatches(
        store,
        preprocess.size,
        config.training.batch_size,
        config.seed,
        config.data.augment,
        device if fits else "cpu",
    )
    return lambda number: preprocess.tensor(patches.batch(number))


def _survey(sources: Sequence[Source], config: Config) -> _Facts:
    """Read every image once: preprocessing, sizes, hashes, and the division into training and held-out regions."""
    if not sources:
        raise InspectGanError("no training images")
    fingerprint: list[dict[str, Any]] = []
    bars: list[int] = []

    def images() -> Iterator[Image]:
        for source in sources:
            image = source.load()
            fingerprint.append(
                {"name": source.name, "height": image.height, "width": image.width, "digest": image.digest}
            )
            bars.append(image.info_bar_rows)
            yield image

    patches = config.patches
    preprocess = Preprocess.fit(images(), **patches.model_dump())
    for entry in fingerprint:
        if min(entry["height"], entry["width"]) < preprocess.footprint:
            raise InspectGanError(
                f"{entry['name']} is {entry['height']}×{entry['width']} px, smaller than the patch of "
                f"{preprocess.footprint} px: remove it or set a smaller patches.size"
            )
    sizes = [(entry["height"], entry["width"]) for entry in fingerprint]
    division = divide(sizes, preprocess.footprint, config)
    return _Facts(preprocess, division, fingerprint, bars, config.scoring.target_fpr)


def _training_pixels(sources: Sequence[Source], region: Region, preprocess: Preprocess) -> np.ndarray:
    return preprocess.image(_crop(sources[region.image].load(), region))


def _held_out(sources: Sequence[Source], facts: _Facts, seed: int) -> Iterator[np.ndarray]:
    """Held-out regions (H, W, C) as stored, uint8, uint16 or float32; when there are very many, a random choice, no
    less than the target false-alarm rate needs."""
    pixels = samples = 0
    enough = comfortable_samples(facts.divided_for)
    for number in np.random.default_rng(seed).permutation(len(facts.split.held_out)):
        region = facts.split.held_out[number]
        pixels += region.height * region.width
        if pixels > HELD_OUT_PIXELS and samples >= enough:
            return
        samples += independent_samples([(region.height, region.width)], facts.preprocess.footprint)
        crop = _crop(sources[region.image].load(), region)
        yield to_samples(crop.pixels, crop.bit_depth)


def _crop(image: Image, region: Region) -> Image:
    return Image(image.pixels[region.window], image.bit_depth, image.path)


def _reserved(out: Path) -> AbstractContextManager[None]:
    return locked(out / LOCK, f"another process trains in {out}: wait for its end, or choose another --out")


def _check_free(out: Path) -> None:
    """Hidden files do not count: a training that was killed before it began leaves some."""
    if out.exists() and not out.is_dir():
        raise InspectGanError(f"{out} is a file: choose another --out")
    if out.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise InspectGanError(f"{out} is not empty: choose another --out, or continue the run in it with --resume")


def _check_resumable(out: Path, config: Config) -> tuple[list[dict[str, Any]], Config]:
    """The fingerprint of the images that the run in `out` is trained on, and the settings by which they were divided:
    those of `config` but for the target false-alarm rate."""
    recorded, record = load_record(out / CONFIG)
    changed = [
        line for line in differences(recorded.model_dump(), config.model_dump()) if not line.startswith(FREE_ON_RESUME)
    ]
    if changed:
        raise CannotResume(
            f"{out} was trained with other settings, it cannot be resumed with these: {'; '.join(changed)}"
        )
    rate = record["divided_for"] or recorded.scoring.target_fpr
    return record["data"], config.model_copy(update={"scoring": config.scoring.model_copy(update={"target_fpr": rate})})


def _contents(fingerprint: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of images, wherever they are."""
    return [{key: value for key, value in entry.items() if key != "name"} for entry in fingerprint]


def _digest(facts: _Facts) -> str:
    """Of the images and of what of them is trained on."""
    return hashlib.sha256(repr((facts.fingerprint, facts.split)).encode()).hexdigest()


@contextmanager
def _memory_errors(out: Path, config: Config) -> Iterator[None]:
    """Want of memory as InspectGanError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        kept = f"; the last checkpoint is kept in {out}" if (out / STATE).is_file() else ""
        size = config.training.batch_size
        smaller = f"training.batch_size={size // 2}" if size >= 4 else "a smaller detector.width"  # batches have two
        raise InspectGanError(
            f"not enough memory to train with training.batch_size={size} ({first_line(error)[:200]}): end what else "
            f"uses it and go on with --resume, or train into a new folder with {smaller}{kept}"
        ) from error


def _summary(facts: _Facts, config: Config) -> str:
    trained = sum(region.height * region.width for region in facts.split.train)
    held = sum(region.height * region.width for region in facts.split.held_out)
    kind: Mapping[int, str] = {1: "grey", 3: "colour"}
    preprocess = facts.preprocess
    bars = [rows for rows in facts.info_bars if rows]
    cut = f"info bars of {min(bars)} to {max(bars)} px cut off {len(bars)} of them; " if bars else ""
    return (
        f"{len(facts.fingerprint)} normal images, {preprocess.bit_depth}-bit {kind[preprocess.channels]}; {cut}"
        f"training on {trained / 1e6:.2f} megapixels, {held / 1e6:.2f} held out for calibration; "
        f"detector {config.detector['name']}, objective {config.objective['name']}, "
        f"patches of {preprocess.size} px at scale {preprocess.scale:g}"
    )
