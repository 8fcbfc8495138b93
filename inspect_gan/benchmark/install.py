"""The peer, in a virtual environment of its own: its packages must not meet ours."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from inspect_gan.benchmark.plan import PEER_VERSION
from inspect_gan.errors import InspectGanError


def peer_folder() -> Path:
    """In the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "inspect-gan" / f"anomalib-{PEER_VERSION}"


def install_peer(said: Callable[[str], None]) -> Path:
    """The peer's Python, installed on first use. Raises InspectGanError when that fails."""
    folder = peer_folder()
    python, ready = folder / "bin" / "python", folder / ".ready"
    if ready.is_file():
        return python
    said(f"installing anomalib {PEER_VERSION} into {folder}: some gigabytes, once")
    # On the same torch: what is compared is how it is used.
    wanted, torch = f"anomalib=={PEER_VERSION}", f"torch=={version('torch').partition('+')[0]}"
    try:
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted, torch],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said_last = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        raise InspectGanError(
            f"{wanted} cannot be installed into {folder} ({said_last}): name a Python that has it with --peer-python, "
            f"or measure without a peer, --peer none"
        ) from error
    ready.touch()
    return python
