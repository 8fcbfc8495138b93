"""The journal of an inspection: nothing lost, nothing taken for finished that is not."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from inspect_gan.errors import InspectGanError
from inspect_gan.reporting.journal import Journal, stamp
from inspect_gan.reporting.tables import Inspection

HEADER = {"calibration": {"threshold": 0.1 + 0.2, "interval": (0.0, 1.0)}}
Build = Callable[..., Inspection]


@pytest.fixture
def finished(tmp_path: Path, inspection: Build) -> list[Inspection]:
    """Three inspections whose images and files exist; the second image could not be read."""
    found = [
        inspection("a.png", map_max=float(np.float32(1.7)), seconds=1 / 3),
        Inspection(image=tmp_path / "images" / "b.png", seconds=0.0, error="b.png: is not a \\udc80 picture"),
        inspection(os.fsdecode(b"caf\xe9.png")),
    ]
    for one in found:
        for path in (one.image, one.map, one.mask, one.overlay):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("x")
    return found


def images(found: list[Inspection]) -> list[Path]:
    return [one.image for one in found]


def written(path: Path, found: list[Inspection]) -> Path:
    with Journal(path, HEADER, images(found)) as journal:
        assert len(journal) == 0
        for one in found:
            journal.add(one, stamp(one.image))
        assert list(journal) == found
    return path


def kept(path: Path, found: list[Inspection], header: dict = HEADER) -> int:
    with Journal(path, header, images(found)) as journal:
        assert list(journal) == found[: len(journal)]
        return len(journal)


def test_what_is_finished_comes_back_as_it_was(tmp_path: Path, finished: list[Inspection]) -> None:
    path = written(tmp_path / "j.jsonl", finished)
    with Journal(path, HEADER, images(finished)) as journal:
        assert list(journal) == finished
        assert (journal[-1], journal[1:]) == (finished[2], finished[1:])


def test_a_torn_line_is_dropped_wherever_it_ends(tmp_path: Path, finished: list[Inspection]) -> None:
    whole = written(tmp_path / "whole.jsonl", finished).read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    path = tmp_path / "j.jsonl"
    for length in [*range(0, len(whole), 37), *ends, *(end - 1 for end in ends)]:
        path.write_bytes(whole[:length])
        n = kept(path, finished)
        assert n == max(sum(end <= length for end in ends) - 1, 0)
        with Journal(path, HEADER, images(finished)) as journal:  # and it can be continued
            for one in finished[n:]:
                journal.add(one, stamp(one.image))
        assert path.read_bytes() == whole


def test_a_whole_journal_is_reopened_or_refused_as_it_is(tmp_path: Path, finished: list[Inspection]) -> None:
    """Nothing of it is inspected again: no line may be lost but one that a kill left without its end."""
    path = written(tmp_path / "j.jsonl", finished)
    content = path.read_bytes()
    with Journal.reopen(path) as journal:
        assert list(journal) == finished and journal.header == {
            "calibration": {**HEADER["calibration"], "interval": [0, 1]}
        }
    lines = content.splitlines(keepends=True)
    spaced = lines[0].replace(b": ", b":  ")  # the same header, written otherwise
    for number, damaged in enumerate([spaced, *(line.replace(b'"seconds"', b'"secondz"') for line in lines[1:])]):
        path.write_bytes(b"".join([*lines[:number], damaged, *lines[number + 1 :]]))
        before = path.read_bytes()
        with pytest.raises(InspectGanError, match=rf"j\.jsonl is damaged in line {number + 1}: restore"):
            Journal.reopen(path)
        assert path.read_bytes() == before
    path.write_bytes(content[:-5])
    with Journal.reopen(path) as journal:
        assert list(journal) == finished[:2]


def test_only_what_is_still_true_counts(tmp_path: Path, finished: list[Inspection]) -> None:
    path = written(tmp_path / "j.jsonl", finished)
    content = path.read_bytes()

    def counted(change: Callable[[], object]) -> int:
        path.write_bytes(content)
        change()
        return kept(path, finished)

    assert finished[2].map is not None
    assert counted(lambda: finished[1].image.write_text("mended")) == 1
    assert counted(finished[2].map.unlink) == 1  # the second image is still another one
    path.write_bytes(content)
    assert kept(path, finished[2:]) == 0
    path.write_bytes(content)
    assert kept(path, finished, {"calibration": {"threshold": 0.4}}) == 0


def test_an_image_that_was_missing_and_came_is_inspected(tmp_path: Path) -> None:
    found = [Inspection(image=tmp_path / "late.png", seconds=0.0, error="no such file")]
    path = written(tmp_path / "j.jsonl", found)
    assert kept(path, found) == 1
    found[0].image.write_text("x")
    assert kept(path, found) == 0
