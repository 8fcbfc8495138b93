"""Errors meant for the person at the keyboard: one sentence that names the file, the value and the remedy."""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OBEYED = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, surrogates, ends of lines
_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def printable(text: object) -> str:
    """`text` in one line as it can be shown anywhere.

    File names and settings may hold what a terminal obeys (escape sequences, ends of lines), what turns the text round
    (bidirectional overrides), or bytes that are no UTF-8: all of it is escaped as in Python, `\\x1b`.
    """
    text = str(text)
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(letter: str) -> str:
    obeyed = unicodedata.category(letter) in _OBEYED or unicodedata.bidirectional(letter) in _TURNING
    return letter.encode("unicode_escape").decode("ascii") if obeyed else letter


class InspectGanError(Exception):
    """Bad usage or bad input. Commands print the message without a traceback and exit with `exit_code`."""

    exit_code = 2

    def __init__(self, message: str):
        super().__init__(printable(message))


class UnhealthyTraining(InspectGanError):
    """Training produced numbers that no score can be built on (NaN, infinite loss)."""

    exit_code = 3


class CannotResume(InspectGanError):
    """A run's checkpoint is missing, damaged, or of another training than the one that is to go on."""


def first_line(error: BaseException) -> str:
    """What an error says in its first line; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """An operating system's refusal to write `path`, as InspectGanError."""
    try:
        yield
    except OSError as error:
        why = error.strerror or f"is the disk full? {error}"  # NumPy only tells how many bytes it could write
        raise InspectGanError(f"{path}: cannot be written ({why}); free some space or choose another folder") from error
