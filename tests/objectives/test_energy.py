"""The margin objective and the adapter from energies to raw outputs."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from inspect_gan.objectives import objectives
from inspect_gan.objectives.energy import EnergyAdapter, EnergyMargin, EnergyMarginSettings, RunningMean

REAL = torch.tensor([4.0, 6.0])
FAKE = torch.tensor([15.0, 25.0])


def margin_loss(**settings: object) -> EnergyMargin:
    return EnergyMargin(EnergyMarginSettings.model_validate(settings))


# The objective.


@pytest.mark.parametrize(
    ("hinge_on", "d", "hinges"),
    # Samples: 5 + mean of max(0, 20 - 15) and max(0, 20 - 25). Batch: the mean energy is the margin itself.
    [("sample", 7.5, [5.0, 0.0]), ("batch", 5.0, [0.0, 0.0])],
)
def test_losses(hinge_on: str, d: float, hinges: list[float]) -> None:
    objective = margin_loss(margin=20.0, hinge_on=hinge_on)
    assert objective.d_loss(REAL, FAKE).item() == pytest.approx(d)
    assert objective.d_fake(FAKE).tolist() == hinges
    assert torch.equal(objective.d_real(REAL), REAL)
    assert objective.g_loss(FAKE).mean().item() == pytest.approx(20.0)


def test_hinge_on_the_batch_pushes_every_sample() -> None:
    for hinge_on, wanted in (("sample", [-1.0, 0.0]), ("batch", [-0.5, -0.5])):
        fake = torch.tensor([3.0, 21.0], requires_grad=True)
        margin_loss(margin=20.0, hinge_on=hinge_on).d_fake(fake).sum().backward()
        assert fake.grad is not None
        # The batch hinge is the same number for both, so its sum counts the mean twice.
        scale = 0.5 if hinge_on == "batch" else 1.0
        assert (fake.grad * scale).tolist() == wanted


def test_encoder_pushes_real_samples_up_to_the_margin() -> None:
    assert margin_loss(margin=20.0).e_loss(torch.tensor([4.0, 26.0])).tolist() == [16.0, 0.0]


def test_margin() -> None:
    assert objectives.get("ebgan") is EnergyMargin
    assert EnergyMargin().margin == 20.0
    assert margin_loss(margin=3.0).margin == 3.0
    objective = margin_loss()
    objective.margin = torch.tensor(16.0)
    assert objective.d_fake(FAKE).tolist() == [1.0, 0.0]
    with pytest.raises(ValidationError):
        margin_loss(margin=0.0)


# Running statistics.


def test_running_mean() -> None:
    mean = RunningMean()
    assert mean.or_else(torch.tensor(7.0)).item() == 7.0
    for k in range(1, 101):  # all alike at first
        mean.observe(torch.tensor(float(k)))
        assert mean.or_else(torch.tensor(7.0)).item() == pytest.approx((k + 1) / 2, rel=1e-5)
    before = mean.value.item()
    mean.observe(torch.tensor(1000.0))  # then 0.99 of the old, 0.01 of the new
    assert mean.value.item() == pytest.approx(0.99 * before + 10.0)


def test_running_mean_is_part_of_the_state() -> None:
    mean, restored = RunningMean(), RunningMean()
    mean.observe(torch.tensor(3.0))
    restored.load_state_dict(mean.state_dict())
    assert restored.or_else(torch.tensor(7.0)).item() == 3.0


# The adapter.


def test_standardises_by_what_it_has_seen() -> None:
    adapter = EnergyAdapter()
    adapter.observe(REAL, FAKE)  # mean 12.5, variance (72.25 + 42.25 + 6.25 + 156.25) / 4
    deviation = (277 / 4) ** 0.5
    assert torch.allclose(adapter(torch.tensor([12.5, 0.0])), torch.tensor([0.0, 12.5 / deviation]))


def test_standardises_by_the_batch_before_it_has_seen_any() -> None:
    u = EnergyAdapter()(FAKE)
    assert u.tolist() == pytest.approx([1.0, -1.0])
    assert EnergyAdapter()(torch.full((3,), 5.0)).tolist() == [0.0, 0.0, 0.0]


def test_low_energies_are_real() -> None:
    adapter = EnergyAdapter()
    adapter.observe(REAL, FAKE)
    u = adapter(torch.linspace(0, 30, 50))
    assert (u.diff() < 0).all()


def test_statistics_are_constants_for_the_gradient() -> None:
    def gradient(adapter: EnergyAdapter) -> Tensor:
        energy = torch.tensor([3.0, 9.0], requires_grad=True)
        adapter(energy).sum().backward()
        assert energy.grad is not None
        return energy.grad

    fresh, fitted = EnergyAdapter(), EnergyAdapter()
    assert gradient(fresh).tolist() == pytest.approx([-1 / 3, -1 / 3])
    real = REAL.clone().requires_grad_()
    fitted.observe(real, FAKE)
    assert not fitted.mean.value.requires_grad
    assert gradient(fitted).tolist() == pytest.approx([-((4 / 277) ** 0.5)] * 2)


def test_scoring_does_not_change_the_statistics() -> None:
    adapter = EnergyAdapter()
    adapter.observe(REAL, FAKE)
    before = {name: value.clone() for name, value in adapter.state_dict().items()}
    adapter(torch.tensor([100.0, 200.0]))
    assert all(torch.equal(value, before[name]) for name, value in adapter.state_dict().items())
