"""A browser for the pages that the product writes."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

# The networks under test are tiny, and test processes may share the machine.
torch.set_num_threads(1)

# The page lies in a frame as wide as asked: windows of a browser have a least width.
FRAME = """\
<!DOCTYPE html>
<iframe style="width: {width}px; height: 900px" src="{page}"></iframe>
<pre></pre>
<script>
const frame = document.querySelector("iframe");
frame.onload = async () => {{
  const look = async (window, document) => {{ {script} }};
  document.querySelector("pre").textContent = JSON.stringify(await look(frame.contentWindow, frame.contentDocument));
}};
</script>
"""


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., str]:
    """browse(page, script, width, *options): what Chromium prints that runs a script beside a page, with its `window`
    and `document`. Fails on anything that the browser writes to its console, such as an error or a file not found."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not installed")

    def browse(page: Path, script: str, width: int, *options: str) -> str:
        frame = tmp_path / "frame.html"
        frame.write_text(FRAME.format(width=width, page=page.absolute().as_uri(), script=script), encoding="utf-8")
        always = ("headless", "no-sandbox", "disable-gpu", "allow-file-access-from-files", "enable-logging=stderr")
        more = (f"user-data-dir={tmp_path / 'browser'}", "virtual-time-budget=5000", *options)
        command = (chromium, *(f"--{option}" for option in (*always, *more)), frame.as_uri())
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert [line for line in ended.stderr.splitlines() if "CONSOLE" in line] == []
        return ended.stdout

    return browse


@pytest.fixture
def look(browse: Callable[..., str]) -> Callable[..., Any]:
    """look(page, script, width=1200): what a script returns that runs beside a page in Chromium."""

    def look(page: Path, script: str, width: int = 1200) -> Any:
        printed = browse(page, script, width, "dump-dom")
        found = re.search("<pre>(.+)</pre>", printed)
        assert found is not None, printed
        return json.loads(html.unescape(found[1]))

    return look


@pytest.fixture
def shoot(browse: Callable[..., str], tmp_path: Path) -> Callable[..., np.ndarray]:
    """shoot(page, script, *options): how a page looks in Chromium, (900, 1200, 3) uint8 RGB, after a script has run."""

    def shoot(page: Path, script: str, *options: str) -> np.ndarray:
        picture = tmp_path / "picture.png"
        browse(page, script, 1200, f"screenshot={picture}", "window-size=1240,1100", "hide-scrollbars", *options)
        whole = cv2.imread(str(picture), cv2.IMREAD_COLOR_RGB)
        return whole[10:910, 10:1210]  # the frame, inside a margin of 8 px and a border of 2

    return shoot
