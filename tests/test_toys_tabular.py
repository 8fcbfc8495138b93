"""Objectives and penalty distribution on rows of a table: files, splits, figures, trainings, the command."""

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import Tensor, nn

from inspect_gan.detector import Batch, Phase
from inspect_gan.errors import InspectGanError
from inspect_gan.objectives import Optimizer
from inspect_gan.tools.cli import main
from inspect_gan.toys import gaussian, tabular
from inspect_gan.toys.exchange import bare_detector, iterate
from inspect_gan.toys.rows import Split, Table, known_share, normal_positive, normal_split, read_odds, unlabelled_split
from inspect_gan.toys.side_by_side import seeded

X = np.arange(12, dtype=np.float64).reshape(4, 3)
Y = np.array([[0.0], [1.0], [0.0], [0.0]])


def odds(path: Path, **variables: Any) -> Path:
    savemat(path, variables)
    return path


# Files.


def test_rows_and_labels_of_an_odds_file(tmp_path: Path) -> None:
    for y in (Y, Y.ravel(), Y.astype(np.uint8)):
        table = read_odds(odds(tmp_path / "some.mat", X=X, y=y))
        assert table.x.dtype == torch.float32
        assert torch.equal(table.x, torch.tensor(X, dtype=torch.float32))
        assert table.anomalous.tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"X": X, "labels": Y}, "holds ['X', 'labels'], not the variables X and y"),
        ({"X": X, "y": Y[:3]}, "do not belong together"),
        ({"X": X[:, :, None] * np.ones(2), "y": Y}, "do not belong together"),
        ({"X": np.where(X == 5, np.nan, X), "y": Y}, "1 values that are not finite"),
        ({"X": X, "y": Y + 1}, "expected 1 (anomalous) and 0 (normal), both"),
        ({"X": X, "y": 0 * Y}, "expected 1 (anomalous) and 0 (normal), both"),
        ({"X": np.array([{"a": 1}], dtype=object), "y": Y}, "must hold real numbers"),
    ],
)
def test_a_file_with_other_contents_is_refused(tmp_path: Path, variables: dict[str, Any], message: str) -> None:
    path = odds(tmp_path / "some.mat", **variables)
    with pytest.raises(InspectGanError) as error:
        read_odds(path)
    assert str(path) in str(error.value) and message in str(error.value)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "not a MAT file"),
        (b"x,y\n1,2\n" * 40, "not a MAT file"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512), "save it anew with -v7"),
    ],
    ids=["missing", "empty", "csv", "7.3"],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, contents: bytes | None, message: str) -> None:
    path = tmp_path / "some.mat"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(InspectGanError) as error:
        read_odds(path)
    assert str(path) in str(error.value) and message in str(error.value)


# Splits. The first attribute of a row is its number, the second is the same everywhere, odd rows are anomalous.


def numbered(n: int, anomalous: Callable[[Tensor], Tensor] = lambda number: number % 2 == 1) -> Table:
    number = torch.arange(n)
    return Table(torch.stack([number.float(), torch.full((n,), 0.1)], dim=1), anomalous(number))


def numbers_of(split: Split, table: Table) -> tuple[set[int], set[int]]:
    """Which rows train and which test: standardised by the same straight line, they keep their order."""
    together = torch.cat([split.train[:, 0], split.test[:, 0]])
    step = (together.max() - together.min()) / (len(table.x) - 1)
    number = ((together - together.min()) / step).round().int().tolist()
    return set(number[: len(split.train)]), set(number[len(split.train) :])


def test_unlabelled_rows_train_as_they_fall() -> None:
    table = numbered(100)
    with seeded(0):
        split = unlabelled_split(table)
    train, test = numbers_of(split, table)
    assert (len(train), len(test)) == (74, 26)
    assert train | test == set(range(100))
    assert 20 < sum(number % 2 for number in train) < 54
    assert split.share == Fraction(1, 2)


def test_only_normal_rows_train() -> None:
    table = numbered(100, lambda number: number % 5 == 1)
    with seeded(0):
        split = normal_split(table)
    assert len(split.test) == 50
    assert len(split.train) == 50 - (20 - split.anomalous.sum())
    assert split.share == Fraction(1, 5)


