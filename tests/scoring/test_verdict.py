import itertools

import pytest

from inspect_gan.scoring.verdict import Verdict, worst


def test_order_is_by_severity_not_by_alphabet():
    ordered = [Verdict.OK, Verdict.REVIEW, Verdict.NG, Verdict.ERROR]
    for (i, one), (j, other) in itertools.product(enumerate(ordered), repeat=2):
        assert (one < other, one <= other, one > other, one >= other) == (i < j, i <= j, i > j, i >= j)
    assert sorted(reversed(ordered)) == ordered


def test_worst():
    assert worst([]) is Verdict.OK
    assert worst([Verdict.REVIEW, Verdict.NG, Verdict.OK]) is Verdict.NG
    assert worst(iter([Verdict.REVIEW, Verdict.OK])) is Verdict.REVIEW


def test_is_its_own_word():
    assert str(Verdict.NG) == "NG"
    assert Verdict("REVIEW") is Verdict.REVIEW
    assert Verdict.NG > "OK"
    with pytest.raises(ValueError):
        assert Verdict.NG > "good"
