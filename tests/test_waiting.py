"""A file that does not come is named."""

import logging
import os
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspect_gan import waiting
from inspect_gan.base_inspector import to_image
from inspect_gan.waiting import patience


def test_a_stalled_file_is_named_until_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waiting, "PATIENCE_SECONDS", 0.02)
    monkeypatch.setattr("inspect_gan.base_inspector.read", lambda path, page, info_bar: Path(path).read_bytes())
    pipe = tmp_path / "slow.png"
    os.mkfifo(pipe)

    def answer() -> None:
        while len(caplog.records) < 2:
            time.sleep(0.01)
        pipe.write_bytes(b"here")

    threading.Thread(target=answer, daemon=True).start()
    with caplog.at_level(logging.WARNING):
        assert to_image(pipe) == b"here"  # type: ignore[comparison-overlap]
    assert "still waiting for" in caplog.messages[0] and "slow.png" in caplog.messages[0]


def test_nothing_is_said_of_what_comes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 5), np.uint8))
    before = threading.active_count()
    assert to_image(tmp_path / "a.png").pixels.shape == (4, 5, 1)
    with pytest.raises(ZeroDivisionError), patience("x"):
        _ = 1 / 0
    assert (threading.active_count(), caplog.text) == (before, "")
