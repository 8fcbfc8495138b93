"""What the tests of faults share: a server of dying processes, tiny data, what a run and a result folder must hold."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

# How many points are tried of each kind: a few unless set, hundreds for a campaign.
POINTS = int(os.environ.get("INSPECT_GAN_FAULTS", "0"))
SERVER = Path(__file__).with_name("server.py")
APART = ("results.json", ".lock", "finished.jsonl", "watched.jsonl")  # not the same bytes: they tell the time spent
SETTINGS = (
    *("detector.width=4", "detector.nz=4", "training.batch_size=4", "training.log_every=2", "training.image_every=3"),
    *("training.checkpoint_minutes=1e-6", "training.precision=32-true", "scoring.precision=32-true"),
    *("scoring.target_fpr=0.2", "data.holdout_fraction=0.4"),
)


class Server:
    """Runs commands in processes that can be killed; see server.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def __call__(self, *arguments: object, **options: Any) -> dict[str, Any]:
        """options: kill_after, at, kind, python, cell."""
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"arguments": [str(argument) for argument in arguments], **options}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()


def points(last: int, few: int) -> list[int]:
    """Numbers of operations to fail at, of 1..last: evenly spread, all of them if there are no more than asked for."""
    wanted = min(POINTS or few, last)
    return sorted({round(at) for at in np.linspace(1, last, wanted)})


def draw(folder: Path) -> Path:
    """train/ with good images, test/ with others, one of them no image."""
    rng = np.random.default_rng(0)
    for name in ("train/0", "train/1", "test/0", "test/1", "test/2", "test/3"):
        noise = cv2.GaussianBlur(rng.random((96, 96), dtype=np.float32), (0, 0), 2)
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.uint8(255 * (noise - noise.min()) / np.ptp(noise)))
    (folder / "test" / "broken.png").write_text("no image")
    return folder


def train(data: Path, out: Path, steps: int = 6, detector: str = "ganomaly") -> list[object]:
    return ["train", "--data", data / "train", "--out", out, "--steps", steps, "--config", detector, *SETTINGS]


def defect_map(data: Path, run: Path, out: Path) -> list[object]:
    """At a stride the run is not calibrated for, so that the calibration can be killed, too."""
    return ["defect_map", run, data / "test", "--out", out, "--stride", 8]


def again(command: list[object], out: Path) -> list[object]:
    """What a person types after a crash."""
    return [*command, "--resume"] if (out / "config.yaml").is_file() else command


def run_content(out: Path) -> dict[str, Any]:
    """All that a finished training must hold, and nothing that depends on time."""
    lines = [json.loads(line) for line in (out / "stats.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"], line["total_seconds"]
    names = ("weights.safetensors", "calibration.json", "health.json", "held_out.npz", "config.yaml")
    return {"stats": lines, **{name: (out / name).read_bytes() for name in names}}


def result_content(out: Path) -> dict[str, Any]:
    """All that a finished inspection must hold."""
    document = json.loads((out / "results.json").read_text())
    for image in document["images"]:
        del image["seconds"]
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name not in APART)
    return {"document": document, **{str(path.relative_to(out)): path.read_bytes() for path in files}}


def unfinished(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.tmp"))
