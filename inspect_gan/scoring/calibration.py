"""Thresholds from held-out normal material only.

The threshold is a conformal quantile: with N normal samples and target false-alarm rate alpha it is the k-th smallest,
k = ceil((N + 1) (1 - alpha)); for exchangeable samples a new normal sample exceeds it with probability <= alpha
(Vovk et al. 2005). Pixels of one place are not exchangeable, so N counts non-overlapping patch-sized blocks. What holds
for pixels is simulated in the tests: where normal scores are alike within a patch only, the promise is kept; where
they are alike over larger distances, as with shading or images that differ, it is optimistic.
"""

import errno
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import ROUND_CEILING, Context, Decimal
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, TypeAdapter

from inspect_gan.documents import read_json
from inspect_gan.errors import InspectGanError
from inspect_gan.hardware import Resolved
from inspect_gan.imaging import atomic_text, remove_unfinished
from inspect_gan.locks import locked
from inspect_gan.patches.stitch import Window
from inspect_gan.scoring.maps import MapSettings
from inspect_gan.scoring.regions import Limits, largest
from inspect_gan.settings import Settings

log = logging.getLogger(__name__)

# Score, map settings and target rate of a calibration.
Key = tuple[str, MapSettings, float]
MOST_PX = 2**12  # of a stride or a width of smoothing

# Other thresholds, in threshold units, for which it is kept what normal material shows: 4.4 % apart, 1.0 in the middle.
MOVED = np.geomspace(0.25, 4.0, 65).astype(np.float32)

_ABOVE_ONE = np.nextafter(np.float32(1), np.float32(2))
_BLOCK = 1 << 20  # values that are float64 at a time


def conformal_quantile(values: np.ndarray, alpha: float, samples: int | None = None) -> float:
    """The conformal threshold of normal scores, infinite when there are too few.

    values: (n,) scores. samples: how many of them are independent, n unless given; with fewer, the order statistic is
    taken at the same level of the pooled values, k / N.
    """
    n = len(values)
    independent = n if samples is None else samples
    k = math.ceil((independent + 1) * (1 - alpha) - 1e-9)
    if k > independent:
        return math.inf
    position = math.ceil(k / independent * n - 1e-9)
    return float(np.partition(values, position - 1)[position - 1])


def false_alarm_interval(samples: int, alpha: float, level: float = 0.95) -> tuple[float, float]:
    """Where the false-alarm rate of the k-th of N order statistics lies with probability `level`.

    It is Beta(N + 1 - k, k) distributed whatever the scores are, as long as they are exchangeable.
    """
    from scipy.special import betaincinv  # slow to import, and needed by new calibrations only

    k = math.ceil((samples + 1) * (1 - alpha) - 1e-9)
    tail = (1 - level) / 2
    low, high = betaincinv(samples + 1 - k, k, [tail, 1 - tail])
    return float(low), float(high)


