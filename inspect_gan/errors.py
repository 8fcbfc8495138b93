"""Errors meant for the person at the keyboard: one sentence that names the file, the value and the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InspectGanError(Exception):
    """Bad usage or bad input. Commands print the message without a traceback and exit with `exit_code`."""

    exit_code = 2


class UnhealthyTraining(InspectGanError):
    """Training produced numbers that no score can be built on (NaN, infinite loss)."""

    exit_code = 3


class CannotResume(InspectGanError):
    """A run's checkpoint is missing, damaged, or of another training than the one that is to go on."""


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """An operating system's refusal to write `path`, as InspectGanError."""
    try:
        yield
    except OSError as error:
        why = error.strerror or f"is the disk full? {error}"  # NumPy only tells how many bytes it could write
        raise InspectGanError(f"{path}: cannot be written ({why}); free some space or choose another folder") from error
