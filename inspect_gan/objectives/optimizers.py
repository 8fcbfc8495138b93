"""PyTorch's optimisers without PyTorch's compiler.

Every optimiser of PyTorch tells the compiler where it must not look, and imports it to do so: 150 MB and a CPU second
at the start of a training that compiles nothing.
"""

import inspect
from functools import cache
from typing import TypeVar

import torch

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)
GUARDED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


@cache
def light(kind: type[Kind]) -> type[Kind]:
    """A subclass of an optimiser class, the same to the bit, that leaves the compiler alone."""
    # What PyTorch wraps keeps what is wrapped; a method that is not wrapped stays as it is.
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in GUARDED}
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), {**methods, "step": step})