def independent_samples(sizes: Sequence[tuple[int, int]], block: int) -> int:
    """How many non-overlapping blocks of `block` px fit into regions of (height, width)."""
    return sum((height // block) * (width // block) for height, width in sizes)


def needed_samples(alpha: float) -> int:
    """The fewest samples whose conformal quantile at `alpha` is finite."""
    return math.ceil(1 / alpha - 1e-9) - 1


def comfortable_samples(alpha: float) -> int:
    """The fewest samples whose conformal quantile at `alpha` is not the highest of them: one flawed spot in good
    material must not set the threshold alone."""
    return math.ceil((2 - alpha) / alpha - 1e-9)


def smallest_rate(samples: int) -> float:
    """The smallest false-alarm rate that `samples` samples support, rounded up to two digits."""
    return float(Context(prec=2, rounding=ROUND_CEILING).divide(Decimal(1), Decimal(samples + 1)))


def check_samples(samples: int, alpha: float) -> None:
    """Raises InspectGanError when `alpha` is no rate, or `samples` normal samples cannot support it."""
    if not 0 < alpha < 1:  # also refuses NaN
        raise InspectGanError(
            f"a false-alarm rate of {alpha:g} is not between 0 and 1: give the share of normal pixels that may lie "
            f"above the threshold, 0.01 for one percent"
        )
    if samples < needed_samples(alpha):
        raise InspectGanError(
            f"a false-alarm rate of {alpha:g} needs at least {needed_samples(alpha)} held-out normal patches, there "
            f"are {samples}: give more normal images, raise data.holdout_fraction, or set scoring.target_fpr "
            f"(--target-fpr) to at least {smallest_rate(samples):g}"
        )


@dataclass(frozen=True)
class Calibration:
    """What turns a raw map into threshold units, and what was seen in held-out normal material at that threshold.

    threshold, origin: raw scores that become 1 and 0. samples: non-overlapping normal blocks behind the threshold.
    interval: 95 % interval of the pixel false-alarm rate. area_limit: px of the largest normal region above the
    threshold, peak_limit: the highest normal value, in threshold units. pixels: normal pixels measured. moved: share of
    normal pixels above each threshold of MOVED and px of the largest region there; empty where it was not measured, by
    earlier versions. false_alarms: regions that a person called so, which the limits allow for.
    """

    __pydantic_config__ = Settings.model_config

    score: str
    stride: Annotated[int, Field(ge=1, le=MOST_PX)]
    window: Window
    smooth: Annotated[float, Field(ge=0, le=MOST_PX)]
    target_fpr: Annotated[float, Field(gt=0, lt=1)]
    threshold: float
    origin: float
    samples: Annotated[int, Field(ge=1)]
    interval: tuple[float, float]
    area_limit: Annotated[int, Field(ge=0)]
    peak_limit: Annotated[float, Field(ge=1)]
    precision: Resolved
    pixels: Annotated[int, Field(ge=1)]
    moved: tuple[tuple[Annotated[float, Field(ge=0, le=1)], Annotated[int, Field(ge=0)]], ...] = ()
    false_alarms: Annotated[int, Field(ge=0)] = 0

    @classmethod
    def read(cls, entry: Any) -> Self:
        """From what `asdict` and JSON made of it. Raises ValueError for anything else."""
        found: Self = TypeAdapter(cls).validate_python(entry)
        if len(found.moved) not in (0, len(MOVED)):
            raise ValueError(f"{len(found.moved)} moved thresholds, not {len(MOVED)}")
        if not found.threshold > found.origin:
            raise ValueError(f"the threshold {found.threshold:g} is not above the origin {found.origin:g}")
        return found

    @property
    def maps(self) -> MapSettings:
        """How the maps it applies to are made."""
        return MapSettings(self.stride, self.window, self.smooth, self.precision)

    @property
    def threshold_alone(self) -> Self:
        """Without limits, which another person's corrections may have widened."""
        return replace(self, area_limit=0, peak_limit=1.0, moved=(), false_alarms=0)

    def normalise(self, raw: np.ndarray) -> np.ndarray:
        """Raw map -> threshold units, float32: 1.0 is the threshold. The same for every image.

        Exactly what lies above the threshold lies above 1.0: rounding takes no pixel across it.
        """
        values, units = raw.reshape(-1), np.empty(raw.size, dtype=np.float32)
        for start in range(0, raw.size, _BLOCK):
            exact = values[start : start + _BLOCK].astype(np.float64)
            above = exact > self.threshold
            exact -= self.origin
            exact /= self.threshold - self.origin
            part = units[start : start + _BLOCK]
            part[:] = exact
            np.maximum(part, _ABOVE_ONE, out=part, where=above)
            np.minimum(part, np.float32(1), out=part, where=~above)
        return units.reshape(raw.shape)

    def limits(self, min_area: int = 1) -> Limits:
        return Limits(area=self.area_limit, peak=self.peak_limit, min_area=min_area)


def calibrate(
    maps: Sequence[np.ndarray], score: str, settings: MapSettings, target_fpr: float, block: int
) -> Calibration:
    """Fit a calibration on raw maps (H, W) of held-out normal regions. block: patch side in px of the original.

    Raises InspectGanError for a target rate that is not between 0 and 1, when there are too few blocks for it, or when
    all scores are equal.
    """
    values = np.concatenate([raw.ravel() for raw in maps])
    samples = independent_samples([(raw.shape[0], raw.shape[1]) for raw in maps], block)
    check_samples(samples, target_fpr)
    threshold = conformal_quantile(values, target_fpr, samples)
    lowest = float(values.min())
    origin = 0.0 if lowest >= 0 else float(np.median(values))
    if not threshold > max(origin, lowest):
        raise InspectGanError(
            f"score '{score}' is constant ({threshold:.6g}) on held-out normal material: the detector has collapsed or "
            f"was not trained; train longer or choose another score"
        )
    fitted = Calibration(
        score=score,
        **asdict(settings),
        target_fpr=target_fpr,
        threshold=threshold,
        origin=origin,
        samples=samples,
        interval=false_alarm_interval(samples, target_fpr),
        area_limit=0,
        peak_limit=1.0,
        pixels=len(values),
    )
    above = np.zeros(len(MOVED), dtype=np.int64)
    areas = np.zeros(len(MOVED), dtype=np.int64)
    peak = 1.0
    for raw in maps:
        units = fitted.normalise(raw)
        peak = max(peak, float(units.max()))
        for i, threshold in enumerate(MOVED):
            flagged = units > threshold
            above[i] += np.count_nonzero(flagged)
            areas[i] = max(areas[i], largest(flagged))
    return replace(
        fitted,
        area_limit=int(areas[len(MOVED) // 2]),
        peak_limit=peak,
        moved=tuple(zip((above / len(values)).tolist(), areas.tolist(), strict=True)),
    )


class CalibrationFile:
    """Calibrations of one run, one entry per score, map settings and target rate; missing ones are made on demand.

    weights: digest of those they belong to; entries of other weights, which the run had before it was trained longer,
    do not count. Several processes may make entries at once.
    """

    def __init__(self, path: Path, weights: str):
        """Raises InspectGanError when the file is damaged."""
        self._path = path
        self._weights = weights
        self._entries = self._read()

    def get(self, score: str, settings: MapSettings, target_fpr: float, make: Callable[[], Calibration]) -> Calibration:
        """The stored calibration, else what `make` returns, which is then stored; where the run is read-only, a warning
        says that it was not."""
        key = (score, settings, target_fpr)
        if key not in self._entries:
            self._entries[key] = make()
            try:
                self._store()
            except InspectGanError as error:
                cause = error.__cause__
                if not isinstance(cause, OSError) or cause.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                    raise
                log.warning("%s is read-only: this calibration cannot be kept", self._path.parent)
        return self._entries[key]

    def _store(self) -> None:
        with locked(self._path.with_name(f".{self._path.name}.lock")):
            remove_unfinished(self._path.parent)
            self._entries = {**self._read(), **self._entries}  # of other processes, too
            document = {"weights": self._weights, "calibrations": [asdict(entry) for entry in self._entries.values()]}
            atomic_text(self._path, json.dumps(document, indent=1) + "\n")

    def _read(self) -> dict[Key, Calibration]:
        if not self._path.is_file():
            return {}
        try:
            document = read_json(self._path)
            # The first format did not say whose they are.
            if document.get("weights", self._weights) != self._weights:
                return {}
            entries = [Calibration.read(entry) for entry in document["calibrations"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = " ".join(str(error).split())
            raise InspectGanError(f"{self._path} is damaged ({why}); delete it, it will be made again") from error
        return {(entry.score, entry.maps, entry.target_fpr): entry for entry in entries}
