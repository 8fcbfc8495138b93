"""Errors meant for the person at the keyboard: one sentence that names the file, the value and the remedy."""


class InspectGanError(Exception):
    """Bad usage or bad input. Commands print the message without a traceback and exit with `exit_code`."""

    exit_code = 2


class UnhealthyTraining(InspectGanError):
    """Training produced numbers that no score can be built on (NaN, infinite loss)."""

    exit_code = 3