@pytest.mark.parametrize("kind", [unlabelled_split, normal_split])
def test_rows_are_standardised_by_those_that_train_and_keep_their_labels(kind: Callable[[Table], Split]) -> None:
    table = numbered(60, lambda number: number >= 30)  # anomalous rows are the larger ones
    with seeded(1):
        split = kind(table)
    torch.testing.assert_close(split.train.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(split.train.std(0, correction=0), torch.tensor([1.0, 0.0]))
    assert split.test[split.anomalous, 0].min() > split.test[~split.anomalous, 0].max()
    assert split.test[:, 1].abs().max() < 1e-6


def test_a_table_with_too_few_anomalous_rows_is_refused() -> None:
    table = numbered(50, lambda number: number == 0)
    refused = 0
    for seed in range(20):
        with seeded(seed):
            try:
                assert unlabelled_split(table).anomalous.sum() == 1
            except InspectGanError as error:
                assert "1 anomalous rows of 50 cannot be split" in str(error)
                refused += 1
    assert 8 < refused < 20


# Figures. Of 20 rows, 4 are anomalous; by score, ranks 1 and 3 are, and the last two.

RANKED = np.array([True, False, True] + [False] * 15 + [True, True])
SCORES = np.linspace(1, 0, 20)


def test_figures_of_the_normal_class() -> None:
    # Two flagged, one rightly: 15 of 18 that are called normal are, of 16 normal ones.
    assert normal_positive(RANKED, SCORES) == pytest.approx(
        {"precision": 15 / 18, "recall": 15 / 16, "f1": 30 / 34, "accuracy": 16 / 20}
    )


@pytest.mark.parametrize(
    ("share", "flagged", "hits"), [(Fraction(1, 5), 4, 2), (Fraction(7, 100), 2, 1), (Fraction(1, 10), 2, 1)]
)
def test_figures_at_the_known_share(share: Fraction, flagged: int, hits: int) -> None:
    assert known_share(RANKED, SCORES, share) == pytest.approx(
        {"precision": hits / flagged, "recall": hits / 4, "f1": 2 * hits / (flagged + 4)}
    )


# Trainings.


class Recorder(nn.Module):
    """Two networks, of which the first makes two steps; losses are their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(1, 1), nn.Linear(1, 1)
        self.events: list[tuple[Any, ...]] = []

    def phase(self, name: str, repeats: int) -> tuple[Phase, Callable[[Tensor], None]]:
        def loss(batch: Batch) -> dict[str, Tensor]:
            trained = [own for own, network in self.named_children() if network.weight.requires_grad]
            self.events.append(("loss", name, trained, batch.x.item()))
            return {"total": torch.tensor(0.0), "other": batch.x.sum()}

        phase = Phase(name, (name,), loss, Optimizer(), repeats, lambda losses: self.events.append(("after", name)))
        return phase, lambda total: self.events.append(("step", total.item()))


def test_an_iteration_runs_every_phase_with_fresh_batches_for_its_repeats() -> None:
    recorder, drawn = Recorder(), iter(torch.arange(5.0))
    phases = [recorder.phase("first", 2), recorder.phase("second", 1)]
    iterate(recorder, phases, lambda: Batch(next(drawn)))
    assert recorder.events == [
        *[("loss", "first", ["first"], 0.0), ("step", 0.0), ("after", "first")],
        *[("loss", "first", ["first"], 1.0), ("step", 0.0), ("after", "first")],
        *[("loss", "second", ["second"], 1.0), ("step", 0.0), ("after", "second")],
    ]


@pytest.fixture
def short_search(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Detectors made meanwhile; searches of a few steps."""
    made: list[Any] = []

    def bare(name: str, settings: dict[str, Any], objective: Any) -> Any:
        made.append(bare_detector(name, {**settings, **({"s_test_steps": 5} if name == "anogan" else {})}, objective))
        return made[-1]

    monkeypatch.setattr(tabular, "bare_detector", bare)
    return made


def blob(n_train: int = 80, n_test: int = 20, n: int = 4) -> Split:
    with seeded(0):
        return Split(torch.randn(n_train, n), torch.randn(n_test, n), np.arange(n_test) < 5, Fraction(1, 4))


@pytest.mark.parametrize("label", gaussian.RIVALS)
def test_every_objective_makes_a_step_on_rows(label: str, short_search: list[Any]) -> None:
    scores = []
    for steps in (0, 1):
        with seeded(3):
            scores.append(tabular.score_objective(label, blob(), steps)["s_test"])
    detector = short_search[-1]
    assert scores[0].shape == (20,) and np.isfinite(scores).all()
    assert not np.array_equal(*scores)
    assert detector.objective.name == gaussian.RIVALS[label][0]
    assert detector.generate(7).shape == (7, 4) and detector.generate(7).abs().max() <= 1


def test_the_four_objectives_of_the_paper_take_part() -> None:
    assert {"minimax", "lsgan", "wgan", "mim"} <= set(tabular.RIVALS) <= set(gaussian.RIVALS)


def test_s_test_is_the_formula_of_the_paper(short_search: list[Any]) -> None:
    split = blob()
    with seeded(3):
        scores = tabular.score_objective("minimax", split, 2)["s_test"]
    detector = short_search[-1].eval()
    with torch.no_grad():
        least = detector._least_j(split.test)
        doubt = nn.functional.softplus(-detector.discriminator(split.test))
    np.testing.assert_allclose(scores, 0.95 * least + 0.05 * doubt, rtol=1e-5)


@pytest.mark.parametrize("label", tabular.CYCLES)
def test_every_cycle_model_makes_a_step_on_rows(label: str, short_search: list[Any]) -> None:
    found = []
    for steps in (0, 1):
        with seeded(3):
            found.append(tabular.score_cycle(label, blob(), steps))
    for name in tabular.CYCLE_SCORES:
        assert found[0][name].shape == (20,) and np.isfinite(found[1][name]).all()
        assert not np.array_equal(found[0][name], found[1][name])
    assert (short_search[-1].discriminator_zz is not None) == (label == "alad")


def test_penalty_samples_have_the_shape_of_rows(short_search: list[Any]) -> None:
    """All variants start from the same weights; from the first step on the penalty makes the difference."""
    scores = {}
    for label in [name for name in tabular.CYCLES if name != "alad"]:
        for steps in (0, 3):
            with seeded(3):
                scores[label, steps] = tabular.score_cycle(label, blob(), steps)["features"]
    none, by_d, by_both = (f"rcgan, penalty {name}" for name in ("none", "discriminator", "eq4"))
    assert np.array_equal(scores[none, 0], scores[by_d, 0]) and np.array_equal(scores[none, 0], scores[by_both, 0])
    assert not np.allclose(scores[none, 3], scores[by_d, 3], rtol=1e-4)
    assert not np.allclose(scores[by_d, 3], scores[by_both, 3], rtol=1e-4)


# The command.


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """100 rows around the origin, 20 of them ten standard deviations away."""
    random = np.random.default_rng(0)
    y = np.arange(100) % 5 == 0
    return odds(tmp_path / "far.mat", X=random.normal(size=(100, 3)) + 10 * y[:, None], y=y[:, None] * 1.0)


def test_command_writes_the_numbers(
    table: Path, tmp_path: Path, short_search: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular, "REPEATS", 2)
    short = {"mim": ("mim",), "rcgan": ("alad", "rcgan, penalty eq4")}
    monkeypatch.setattr(
        tabular, "PROTOCOLS", {name: replace(tabular.PROTOCOLS[name], labels=labels) for name, labels in short.items()}
    )
    found = []
    for out in ("a", "b"):
        with pytest.raises(SystemExit) as stop:
            main(["toys", "--table", str(table), "--out", str(tmp_path / out), "--seed", "4", "--steps", "2"])
        assert stop.value.code in (0, None)
        found.append(json.loads((tmp_path / out / tabular.NUMBERS).read_text(encoding="utf-8")))
    numbers = found[0]
    assert found[1] == numbers
    assert [path.name for path in (tmp_path / "a").iterdir()] == [tabular.NUMBERS]
    assert (numbers["file"], numbers["rows"], numbers["attributes"], numbers["anomalous"]) == ("far.mat", 100, 3, 20)
    assert (numbers["seeds"], numbers["steps"]) == ([4, 5], 2)
    assert {name: tuple(numbers[name]) for name in short} == {
        name: (*labels, tabular.BASELINE) for name, labels in short.items()
    }
    assert set(numbers["mim"]["mim"]["s_test"]) == {
        *("auroc", "average_precision", "precision", "recall", "f1", "accuracy")
    }
    assert set(numbers["rcgan"]["alad"]) == set(tabular.CYCLE_SCORES)
    assert numbers["rcgan"][tabular.BASELINE]["norm"]["auroc"] == {"mean": 1.0, "std": 0.0, "replicas": [1.0, 1.0]}


def test_command_refuses_a_file_of_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["toys", "--table", str(tmp_path / "none.mat"), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert "none.mat: cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
