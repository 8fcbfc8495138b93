"""Checkpoints appear whole or not at all, whatever the disk says."""

from pathlib import Path

import pytest
import torch

from inspect_gan.errors import InspectGanError
from inspect_gan.training.checkpoint import load_state, save_state

CPU = torch.device("cpu")


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    state = {"fingerprint": "these images", "weights": torch.arange(5.0), "steps": {"gan": 3}}
    save_state(tmp_path / "state.pt", state)
    found = load_state(tmp_path / "state.pt", "these images", CPU)
    assert torch.equal(found.pop("weights"), state.pop("weights"))
    assert found == state


def test_a_full_disk_is_one_clear_error_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="the size of files can be limited on Unix only")
    path = tmp_path / "state.pt"
    save_state(path, {"fingerprint": "first"})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 1000, before[1]))
    try:
        with pytest.raises(InspectGanError, match=r"state\.pt: cannot be written .*; free some space"):
            save_state(path, {"fingerprint": "second", "weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]
    assert load_state(path, "first", CPU) == {"fingerprint": "first"}
