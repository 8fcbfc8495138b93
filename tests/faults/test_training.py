"""Training: killed at any moment, or on a disk that fails, it ends in the run it would have been."""

import random
from pathlib import Path

import pytest

from .conftest import Undisturbed
from .harness import POINTS, Server, again, points, run_content, train, unfinished


def finish(server: Server, undisturbed: Undisturbed, out: Path, what: object) -> None:
    """Start again; the run then equals the undisturbed one byte for byte."""
    answer = server(*again(train(undisturbed.data, out), out))
    assert answer["code"] == 0, (what, answer)
    content = run_content(out)
    assert [name for name in content if content[name] != undisturbed.run_content[name]] == [], what
    assert not unfinished(out), what


def test_killed_at_file_operations(server: Server, undisturbed: Undisturbed, tmp_path: Path) -> None:
    for at in points(undisturbed.run_operations, few=6):
        out = tmp_path / str(at) / "run"
        # How many operations there are differs by the writes of TensorBoard's thread.
        assert server(*train(undisturbed.data, out), at=at, kind="kill")["code"] in (-9, 0), at
        finish(server, undisturbed, out, at)


def test_killed_several_times_at_random_moments(server: Server, undisturbed: Undisturbed, tmp_path: Path) -> None:
    rng = random.Random(0)
    for number in range(POINTS or 2):
        out = tmp_path / str(number) / "run"
        for _ in range(3):
            after = rng.uniform(0, undisturbed.run_seconds)
            server(*again(train(undisturbed.data, out), out), kill_after=after)
        finish(server, undisturbed, out, number)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_a_failing_disk_is_one_sentence(error: str, server: Server, undisturbed: Undisturbed, tmp_path: Path) -> None:
    for at in points(undisturbed.run_operations - 5, few=2):
        out = tmp_path / str(at) / "run"
        answer = server(*train(undisturbed.data, out), at=at, kind=error)
        assert answer["code"] == 2, (at, answer)
        assert answer["output"].splitlines()[-1].startswith("error: "), (at, answer)
        assert "Traceback" not in answer["output"], (at, answer)
        if error == "ENOSPC":  # on the others nothing can be deleted either
            assert not unfinished(out), at
        finish(server, undisturbed, out, (error, at))


def test_files_cannot_grow(server: Server, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """The limit of the operating system, which knows nothing of this harness."""
    out = tmp_path / "run"
    answer = server(*train(undisturbed.data, out), file_size=100_000)
    assert answer["code"] == 2
    assert "state.pt: cannot be written (File too large)" in answer["output"]
    assert not unfinished(out)
    finish(server, undisturbed, out, "limit")
