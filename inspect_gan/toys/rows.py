"""Rows of a table in place of points: files, splits and figures of the papers' tabular experiments."""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inspect_gan.errors import InspectGanError
from inspect_gan.evaluation.metrics import auroc, average_precision, precision_recall_f1, top_k

UNLABELLED_SHARE = 0.74  # of the rows that train in She & Fan: 2800 of 3772, 1360 of 1831, 2200 of 3062
NORMAL_SHARE = 0.5  # in Yang et al., of which the normal rows train
# She & Fan do not say how they set their threshold. Precision and recall of their Table IV (Thyroid) follow when 8 to
# 10 % of the test rows are flagged.
FLAGGED_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Table:
    """x: (N, n) float32; anomalous: (N,) bool."""

    x: Tensor
    anomalous: Tensor


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to train with, (N, n), and to test with, in standard deviations of the former; anomalous: of the latter.

    share: of anomalous rows in the whole table.
    """

    train: Tensor
    test: Tensor
    anomalous: np.ndarray
    share: Fraction


def read_odds(path: Path) -> Table:
    """A MAT file of the ODDS collection: X (N, n), and y (N,) or (N, 1), 1 for anomalous rows and 0 for normal ones.

    Raises InspectGanError when the file cannot be read, or holds other variables or values.
    """
    from scipy.io import loadmat

    try:
        found = loadmat(str(path), appendmat=False)
    except NotImplementedError as error:  # HDF5 inside
        raise InspectGanError(f"{path}: written by MATLAB 7.3; save it anew with -v7") from error
    except OSError as error:
        raise InspectGanError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise InspectGanError(f"{path}: not a MAT file ({error}); take one of the ODDS collection") from error
    if not {"X", "y"} <= found.keys():
        names = [name for name in found if not name.startswith("__")]
        raise InspectGanError(f"{path}: holds {names}, not the variables X and y of the ODDS collection")
    try:
        x, y = np.asarray(found["X"], np.float32), np.asarray(found["y"], np.float32).ravel()
    except (TypeError, ValueError) as error:
        raise InspectGanError(f"{path}: X and y must hold real numbers ({error})") from error
    if x.ndim != 2 or len(x) != len(y):
        raise InspectGanError(f"{path}: X {x.shape} and y {y.shape} do not belong together, expected (N, n) and (N,)")
    if not np.isfinite(x).all():
        raise InspectGanError(f"{path}: X has {np.sum(~np.isfinite(x))} values that are not finite; fill them in")
    if set(np.unique(y)) != {0.0, 1.0}:
        raise InspectGanError(f"{path}: y holds {np.unique(y)[:5]}, expected 1 (anomalous) and 0 (normal), both")
    return Table(torch.from_numpy(x), torch.from_numpy(y == 1))


def unlabelled_split(table: Table) -> Split:
    """She & Fan: rows of both kinds train, as they fall. Random numbers are PyTorch's.

    Raises InspectGanError when the rows left for the test are all of one kind.
    """
    order = torch.randperm(len(table.x))
    count = round(UNLABELLED_SHARE * len(order))
    return _split(table, order[:count], order[count:])


def normal_split(table: Table) -> Split:
    """Yang et al.: the normal rows of a random half train, the other half tests. Raises as above."""
    order = torch.randperm(len(table.x))
    half = round(NORMAL_SHARE * len(order))
    train = order[:half]
    return _split(table, train[~table.anomalous[train]], order[half:])


def _split(table: Table, train: Tensor, test: Tensor) -> Split:
    anomalous = table.anomalous[test].numpy()
    if len(train) < 2 or anomalous.all() or not anomalous.any():
        raise InspectGanError(
            f"{int(table.anomalous.sum())} anomalous rows of {len(table.x)} cannot be split: training needs normal "
            f"rows and the test both kinds; take a larger table"
        )
    rows = table.x[train]
    deviation, mean = torch.std_mean(rows, dim=0, correction=0)
    deviation[rows.amin(0) == rows.amax(0)] = 1  # which the rounding of the mean can make a little more than 0
    return Split(
        (rows - mean) / deviation,
        (table.x[test] - mean) / deviation,
        anomalous,
        Fraction(int(table.anomalous.sum()), len(table.x)),
    )


def ranking(anomalous: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """What needs no threshold. anomalous: (N,) bool, scores: (N,)."""
    return {"auroc": auroc(anomalous, scores), "average_precision": average_precision(anomalous, scores)}


def normal_positive(anomalous: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Figures of She & Fan, Tables III to V, where *normal* is the positive class; the `FLAGGED_SHARE` of the rows with
    the highest scores is called anomalous. Where anomalies are rare, the figures are high for any score whatever."""
    flagged = top_k(scores, round(FLAGGED_SHARE * len(scores)))
    figures = precision_recall_f1(~anomalous, ~flagged)._asdict()
    return {**figures, "accuracy": float(np.mean(anomalous == flagged))}


def known_share(anomalous: np.ndarray, scores: np.ndarray, share: Fraction) -> dict[str, float]:
    """Figures of Yang et al., Table 1, of the anomalous class: flagged are as many rows as the known share tells."""
    return precision_recall_f1(anomalous, top_k(scores, math.ceil(share * len(scores))))._asdict()
