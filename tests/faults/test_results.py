"""Results that are judged anew, and a folder that is watched: killed at any moment, the same command ends right."""

import shutil
from collections.abc import Callable
from pathlib import Path

from .conftest import Undisturbed
from .harness import Server, points, result_content, unfinished


def survives(server: Server, command: list[object], out: Path, begin: Callable[[], object], few: int) -> None:
    """Killed at file operations and started again, it leaves what it leaves undisturbed."""
    begin()
    whole = server(*command)
    assert whole["code"] == 2, whole  # one of the images is broken
    content = result_content(out)
    killed = 0
    for at in points(whole["operations"], few):
        begin()
        # Later ones may need fewer operations: the threshold is known, and images come in fewer batches.
        killed += server(*command, at=at, kind="kill")["code"] == -9
        again = server(*command)
        assert "Traceback" not in again["output"], (at, again)
        found = result_content(out)
        assert found.keys() == content.keys(), at
        assert [name for name in found if found[name] != content[name]] == [], at
        assert not unfinished(out), at
    assert killed >= few - 2


def test_judged_anew(server: Server, undisturbed: Undisturbed) -> None:
    made, out = undisturbed.data.parent / "maps" / "out", undisturbed.data.parent / "anew" / "out"

    def begin() -> None:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out)

    command = ["defect_map", undisturbed.run, "--out", out, "--recalibrate", "--target-fpr", 0.3]
    survives(server, command, out, begin, few=6)


def test_watched(server: Server, undisturbed: Undisturbed) -> None:
    out = undisturbed.data.parent / "watched" / "out"
    options = ["--stride", 8, "--once", "--interval", 0.05]
    command = ["watch", undisturbed.run, undisturbed.data / "test", "--out", out, *options]
    survives(server, command, out, lambda: shutil.rmtree(out, ignore_errors=True), few=4)
    content = result_content(out)
    wanted = undisturbed.result_content
    assert [name for name in wanted if content[name] != wanted[name]] == []
