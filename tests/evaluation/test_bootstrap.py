from collections.abc import Callable, Mapping

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from inspect_gan.evaluation.bootstrap import bootstrap
from inspect_gan.evaluation.curves import ScoreCurve
from inspect_gan.evaluation.defects import Defects
from inspect_gan.evaluation.tally import Estimate, Level


def images(count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images whose defects are found unequally well."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        mask = np.zeros((12, 20), dtype=bool)
        mask[2:5, 3:7] = True
        made.append((rng.normal(size=mask.shape).round(2) + rng.uniform(0, 3) * mask, mask))
    return made


def curves(samples: list[tuple[np.ndarray, np.ndarray]]) -> list[ScoreCurve]:
    made = []
    for scores, mask in samples:
        curve = ScoreCurve()
        curve.update(scores, mask, Defects(mask).shares_of_pixels())
        made.append(curve)
    return made


def interval(samples: list[tuple[np.ndarray, np.ndarray]], **options: int) -> Mapping[str, tuple[float, float]]:
    pooled, made = ScoreCurve(), curves(samples)
    for curve in made:
        pooled.merge(curve)
    values = {"auroc": pooled.auroc(), "ap": pooled.average_precision(), "aupro": pooled.aupro()}
    return bootstrap(made, values, **options)


def test_interval_equals_that_of_resampled_images() -> None:
    samples = images(8)
    found = interval(samples, replicates=300, seed=1)
    rng = np.random.default_rng(1)
    values = []
    drawn = [rng.multinomial(8, np.full(8, 1 / 8), size=50) for _ in range(6)]
    for weights in np.concatenate(drawn):
        chosen = [samples[i] for i in np.repeat(np.arange(8), weights)]
        scores, labels = (np.concatenate([pair[part].ravel() for pair in chosen]) for part in (0, 1))
        values.append((roc_auc_score(labels, scores), average_precision_score(labels, scores)))
    low, high = np.quantile(values, [0.025, 0.975], axis=0)
    assert found["auroc"] == pytest.approx((low[0], high[0]), abs=2e-3)
    assert found["ap"] == pytest.approx((low[1], high[1]), abs=1e-2)
    assert 0 <= found["aupro"][0] < found["aupro"][1] <= 1


@pytest.mark.parametrize("change", [lambda z: z, lambda z: z + 2, lambda z: z + 10, np.exp])
def test_the_interval_is_that_of_exact_counts_wherever_zero_lies(
    change: Callable[[np.ndarray], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Around zero float32 spends bins on few scores, and those that are left are coarse."""
    rng = np.random.default_rng(1)
    mask = np.zeros((64, 64), dtype=bool)
    mask[20:28, 20:28] = mask[40:48, 50:58] = True
    samples = [(rng.normal(size=mask.shape).round(3) + 2 * mask, mask) for _ in range(20)]

    def estimates(change: Callable[[np.ndarray], np.ndarray]) -> dict[str, Estimate]:
        level = Level(None)
        for curve in curves([(change(scores), mask) for scores, mask in samples]):
            level.add(curve)
        return level.estimates("auroc", "ap", "aupro")

    found = estimates(change)
    for module in ("bootstrap", "tally"):
        monkeypatch.setattr(f"inspect_gan.evaluation.{module}.IMAGE_BINS", 1 << 14)
    for name, exact in estimates(lambda z: z + 10).items():
        assert found[name].low <= found[name].value <= found[name].high
        assert found[name][:3] == pytest.approx(exact[:3], abs=0.05 * (exact.high - exact.low))


def test_more_images_narrow_the_interval_and_equal_ones_close_it() -> None:
    def width(samples: list[tuple[np.ndarray, np.ndarray]]) -> float:
        low, high = interval(samples)["auroc"]
        return high - low

    assert width(images(80)) < 0.6 * width(images(8))
    assert width(images(1) * 5) == pytest.approx(0)


def test_one_image_or_no_defect_has_no_interval() -> None:
    assert np.isnan(interval(images(1))["auroc"]).all()
    normal = [(scores, np.zeros_like(mask)) for scores, mask in images(4)]
    assert np.isnan(interval(normal)["ap"]).all()
    some = interval([*normal, *images(1)])  # replicates without a defect are left out
    assert np.isfinite(list(some.values())).all()
