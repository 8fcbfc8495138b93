"""Combining scores of different scale."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from inspect_gan.config import make_config
from inspect_gan.detector import SHARED_SCORES
from inspect_gan.patches.grid import Grid
from inspect_gan.patches.stitch import Stitcher
from inspect_gan.scoring.fusion import Mixture, spread

MAPS = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
NUMBERS = torch.tensor([3.0, 5.0, 4.0, 9.0, 1.0, 2.0])


def of(maps: Tensor = MAPS, numbers: Tensor = NUMBERS) -> Any:
    return SimpleNamespace(maps=maps, numbers=numbers)


BOTH = Mixture("", ((0.5, lambda v: v.maps), (2.0, lambda v: v.numbers)))


def test_spread_is_mean_and_reciprocal_deviation() -> None:
    assert spread(torch.tensor([1.0, 3.0])).tolist() == [2.0, 1.0]
    assert spread(torch.tensor([0.0, 8.0])).tolist() == [4.0, 0.25]


@pytest.mark.parametrize("values", [[2.0, 2.0], [0.0, 0.0], [1e6, 1e6 + 0.1], [5.0]])
def test_what_does_not_vary_counts_nothing(values: list[float]) -> None:
    assert spread(torch.tensor(values))[1] == 0


def test_parts_have_mean_0_and_their_weight_as_deviation() -> None:
    spreads = BOTH.spreads(of())
    for number, weight in ((0, 0.5), (1, 2.0)):
        only = Mixture("", (BOTH.parts[number],)).compute(of(), spreads[number : number + 1])
        assert only.mean().item() == pytest.approx(0, abs=1e-6)
        assert only.std(correction=0).item() == pytest.approx(weight, rel=1e-5)


def test_a_number_counts_in_every_pixel_of_its_patch() -> None:
    mixed = BOTH.compute(of(), torch.tensor([[0.0, 1.0], [1.0, 0.5]]))
    assert torch.allclose(mixed, 0.5 * MAPS + (NUMBERS - 1)[:, None, None, None])


def test_numbers_alone_give_a_number() -> None:
    twice = Mixture("", ((1.0, lambda v: v.numbers), (3.0, lambda v: v.numbers)))
    assert torch.allclose(twice.compute(of(), torch.tensor([[0.0, 1.0]] * 2)), 4 * NUMBERS)


def test_a_patch_is_mixed_alike_in_any_company() -> None:
    spreads = BOTH.spreads(of())
    alone = BOTH.compute(of(MAPS[2:3], NUMBERS[2:3]), spreads)
    assert torch.equal(alone, BOTH.compute(of(), spreads)[2:3])


def test_dire_by_hand() -> None:
    """Half the residual and half the doubt, each in units of its own spread; overlapping patches are averaged."""
    dire = SHARED_SCORES["dire"]
    assert isinstance(dire, Mixture)
    x, x_rec = torch.zeros(4, 1, 32, 32), torch.full((4, 1, 32, 32), 0.2)
    view = SimpleNamespace(x=x, x_rec=x_rec, doubt=torch.tensor([0.0, 1.0, 2.0, 3.0]))
    maps = dire.compute(view, torch.tensor([[0.1, 10.0], [1.0, 2.0]]))
    assert maps.shape == (4, 1, 32, 32)
    assert torch.allclose(maps[:, 0, 0, 0], 0.5 * (0.2 - 0.1) * 10 + (view.doubt - 1))
    grid = Grid(32, 56, 32, 8)
    stitcher = Stitcher(grid, "uniform")
    stitcher.add(0, maps[:, 0].numpy())
    assert stitcher.finalize()[0, 24] == pytest.approx(maps[:, 0, 0, 0].mean().item())


def test_fitted_spreads_travel_with_the_weights() -> None:
    def built() -> Any:
        return make_config({"detector": {"name": "ganomaly", "nz": 4, "width": 2}}).build(1).eval()

    torch.manual_seed(0)
    fitted, fresh = built(), built()
    x = torch.rand(16, 1, 32, 32) * 2 - 1
    before = fitted.scores(x, ["dire"]).maps["dire"]
    fitted.fit_scores(fitted.view_class(fitted, x))
    after = fitted.scores(x, ["dire"]).maps["dire"]
    assert not torch.allclose(before, after)
    # The outputs of a fresh discriminator hardly vary: their mean is known to few digits of their deviation.
    assert after.mean().item() == pytest.approx(0, abs=1e-2)
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh.scores(x, ["dire"]).maps["dire"], after)
