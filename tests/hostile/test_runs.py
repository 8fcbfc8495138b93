"""Run directories of strangers: nothing in them is executed, and what was changed in them is found or harmless."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from inspect_gan.config import load_config
from inspect_gan.inspector import Inspector
from inspect_gan.run import HEADER, load_held_out, load_record, load_weights
from inspect_gan.scoring.calibration import CalibrationFile
from inspect_gan.training import checkpoint
from inspect_gan.training.checkpoint import load_state
from inspect_gan.training.loop import Trainer
from inspect_gan.training.monitor import Monitor
from tests.hostile.conftest import damaged, refused, tries

CPU = torch.device("cpu")


class Malicious:
    """Unpickling it runs a command."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.mkdir, (str(self.proof),)


def read_all(run: Path) -> dict[str, Callable[[], object]]:
    """How each file of a run is read."""
    digest = load_weights(run / "weights.safetensors").digest
    fingerprint = torch.load(run / "state.pt", weights_only=True)["fingerprint"]
    return {
        "weights.safetensors": lambda: load_weights(run / "weights.safetensors"),
        "held_out.npz": lambda: load_held_out(run / "held_out.npz"),
        "config.yaml": lambda: load_record(run / "config.yaml"),
        "calibration.json": lambda: CalibrationFile(run / "calibration.json", digest),
        "state.pt": lambda: load_state(run / "state.pt", fingerprint, CPU),
    }


@pytest.mark.parametrize("name", ["weights.safetensors", "held_out.npz", "config.yaml", "calibration.json", "state.pt"])
def test_damaged_files_are_read_or_refused(run: Path, name: str) -> None:
    Inspector.load(run).calibration()
    original, read = (run / name).read_bytes(), read_all(run)[name]

    @tries(30)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        (run / name).write_bytes(data.draw(damaged([original])))
        said = refused(read)
        if name == "weights.safetensors" and (run / name).read_bytes() != original:
            assert said is not None, "a changed weight is found by the digest"

    attempt()


@pytest.mark.parametrize("file", ["weights.safetensors", "state.pt", "held_out.npz"])
def test_a_malicious_pickle_is_refused_and_not_run(run: Path, tmp_path: Path, file: str) -> None:
    proof = tmp_path / "proof"
    read = read_all(run)[file]
    stored, archive = io.BytesIO(), io.BytesIO()
    torch.save({"fingerprint": Malicious(proof)}, stored)
    np.savez(archive, np.array([Malicious(proof)], dtype=object))
    for data in (pickle.dumps(Malicious(proof)), stored.getvalue(), archive.getvalue()):
        (run / file).write_bytes(data)
        assert refused(read, run / file) is not None
    assert not proof.exists()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(io.BytesIO(pickle.dumps(Malicious(proof))), weights_only=True)


def test_checkpoints_are_not_read_by_a_pytorch_that_reads_them_unsafely(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.9.1"))
    read = lambda: load_state(run / "state.pt", "any", CPU)  # noqa: E731
    assert "with PyTorch 2.9.1: install 2.10" in str(refused(read, run / "state.pt"))
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion(f"{checkpoint.SAFE_TORCH}.0"))
    assert "other training images" in str(refused(read, run / "state.pt"))


def test_a_checkpoint_with_text_that_is_none_is_refused(run: Path) -> None:
    """The text is broken within the archive, whose checksums PyTorch does not look at."""
    path = run / "state.pt"
    data = path.read_bytes()
    at = data.index(b"fingerprint")
    path.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    assert "damaged" in str(refused(lambda: load_state(path, "any", CPU), path))


