"""Locks: one holder, whatever becomes of it."""

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inspect_gan import locks
from inspect_gan.errors import InspectGanError
from inspect_gan.locks import locked


def test_a_lock_is_held_by_one_and_ends_with_it(tmp_path: Path) -> None:
    lock, refused = tmp_path / "lock", pytest.raises(InspectGanError, match="taken")
    with locked(lock, "taken"), refused, locked(lock, "taken"):
        pass
    with locked(tmp_path / "lock", "taken"):
        pass


def test_a_lock_ends_with_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    code = f"""
import pathlib, time
from inspect_gan.locks import locked
with locked(pathlib.Path({str(path)!r}), "taken"):
    print("held", flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(InspectGanError, match="taken"), locked(path, "taken"):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with locked(path, "taken"):
        pass


def test_a_file_system_without_locks_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks, "lock", unsupported)
    with caplog.at_level(logging.WARNING), locked(tmp_path / "lock", "taken"):
        pass
    assert "cannot be locked" in caplog.text


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InspectGanError, match="file: cannot be written"), locked(tmp_path / "file" / "lock"):
        pass
