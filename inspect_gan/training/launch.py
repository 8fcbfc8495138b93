"""Device and precision of a training: Lightning Fabric's, or what it does on one CPU."""

import logging
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from inspect_gan.errors import InspectGanError
from inspect_gan.hardware import Resolved


class Launch(Protocol):
    """The part of `lightning_fabric.Fabric` that the training loop uses."""

    @property
    def device(self) -> torch.device: ...
    def autocast(self) -> AbstractContextManager: ...
    def backward(self, loss: Tensor) -> None: ...
    def clip_gradients(
        self, module: nn.Module, optimizer: Any, *, max_norm: float, error_if_nonfinite: bool
    ) -> Any: ...
    def setup_optimizers(self, optimizer: torch.optim.Optimizer) -> Any: ...


def launch(device: str, precision: Resolved) -> Launch:
    """Raises InspectGanError for 16-mixed on a CPU."""
    if device != "cpu":
        return fabric(device, precision)
    if precision == "16-mixed":
        raise InspectGanError("training.precision=16-mixed needs a GPU: use bf16-mixed or 32-true on a CPU")
    return OneCPU(precision)


def fabric(device: str, precision: Resolved) -> Launch:
    from lightning_fabric import Fabric

    # Fabric announces its precision plug-in; the run's configuration already records it.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return cast(Launch, Fabric(accelerator=device, devices=1, precision=precision))


class OneCPU:
    """Fabric on one CPU. The import of Fabric takes as long as that of torch, and 150 MB."""

    device = torch.device("cpu")

    def __init__(self, precision: Resolved):
        self._bf16 = precision == "bf16-mixed"

    def autocast(self) -> AbstractContextManager:
        return torch.autocast("cpu", torch.bfloat16, enabled=self._bf16)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip_gradients(self, module: nn.Module, optimizer: Any, *, max_norm: float, error_if_nonfinite: bool) -> Any:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        return nn.utils.clip_grad_norm_(parameters, max_norm, error_if_nonfinite=error_if_nonfinite)

    def setup_optimizers(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        return optimizer


def scaler_state(launched: Launch) -> dict[str, Any]:
    """State of the gradient scaler of 16-mixed, empty without one."""
    return {} if isinstance(launched, OneCPU) else cast(Any, launched).strategy.precision.state_dict()


def load_scaler_state(launched: Launch, state: dict[str, Any]) -> None:
    if not isinstance(launched, OneCPU):
        cast(Any, launched).strategy.precision.load_state_dict(state)