def split(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and tensors of a safetensors file."""
    data = path.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:end]), data[end:]


def join(header: str, tensors: bytes, length: int | None = None) -> bytes:
    text = header.encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + tensors


def test_headers_of_weights_that_lie_are_refused(run: Path) -> None:
    path = run / "weights.safetensors"
    header, tensors = split(path)
    first, second = [name for name in header if name != "__metadata__"][:2]

    def changed(name: str, **values: object) -> str:
        return json.dumps({**header, name: {**header[name], **values}})

    for data in (
        b"",
        join("{}", b"", length=2**63),
        join("{}", b"", length=2**40),
        join(json.dumps(header), tensors[:-10]),
        join(json.dumps(header), tensors + b"more"),
        join("[" * 100_000, b""),
        join(json.dumps(header).replace("{", '{"a": 1, "a": 2, ', 1), tensors),
        join(changed(first, data_offsets=header[second]["data_offsets"]), tensors),
        join(changed(first, data_offsets=[0, 2**62]), tensors),
        join(changed(first, data_offsets=[-8, 0]), tensors),
        join(changed(first, dtype="F64" if header[first]["dtype"] == "I64" else "I32"), tensors),
        join(changed(first, shape=[2**60, 2**60]), tensors),
        join(changed("__metadata__", **{HEADER: "[" * 100_000}), tensors),
        join(changed("__metadata__", **{HEADER: "[]"}), tensors),
        join(changed("__metadata__", **{HEADER: '{"format": NaN}'}), tensors),
        join(json.dumps({**header, "__metadata__": {HEADER: 1}}), tensors),
    ):
        path.write_bytes(data)
        assert refused(lambda: load_weights(path), path) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"config": None},
        {"config": 3},
        {"digest": "0" * 64},
        {"detector": {"nz": 65_536}},
        {"detector": {"nz": 10**20}},
        {"detector": {"name": "fanogan"}},
        {"detector": {"name": "\x1b[31m"}},
        {"patches": {"size": 64}},
        {"preprocess": {"size": 64}},
        {"preprocess": {"size": 0}},
        {"preprocess": {"scale": 1e6}},
        {"preprocess": {"low": 0.5, "high": 0.5}},
        {"preprocess": {"channels": 3}},
        {"preprocess": {"bit_depth": 7}},
    ],
    ids=str,
)
def test_weights_of_another_detector_than_their_header_says_are_refused_without_the_memory(
    run: Path, change: dict[str, Any]
) -> None:
    path = run / "weights.safetensors"
    header, tensors = split(path)
    about = json.loads(header["__metadata__"][HEADER])
    for room, values in change.items():
        part = about if room in about else about["config"]
        part[room] = {**part[room], **values} if isinstance(values, dict) else values
    header["__metadata__"][HEADER] = json.dumps(about)
    path.write_bytes(join(json.dumps(header), tensors))
    assert refused(lambda: load_weights(path), path) is not None


WRONG = [float("nan"), float("inf"), -1, "a", None, [], {}]


def test_calibrations_with_impossible_values_are_refused(run: Path) -> None:
    """An infinite threshold would call every image OK."""
    path = run / "calibration.json"
    inspector = Inspector.load(run)
    inspector.calibration()
    document = json.loads(path.read_text())
    (entry,) = document["calibrations"]
    texts = [
        json.dumps({**document, "calibrations": [{**entry, key: value}]})
        for key in entry
        for value in WRONG
        # Scores may lie below zero; earlier versions did not measure moved thresholds.
        if not (key == "origin" and value == -1)
        and not (key == "score" and value == "a")
        and (key, value) != ("moved", [])
    ]
    texts += ["", "[]", "3", "[" * 100_000, '{"weights": 3}', json.dumps({**document, "calibrations": [3]})]
    texts.append(json.dumps({**document, "calibrations": [{**entry, "threshold": entry["origin"]}]}))
    texts.append(json.dumps({**document, "calibrations": [{**entry, "more": 1}]}))
    for text in texts:
        path.write_text(text)
        said = refused(lambda: CalibrationFile(path, document["weights"]), path)
        assert text == '{"weights": 3}' or said is not None, text


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


def test_held_out_regions_that_lie_are_refused(run: Path) -> None:
    path = run / "held_out.npz"

    def archive(**entries: bytes) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
            for name, data in entries.items():
                target.writestr(name, data)
        return file.getvalue()

    def arrays(*given: np.ndarray) -> bytes:
        file = io.BytesIO()
        np.savez_compressed(file, *given)
        return file.getvalue()

    huge = "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000, 1), }"
    for data in (
        b"",
        path.read_bytes()[:500],
        arrays(),
        arrays(np.zeros((9, 9), np.uint8)),
        arrays(np.zeros((9, 9, 5), np.uint8)),
        arrays(np.zeros((0, 9, 1), np.uint8)),
        arrays(np.zeros((9, 9, 1), np.int64)),
        arrays(np.full((9, 9, 1), np.nan, np.float32)),
        arrays(np.full((9, 9, 1), 7, np.float32)),
        archive(array=npy(huge)),
        archive(array=npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 9, 1), }")),
        archive(array=npy("__import__('os').system('x')")),
        archive(array=npy("{'descr': '|u1', 'shape': (9, 9, 1")),
        archive(array=b"\x93NUMPY\7\0" + bytes(120)),
        archive(text=b"hello"),
    ):
        path.write_bytes(data)
        assert refused(lambda: load_held_out(path), path) is not None


def test_records_that_lie_are_refused(run: Path) -> None:
    path = run / "config.yaml"
    values = yaml.safe_load(path.read_text())
    versions, data = values["record"]["versions"], values["record"]["data"]
    texts = ["", "[1]", "seed: " + "9" * 5000, "record: !!python/object/apply:os.system [x]"]
    for record in (
        None,
        "a",
        {},
        {"versions": versions, "data": "abc"},
        {"versions": {}, "data": [{**data[0], "x": 1}]},
    ):
        texts.append(yaml.safe_dump({**values, "record": record}))
    texts.append(yaml.safe_dump({**values, "name": "../../elsewhere"}))
    for text in texts:
        path.write_text(text)
        assert refused(lambda: load_record(path), path) is not None, text


@pytest.mark.parametrize(
    "change",
    [
        {"position": "a"},
        {"position": {"stage": 99}},
        {"position": {"iteration": float("nan")}},
        {"position": {"draws": -1}},
        {"position": {"other": 1}},
        {"detector": {}},
        {"optimizers": {}},
        {"sums": 3},
        {"counts": {"a": "b"}},
        {"signs": 3},
        {"updates": {}},
        {"latest": None},
    ],
    ids=str,
)
def test_checkpoints_of_another_training_are_refused(run: Path, change: dict[str, Any]) -> None:
    path = run / "state.pt"
    state = torch.load(path, weights_only=True)
    for name, value in change.items():
        state[name] = {**state[name], **value} if name == "position" and isinstance(value, dict) else value
    torch.save(state, path)
    config = load_config(run / "config.yaml")
    trainer = Trainer(
        config.build(1),
        lambda number: torch.zeros(4, 1, 32, 32),
        config.training,
        config.seed,
        path,
        Monitor(run, Console(quiet=True)),
        state["fingerprint"],
    )
    assert refused(trainer.load, path) is not None


def test_a_pipe_in_place_of_the_losses_is_not_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stats.jsonl")
    monitor = Monitor(tmp_path, Console(quiet=True))
    assert refused(lambda: monitor.begin(0), tmp_path / "stats.jsonl") is not None


def test_a_whole_run_of_a_stranger_is_copied_and_read_only_from_its_folder(run: Path, tmp_path: Path) -> None:
    """A link in it that leads elsewhere is replaced, not followed, when something is written."""
    target = tmp_path / "precious.txt"
    target.write_text("mine")
    (run / "calibration.json").unlink(missing_ok=True)
    (run / "calibration.json").symlink_to(target)
    assert refused(lambda: Inspector.load(run), run / "calibration.json") is not None
    (run / "calibration.json").unlink()
    (run / "calibration.json").symlink_to(tmp_path / "nowhere")
    Inspector.load(run).calibration()
    assert target.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    shutil.rmtree(run)
