"""The four words a report may say about an image or a region."""

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """Ordered from harmless to serious, so `max` of several verdicts is the worst one.

    OK: nothing beyond what held-out good material showed. REVIEW: a region to be looked at by a person.
    NG: "no good", a defect. ERROR: the image could not be inspected, so nothing is known about it.
    """

    OK = "OK"
    REVIEW = "REVIEW"
    NG = "NG"
    ERROR = "ERROR"

    @property
    def severity(self) -> int:
        return _SEVERITY[self]

    # StrEnum inherits the alphabetical order of str, in which NG < OK.
    def __lt__(self, other: str) -> bool:
        return self.severity < Verdict(other).severity

    def __le__(self, other: str) -> bool:
        return self.severity <= Verdict(other).severity

    def __gt__(self, other: str) -> bool:
        return self.severity > Verdict(other).severity

    def __ge__(self, other: str) -> bool:
        return self.severity >= Verdict(other).severity


_SEVERITY = {verdict: severity for severity, verdict in enumerate(Verdict)}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The most serious of `verdicts`, OK when there are none."""
    return max(verdicts, default=Verdict.OK)
