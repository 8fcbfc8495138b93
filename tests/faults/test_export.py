"""Export: the file is there whole or not at all."""

from pathlib import Path

import pytest

from .conftest import Undisturbed
from .harness import POINTS, Server, points, unfinished


@pytest.mark.skipif(not POINTS, reason="tracing takes long: set INSPECT_GAN_FAULTS to the number of points to try")
def test_killed_at_file_operations(server: Server, undisturbed: Undisturbed, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    whole = tmp_path / "whole.onnx"
    for _ in range(2):  # the first one may fill caches, too
        first = server("export", undisturbed.run, "--out", whole)
        assert first["code"] == 0, first
    for at in points(first["operations"], few=1):
        out = tmp_path / f"{at}.onnx"
        assert server("export", undisturbed.run, "--out", out, at=at, kind="kill")["code"] == -9, at
        assert not out.exists(), at
        assert server("export", undisturbed.run, "--out", out)["code"] == 0, at
        assert out.read_bytes() == whole.read_bytes(), at
        assert not unfinished(tmp_path), at
