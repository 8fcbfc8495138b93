"""Files that somebody broke or prepared. INSPECT_GAN_FUZZ=N tries N damaged copies of each kind of file instead of the
few of a normal run."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from inspect_gan.config import load_config
from inspect_gan.errors import InspectGanError
from inspect_gan.inspector import Inspector

TRIES = int(os.environ.get("INSPECT_GAN_FUZZ", "0"))

Check = Callable[[bytes], None]


def tries(few: int) -> settings:
    """How many examples: `few`, unless more are asked for."""
    return settings(
        max_examples=TRIES or few,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@st.composite
def damaged(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """One of the originals with a few bytes changed, removed, repeated, or all cut off behind some place; early ones,
    where headers are, more often."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        last = draw(st.sampled_from([min(60, len(data)), len(data)])) - 1
        at = draw(st.integers(0, last))
        match draw(st.integers(0, 4)):
            case 0:
                data[at] = draw(st.integers(0, 255))
            case 1:
                del data[at : at + draw(st.integers(1, 40))]
            case 2:
                number = draw(st.sampled_from([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1]))
                data[at : at + 4] = number.to_bytes(4, draw(st.sampled_from(["little", "big"])))
            case 3:
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
            case _:
                del data[at:]
    return bytes(data)


def refused(read: Callable[[], object], path: Path | None = None) -> str | None:
    """The one line with which `read` is refused, naming the file; None when it is not. Anything but an InspectGanError
    passes through and fails the test."""
    try:
        read()
    except InspectGanError as error:
        assert "\n" not in str(error)
        assert path is None or path.name in str(error)
        return str(error)
    return None


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory. Never written to: see `run`."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (96, 160), dtype=np.uint8) for _ in range(2)]
    tiny = ("detector.width=2", "detector.nz=4", "training.batch_size=4", "scoring.target_fpr=0.2", "scoring.stride=16")
    out = tmp_path_factory.mktemp("runs") / "run"
    Inspector.fit(images, load_config("ganomaly", [*tiny, "scoring.score=enc_mse"]), steps=30, out=out)
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of a run directory to damage."""
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    yield copy
