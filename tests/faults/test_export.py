"""Export: the file is there whole or not at all."""

from pathlib import Path

import pytest

from .conftest import Undisturbed
from .harness import POINTS, Server, points, unfinished


def test_killed_at_file_operations(server: Server, undisturbed: Undisturbed, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    whole = tmp_path / "whole.onnx"
    first = server("export", undisturbed.run, "--out", whole)
    assert first["code"] == 0, first
    # The last three are the write, the sync and the rename of the file itself.
    last = first["operations"]
    for at in points(last, few=1) if POINTS else [last]:
        out = tmp_path / f"{at}.onnx"
        assert server("export", undisturbed.run, "--out", out, at=at, kind="kill")["code"] == -9, at
        assert not out.exists(), at
        assert server("export", undisturbed.run, "--out", out)["code"] == 0, at
        assert out.read_bytes() == whole.read_bytes(), at
        assert not unfinished(tmp_path), at
